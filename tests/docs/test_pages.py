"""What the documentation says is done, as it says it."""

import json
import shutil

import nibabel
import numpy as np
import pytest
import torch
from monai.networks.nets import UNet
from pages import ROOT, Reader, broken_links

DOCS = ROOT / "docs"
PAGES = sorted(page.name for page in DOCS.glob("*.md"))
START = "quickstart.md"
MADE = {
    START: ["lesion/models/model.pt", "lesion/eval/dice.csv", "lesion.zip", "predictions/val_00_pred.nii.gz"],
    "bundles.md": ["lesion_v0.1.0.zip", "lesion.onnx", "lesion/models/model.ts", "here/val_01_pred.nii.gz"],
    "configs.md": ["lesion/models/model.pt"],
    "custom_modules.md": ["lesion/models/model.pt"],
    "from_ignite.md": ["lesion/models/model.pt", "lesion/lightning_logs/version_1/config.yaml"],
    "from_lighter.md": ["experiment/models/model.pt", "flowers/lightning_logs/version_1/config.yaml"],
    "from_lightning.md": ["lesion/models/model.pt"],
    "fine_tuning.md": ["organs/models/model.pt", "organs/eval/dice.csv", "organs.zip", "found/val_00_pred.nii.gz"],
    "inferers.md": ["lesion/volumes/test_00_pred.nii.gz", "hollow/eval/test_00_cam.nii.gz"],
    "metrics.md": ["lesion/eval/dice.csv"],
    "report.md": ["lesion/eval/report.html", "lesion/eval/report.json", "lesion/report.html", "comparison.html"],
    "recipes.md": [
        "lesion/folds/0/models/model.pt",
        "lesion/folds/1/models/model.pt",
        "lesion/two_inputs/models/model.pt",
    ],
    "studies.md": ["lesion/studies/folds/out_of_fold.csv", "lesion/studies/search/results.csv"],
    "new_bundle.md": ["liver/models/model.pt", "liver/eval/dice.csv"],
}
"""Files that following a page makes, or makes anew."""


@pytest.fixture
def reader(monkeypatch):
    return Reader(monkeypatch)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """The directory in which somebody has followed the quick start: every other page begins there."""
    directory = tmp_path_factory.mktemp("quickstart")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        Reader(patch).follow(DOCS / START)
    return directory


@pytest.mark.slow
def test_the_quick_start_leaves_what_it_promises(quickstart):
    assert [name for name in MADE[START] if not (quickstart / name).is_file()] == []


def keep_as_downloaded(bundle, name, folder):
    """A bundle that `load` need not download, of the version in its name, with weights of the spleen's network."""
    kept = shutil.copytree(bundle, folder / name)
    network = UNet(3, 1, 2, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2, norm="batch")
    torch.save(network.state_dict(), kept / "models" / "model.pt")
    metadata = json.loads((kept / "configs" / "metadata.json").read_text())
    metadata["version"] = name.rpartition("_v")[2]
    (kept / "configs" / "metadata.json").write_text(json.dumps(metadata))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page != START])
def test_a_page_can_be_followed(page, quickstart, tmp_path, monkeypatch, reader):
    work = shutil.copytree(quickstart, tmp_path / "work")
    for name in MADE.get(page, ()):
        if name.endswith((".pt", ".csv")):
            (work / name).unlink(missing_ok=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for folder in (tmp_path / "torch" / "hub" / "bundle", work):
        keep_as_downloaded(work / "lesion", "spleen_ct_segmentation_v0.5.9", folder)
    monkeypatch.chdir(work)
    reader.follow(DOCS / page)
    assert [name for name in MADE.get(page, ()) if not (work / name).is_file()] == []


@pytest.mark.slow
def test_the_config_of_the_readme_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for i in range(4):
        label = np.zeros((96, 96), np.uint8)
        label[i : i + 48, 16:64] = 1
        for name, image in (("image", label + random.random((96, 96))), ("label", label)):
            nibabel.save(nibabel.Nifti1Image(image.astype(np.float32), np.eye(4)), f"data/{name}_{i}.nii.gz")
    reader = Reader(monkeypatch, unnamed="configs/train.yaml")
    reader.follow(ROOT / "README.md")
    assert (tmp_path / "models" / "model.pt").is_file()
    assert (tmp_path / "configs" / "train.yaml").is_file()


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", *(f"docs/{page}" for page in PAGES)])
def test_links_lead_somewhere(page):
    assert broken_links(ROOT / page) == []


def test_the_index_has_each_page_once():
    index = (DOCS / "README.md").read_text()
    assert [page for page in PAGES if page != "README.md" and index.count(f"({page})") != 1] == []


WRONG = {
    "a command that fails": "    monai-lighter package nothing\n",
    "an exit code that is another": "    monai-lighter init new --dims 2  # exit code 1\n",
    "an output that is another": "    monai-lighter init new --dims 2\n    written by hand\n",
    "a config of no file": "```yaml\nnet: 1\n```\n",
    "a block that nothing runs": "```bash\nmonai-lighter init new\n```\n",
    "Python that raises": "```python\n1 / 0\n```\n",
    "a package that is not there": "    pip install monai_lighter[nothing]\n",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_a_page_is_found(text, tmp_path, monkeypatch, reader):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(f"# A page\n{text}")
    with pytest.raises(AssertionError, match=r"page\.md:2|page\.md:3"):
        reader.follow(tmp_path / "page.md")


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.md").write_text(
        "# One `b` page\n[1](#one-b-page) [2](#two) [3](b.md) [4](c.md#x) [5](https://monai.io)\n"
    )
    (tmp_path / "c.md").write_text("# X\n```yaml\n# Y\n```\n[6](a.md#one-b-page)\n")
    assert broken_links(tmp_path / "a.md") == ["#two", "b.md"]
    assert broken_links(tmp_path / "c.md") == []
