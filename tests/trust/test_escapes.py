"""What gets past other allow lists: it fires under MONAI, is refused by a declarative run, and shown as code by `inspect`."""

import re

import pytest
from escapes import ESCAPES, NEVER_LISTED, evaluate, write_config

from monai_lighter import ConfigError, Workflow
from monai_lighter.trust.configs import judge, tree_of
from monai_lighter.trust.report import inspect

UNABLE = {"setattr"}
"""Would change this process."""
LAZY = {"reader by name"}
"""Makes a process that is told nothing to run."""
IMPORTS = ["os", "glob", "torch.distributed as dist", "pandas as pd"]


def planted(name, tmp_path):
    make, id = ESCAPES[name]
    root = write_config(tmp_path / "bundle", make(tmp_path / "marker"))
    (root / "victim").write_text("x")
    return root, tmp_path / "marker", id


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ESCAPES if name not in UNABLE and ESCAPES[name][1]])
def test_the_planted_effect_is_real(name, tmp_path):
    root, marker, id = planted(name, tmp_path)
    value = evaluate(root, "i", "g", "h", id)
    for process in (value, *getattr(value, "readers", getattr(getattr(value, "_loader", None), "readers", ()))):
        if hasattr(process, "wait"):
            process.wait()
    assert marker.exists() or name in LAZY


@pytest.mark.parametrize("name", ESCAPES)
def test_a_declarative_run_names_the_line_and_runs_nothing(name, tmp_path):
    root, marker, id = planted(name, tmp_path)
    run = Workflow(str(root / "configs/inference.json"), run_id=id or "a", trust="declarative")
    with pytest.raises(ConfigError) as refused:
        run.initialize()
    assert not marker.exists()
    assert re.search(r"inference\.json:\d+ \S+: is code: ", str(refused.value)), str(refused.value)


@pytest.mark.parametrize("name", ESCAPES)
def test_inspect_shows_it_as_code(name, tmp_path):
    root, marker, _ = planted(name, tmp_path)
    found = inspect(root)
    assert not marker.exists()
    assert found.exit_code in (1, 2), str(found)
    assert found.code
    assert all(line.line is not None for line in found.code)


@pytest.mark.parametrize("item", NEVER_LISTED, ids=str)
def test_items_that_are_code(item):
    config = {"imports": [f"$import {name}" for name in IMPORTS] + ["$from pathlib import Path"], "item": item}
    assert [code for code in judge({"x": tree_of(config)}) if code.id.startswith("item")]
    del config["item"]
    assert not judge({"x": config})
