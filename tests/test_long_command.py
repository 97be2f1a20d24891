import json
import subprocess
import sys

import pytest
import yaml

from monai_lighter.long_command import find_traps

NATIVE = {
    "network": {"_target_": "UNet"},
    "system": {"model": "@network"},
    "trainer": {"max_epochs": 1},
    "run": "$@trainer.fit(@system)",
    "total": "$1 + 1",
}
ENGINES = {"trainer": {"_target_": "SupervisedTrainer"}, "run": ["$@trainer.run()"]}
WHOLE = {**NATIVE, "system": {"_target_": "monai_lighter.System"}, "trainer": {"_target_": "lightning.pytorch.Trainer"}}
OURS = "monai_lighter.Workflow"


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What is told of a line, in a directory with a native config, one that MONAI runs as it is, and one of engines."""
    monkeypatch.chdir(tmp_path)
    for name, config in (("native", NATIVE), ("whole", WHOLE), ("engines", ENGINES)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "native.json").write_text(json.dumps(NATIVE))

    def tell(*words):
        return [str(finding) for finding in find_traps(words)]

    return tell


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("run", "fit", "--config_file", "native.yaml"), "run ID 'fit' doesn't exist in the config"),
        (("run", "--config_file=native.json", "--run_id", "predict"), "run ID 'predict' doesn't exist"),
        (("run", "--config_file", "native.yaml"), "system and trainer without `_target_`"),
        (("run", "fit", "--config_file", "whole.yaml"), "or use: monai-lighter fit whole.yaml."),
        (
            ("run", "fit", "--config_file", "['engines.yaml','native.yaml']"),
            "monai-lighter fit engines.yaml native.yaml.",
        ),
        (("run", "fit", "--config_file", "native.yaml", "engines.yaml"), "run ID 'fit' doesn't exist"),
        (("run", "fit", "--workflow", "my.Workflow", "--config_file", "native.yaml"), "'my.Workflow' runs no native"),
        (("run_workflow", "--config_file", "native.yaml", "--run_id", "fit"), "Add --workflow monai_lighter.Workflow"),
    ],
)
def test_a_native_config_that_monai_alone_would_run(told, words, wanted):
    (message,) = told(*words)
    assert message.startswith("workflow: ")
    assert wanted in message


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--config_file", "engines.yaml"),
        ("run", "fit", "--config_file", "engines.yaml"),
        ("run", "--config_file", "whole.yaml"),
        ("run", "total", "--config_file", "native.yaml"),
        ("run", "other", "--other", "$1", "--config_file", "native.yaml"),
        ("run", "fit", "--config_file", "absent.yaml"),
        ("run", "fit", "--workflow_name", "my.Workflow", "--config_file", "native.yaml"),
        ("run", "fit", "--workflow_name", OURS, "--config_file", "native.yaml"),
        ("ckpt_export", "--config_file", "native.yaml"),
        ("run", "--workflow", "json.Workflow", "--config_file", "engines.yaml"),
        ("run", "--x", "-1", "--config_file", "engines.yaml", "--config_file", "whole.yaml"),
        (),
    ],
)
def test_what_monai_does_as_it_is_said(told, words):
    assert told(*words) == []


@pytest.mark.parametrize(
    "name",
    [
        "monai-lighter.Workflow",
        "monai_lighter.Workfow",
        "Monai_Lighter.workflow",
        "monai_lighter",
        "Workflow",
        "lighter.Workflow",
    ],
)
@pytest.mark.parametrize("flag", ["--workflow", "--workflow_name"])
def test_a_name_that_is_nearly_the_workflows(told, name, flag):
    expected = [f"workflow: there is no class {name!r}. Did you mean 'monai_lighter.Workflow'?"]
    assert told("run", flag, name, "--config_file", "engines.yaml") == expected


def test_configs_that_are_given_one_by_one(told):
    line = (
        "run",
        "fit",
        "--workflow_name",
        OURS,
        "--config_file",
        "a.yaml",
        "--lr",
        "1",
        "--config_file=b.yaml",
        "--lr=2",
    )
    expected = "config_file: is given 2 times, and the last would count. Write --config_file a.yaml,b.yaml."
    assert told(*line) == [expected]


def test_what_a_file_of_arguments_says(told, tmp_path):
    (tmp_path / "args.json").write_text(json.dumps({"config_file": "native.yaml", "run_id": "fit"}))
    assert told("run", "--args_file", "args.json", "--workflow_name", OURS) == []
    (message,) = told("run", "--args_file", "args.json")
    assert "run ID 'fit' doesn't exist" in message


@pytest.mark.slow
def test_nothing_heavy_is_imported_to_tell():
    code = "import sys, monai_lighter.long_command; print(sorted({'torch', 'monai', 'lightning', 'numpy'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
