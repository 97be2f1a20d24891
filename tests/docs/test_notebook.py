"""The notebook of the documentation runs, cell by cell."""

import json

import matplotlib
import matplotlib.pyplot as plt
import nibabel
import numpy as np
import pytest
from pages import ROOT

NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), path.name, "exec"), names)
    axes = plt.gcf().axes
    assert len(axes) == len(names["items"]) > 0
    for axis, item in zip(axes, names["items"], strict=True):
        image = np.asarray(nibabel.load(item["identifier"]).dataobj)
        np.testing.assert_allclose(axis.images[0].get_array(), image.squeeze().T)
    assert names["training"].trainer.current_epoch == 12
    plt.close("all")
