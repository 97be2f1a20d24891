"""A run and ``check`` say the same of a config, since both prepare it in one way."""

import os
import sys
from pathlib import Path

import pytest
from mistakes import FINE, MISTAKES, NOTES, write_spoiled

from monai_lighter import Workflow
from monai_lighter.config.files import config_files
from monai_lighter.config.stages import find_other_run_ids
from monai_lighter.errors import BundleError, ConfigError
from monai_lighter.workflow.check_config import Check, read_config
from monai_lighter.workflow.prepare import Asked

ZOO = Path(os.environ.get("MONAI_LIGHTER_ZOO", Path(__file__).parents[3] / "shared" / "zoo" / "models"))
"""Bundles of the Model Zoo, each with its ``configs``."""

RUN_ID = {"native": "fit", "zoo": "run"}


def of_check(file, run_id, **override):
    return {str(error) for error in Check(file, override, Asked(run_id=run_id)).errors}


def both(file, run_id, caplog, **override):
    """What `check` says, and what a run says before anything of the config is built: ``initialize`` has nothing in it.

    It ends a run of a native config; of one of engines it is logged, unless it is about keywords of Lightning or overrides.
    """
    found = of_check(file, run_id, **override)
    caplog.clear()
    try:
        workflow = Workflow(file, run_id=run_id, logging_file=False, **override)
        workflow.initialize()
    except ConfigError as error:
        return found, set(map(str, error.findings))
    except BundleError:  # MONAI's own reason, after what was said
        assert not workflow.native
    absent = set() if workflow.stage or workflow._absent is None else {str(workflow._absent)}
    if workflow.native:
        return found, absent
    said = {record.getMessage() for record in caplog.records if record.name == "monai_lighter.workflow.workflow"}
    return found, absent | (said & found)


@pytest.mark.parametrize(
    ("base", "id", "value"), [*((base, id, value) for base, id, value, *_ in (*MISTAKES, *NOTES)), *FINE]
)
def test_a_run_says_what_check_says(folder, caplog, base, id, value):
    if id == "imports::2":
        return  # an import statement that fails is evaluated by MONAI when it parses
    file = write_spoiled(folder, base, id, value)
    override = {} if str(id).startswith("initialize") else {"initialize": []}
    found, said = both(file, "training" if id == "training" else RUN_ID[base], caplog, **override)
    assert said == found


@pytest.mark.parametrize(
    "override", [{"system::optimizer::lrr": 1}, {"trainer::max_epochs": "%none"}, {"nowhere::x": 1}]
)
def test_overrides_are_judged_alike(folder, caplog, override):
    file = write_spoiled(folder, "native")
    found, said = both(file, "fit", caplog, **override)
    assert found
    assert said == found


def test_an_argument_that_an_older_monai_had(folder, caplog):
    (folder / "configs" / "metadata.json").write_text('{"version": "1", "monai_version": "1.0.0"}')
    file = write_spoiled(folder, "native", "network_def::img_size", 96)
    found, said = both(file, "fit", caplog)
    assert "The config is written for MONAI 1.0.0" in "".join(found)
    assert said == found


@pytest.mark.skipif(not ZOO.is_dir(), reason="no bundles of the Model Zoo at MONAI_LIGHTER_ZOO")
def test_nothing_keeps_a_bundle_of_the_zoo_from_running(monkeypatch, caplog):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    for configs in sorted(ZOO.glob("*/configs")):
        (train,) = configs.glob("train.*")
        for file in sorted(configs.glob("*.*")):
            if file.suffix == ".conf" or file.stem in ("metadata", "inference_trt"):  # which needs torch_tensorrt
                continue
            below = [train] if file.stem == "evaluate" else []
            if file.stem.startswith("multi_gpu_"):  # over the file that it is named after
                below = [train, file.with_name(file.name.removeprefix("multi_gpu_"))]
            files = ",".join(map(str, dict.fromkeys([*below, file])))
            parser = read_config(config_files(files))
            (run_id, *_) = ["run"] if "run" in parser else find_other_run_ids(parser.get(), ["initialize"]) or [None]
            if run_id is None:
                continue  # it is run by code that loads it
            imports = [text for text in parser.get("initialize", []) if text.startswith("$import ")]
            found, said = both(files, run_id, caplog, initialize=imports)
            assert (files, said) == (files, found)
            found = {text for text in found if "The config is written for MONAI" not in text}
            assert (files, found) == (files, set())
