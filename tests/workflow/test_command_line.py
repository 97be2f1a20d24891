"""What people type, in processes of its own: command line in, files, message and exit code out."""

import json
import socket
import subprocess
import sys

import pytest
import torch
import yaml

pytestmark = pytest.mark.slow

FIT = ("run", "fit", "--config_file", "configs/train.yaml")
NAME = "monai_lighter.Workflow"


def files(root):
    return sorted(path for path in root.rglob("*") if "__pycache__" not in path.parts)


def test_fit_and_predict_from_another_directory(bundle, tmp_path, monai_bundle):
    arguments = ("run", "fit", "--workflow", NAME, "--config_file", "bundle/configs/train.yaml")
    fit = monai_bundle(*arguments, cwd=tmp_path, fresh=True)
    assert fit.returncode == 0, fit.stderr
    assert torch.load(bundle / "models" / "model.pt", weights_only=True)
    weights = (
        '{"_target_": "monai_lighter.load_weights", "model": "@network_def", "ckpt_path": "bundle/models/model.pt"}'
    )
    predict = monai_bundle(
        *("run", f"--workflow={NAME}", "--config_file", "bundle/configs/inference.yaml", "--workflow_type", "infer"),
        *("--system::model", weights),
        cwd=tmp_path,
    )
    assert predict.returncode == 0, predict.stderr
    assert sorted(path.name for path in (bundle / "eval").glob("*.nii.gz")) == [
        "image_4_trans.nii.gz",
        "image_5_trans.nii.gz",
    ]


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ((), (*FIT, "--workflow_name", NAME)),
        (("-um", "monai.bundle"), ("run_workflow", "--workflow", NAME, *FIT[2:], "--run_id", "fit")),
    ],
)
def test_other_ways_to_say_it(bundle, monai_bundle, line, arguments):
    done = monai_bundle(*arguments, line=line, cwd=bundle)
    assert done.returncode == 0, done.stderr
    assert (bundle / "models" / "model.pt").is_file()


def test_overrides_args_file_and_logging_file(bundle, extra, monai_bundle):
    (bundle / "configs" / "logging.conf").write_text(
        "[loggers]\nkeys=root\n[handlers]\nkeys=file\n[formatters]\nkeys=plain\n[logger_root]\nlevel=INFO\nhandlers=file\n"
        "[handler_file]\nclass=FileHandler\nargs=('run.log',)\nformatter=plain\n[formatter_plain]\nformat=%(message)s\n"
    )
    extra({"+augmentation": [], "trainer": {"max_steps": 1, "accelerator": "cpu", "logger": False}})
    arguments = {
        "config_file": "configs/train.yaml,configs/extra.yaml",
        "run_id": "fit",
        "workflow_name": NAME,
        "trainer::max_epochs": 1,
    }
    (bundle / "args.json").write_text(json.dumps(arguments))
    done = monai_bundle(
        *("run", "--args_file", "args.json", "--trainer::max_epochs", 7, "--system#optimizer#lr", 0.1),
        *("--trainer::limit_train_batches", 1, "--trainer::enable_checkpointing", False),
        cwd=bundle,
    )
    assert done.returncode == 0, done.stderr
    assert "max_steps = 1" in done.stdout
    assert not (bundle / "models").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run fit --config_file configs/train.yaml", "workflow: run ID 'fit' doesn't exist in the config, which has stages"),
        ("run fit --workflow monai-lighter.Workflow --config_file configs/train.yaml", "Did you mean 'monai_lighter.Workflow'?"),
        (f"run fit --workflow {NAME} --config_file configs/train.yaml configs/inference.yaml", "init_id: must be the id of"),
        (f"run train --workflow {NAME} --config_file configs/train.yaml", "doesn't exist in the config file. Did you mean 'fit'"),
        (f"run fit --workflow {NAME}", "config_file: must be a file or several, got none. Name one:"),
        (f"run fit --workflow {NAME} --config_file configs/train.yaml --learning_rat 3", "which nothing in the config refers to"),
        (f"run fit --workflow {NAME} --config_file configs/train.yaml --trainer.devices 1", "Did you mean 'trainer::devices'?"),
    ],
)  # fmt: skip
def test_traps_of_the_long_command(bundle, monai_bundle, line, message):
    before = files(bundle)
    done = monai_bundle(*line.split(), cwd=bundle)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert files(bundle) == before


def test_torchrun_trains_in_two_processes(bundle, python_module):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = python_module(
        *(
            "torch.distributed.run",
            "--nproc_per_node",
            2,
            "--master_port",
            port,
            "-m",
            "monai.bundle",
            *FIT,
            "--workflow",
            NAME,
        ),
        *("--trainer::devices", 2, "--trainer::strategy", "ddp", "--trainer::enable_progress_bar", False),
        cwd=bundle,
    )
    assert done.returncode == 0, done.stderr
    assert "MEMBER: 2/2" in done.stderr
    assert (bundle / "models" / "model.pt").is_file()


def test_lightnings_own_launcher_starts_the_second_process(bundle, monai_bundle):
    done = monai_bundle(*FIT, "--workflow", NAME, "--trainer::devices", 2, cwd=bundle)
    assert done.returncode == 0, done.stderr
    assert "MEMBER: 2/2" in done.stderr
    assert (bundle / "models" / "model.pt").is_file()


def test_with_autoload_off_a_native_bundle_does_not_run_on_ignite_unsaid(bundle, monai_bundle):
    off = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    done = monai_bundle(*FIT, "--workflow", NAME, cwd=bundle, fresh=True, **off)
    assert done.returncode != 0
    assert "run ID 'fit' doesn't exist" in done.stderr
    assert not (bundle / "models").exists()


def test_other_programs_are_not_touched(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("import sys, torch\nprint(sys.argv[1:], 'monai' in sys.modules, 'lightning' in sys.modules)\n")
    arguments = ["--workflow", NAME, "-m", "monai.bundle"]
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{arguments} False False"
    assert done.stderr == ""


def test_everything_that_is_wrong_is_told_at_once_and_nothing_is_touched(bundle, extra, monai_bundle):
    extra(
        {
            "system::criterion": {"_target_": "DiceLos"},
            "system::metrics": {"valid": []},
            "network_def::spatial_dim": 2,
            "trainer::max_epochs": "@epochs",
        }
    )
    before = files(bundle)
    done = monai_bundle(
        *("run", "fit", "--workflow", NAME, "--config_file", "configs/train.yaml,configs/extra.yaml"),
        *("--sistem::optimizer::lr", 1, "--system::optimizer::lrr", 2, "--args::fit::ckpt", "x"),
        cwd=bundle,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    expected = [
        "sistem::optimizer::lr: override whose parent 'sistem::optimizer' does not exist. "
        "Did you mean 'system::optimizer'?",
        "system::metrics::valid: unknown key 'valid'. Did you mean 'val'?",
        "args::fit::ckpt: unknown key 'ckpt'. Did you mean 'ckpt_path'?",
        "network_def::spatial_dim: UNet has no argument 'spatial_dim', got 2. Did you mean 'spatial_dims'?",
        "system::criterion::_target_: 'DiceLos' cannot be found. Did you mean 'DiceLoss'?",
        "system::optimizer::lrr: torch.optim.AdamW has no argument 'lrr', got 2. Did you mean 'lr'?",
        "trainer::max_epochs: refers to `@epochs`, which is not in the config, in '@epochs'. Did you mean 'max_epochs'?",
        "(MONAI_DEBUG=true shows the traceback)",
    ]
    assert done.stderr.strip().splitlines()[-8:] == expected
    assert files(bundle) == before


@pytest.mark.parametrize("debug", [False, True])
def test_a_broken_case_ends_with_its_name(bundle, monai_bundle, debug):
    (bundle / "data" / "image_2.nii.gz").write_bytes(b"broken")
    variables = {"MONAI_DEBUG": "true"} if debug else {}
    done = monai_bundle(
        *FIT,
        "--workflow",
        NAME,
        "--system::dataloaders::train::num_workers",
        0 if debug else 2,
        cwd=bundle,
        **variables,
    )
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) == debug
    assert "system::dataloaders::train: case image=" in done.stderr
    assert (
        "image_2.nii.gz failed: ImageFileError" in done.stderr or "label_2.nii.gz failed: ImageFileError" in done.stderr
    )


def test_a_config_file_that_is_not_there(bundle, monai_bundle):
    done = monai_bundle("run", "fit", "--workflow", NAME, "--config_file", "configs/other.yaml", cwd=bundle)
    assert done.returncode == 2
    message = "config_file: Cannot find the config file: configs/other.yaml. Mend the path."
    assert done.stderr.strip().splitlines()[-2:] == [message, "(MONAI_DEBUG=true shows the traceback)"]
    assert "Traceback" not in done.stderr


def test_a_config_with_a_run_expression_needs_no_flag(bundle, extra, monai_bundle):
    config = yaml.safe_load((bundle / "configs" / "train.yaml").read_text())
    config["system"]["_target_"] = "monai_lighter.System"
    config["trainer"]["_target_"] = "lightning.pytorch.Trainer"
    config["trainer"]["default_root_dir"] = "@bundle_root"
    config["run"] = "$@trainer.fit(@system)"
    extra(config, "whole.yaml")
    done = monai_bundle("run", "--config_file", "configs/whole.yaml", cwd=bundle)
    assert done.returncode == 0, done.stderr
    assert (bundle / "models" / "model.pt").is_file()
