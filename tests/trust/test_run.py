"""Trust kept by a run: what it refuses, before anything is imported or loaded, and what it does not."""

import importlib
import json
import marshal
import os
import pickle
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from escapes import touch, write, write_config
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems

from monai_lighter import ComponentError, ConfigError, Workflow, load_bundle
from monai_lighter.commands.check import check
from monai_lighter.share.exporting import export_bundle
from monai_lighter.trust import enforce
from monai_lighter.trust.digest import run_digest
from monai_lighter.trust.enforce import FORCE, VARIABLE, refuse_trust_of_file

NATIVE = {
    "imports": ["$import os", "$import glob"],
    "bundle_root": ".",
    "images": "$sorted(glob.glob(os.path.join(@bundle_root, 'none', '*.nii.gz')))",
    "network_def": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 1},
    "system": {
        "_target_": "monai_lighter.System",
        "model": "@network_def",
        "criterion": {"_target_": "torch.nn.MSELoss"},
        "optimizer": {"_target_": "torch.optim.SGD", "params": "$@network_def.parameters()", "lr": 0.1},
        "metrics": {"train": [{"_target_": "torchmetrics.MeanSquaredError"}]},
        "dataloaders": {
            "train": {
                "_target_": "DataLoader",
                "batch_size": 2,
                "dataset": "$torch.utils.data.TensorDataset(torch.rand(4, 2), torch.rand(4, 1))",
            }
        },
    },
    "trainer": {
        "_target_": "lightning.pytorch.Trainer",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    },
}
SCRIPTED = {"a": {"_target_": "scripts.net.made"}}


def refused(root, files="inference.json", id="a", trust="declarative", **override):
    """The message of a run that is refused."""
    with pytest.raises(ConfigError) as error:
        started([root / "configs" / name for name in files.split(",")], run_id=id, trust=trust, **override)
    return str(error.value)


def started(files, **arguments):
    run = Workflow([str(file) for file in files], **arguments)
    run.initialize()
    return run.run()


def scripted(root, marker, text="open({marker!r}, 'w').close()\ndef made(): return 1\n"):
    """A bundle whose config names a function of its own."""
    write_config(root, SCRIPTED)
    (root / "scripts").mkdir(exist_ok=True)
    (root / "scripts/net.py").write_text(text.format(marker=str(marker)))
    return f"sha256:{run_digest(root)}"


def ran(root, trust, **arguments):
    run = Workflow(
        str(root / "configs/inference.json"), run_id="b", trust=trust, b="$@a", logging_file=False, **arguments
    )
    run.initialize()
    return run.run()


@pytest.mark.slow
def test_a_declarative_bundle_trains(tmp_path):
    write_config(tmp_path, NATIVE, "configs/train.json")
    run = Workflow(str(tmp_path / "configs/train.json"), run_id="fit", trust="declarative")
    run.initialize()
    run.run()
    assert run.parser.get_parsed_content("trainer").current_epoch == 1
    assert os.environ[FORCE] == "1"


def test_all_is_the_default_and_runs_code(bundle, marker):
    scripted(bundle, marker)
    assert ran(bundle, None) == [1]
    assert marker.exists()


def test_code_of_its_own_is_refused_and_the_message_says_how_to_go_on(bundle, marker):
    digest = scripted(bundle, marker)
    message = refused(bundle)
    assert not marker.exists()
    assert "inference.json:3 a::_target_: is code: scripts.net.made." in message
    assert f"inspect {bundle}" in message
    assert f"--trust {digest}" in message


def test_the_digest_lets_code_run_that_was_read_and_no_other(bundle, marker):
    digest = scripted(bundle, marker)
    assert ran(bundle, digest) == [1]
    assert marker.exists()
    marker.unlink()
    (bundle / "scripts/net.py").write_text(f"open({str(marker)!r}, 'w')\ndef made(): return 2\n")
    assert f"not {digest}" in refused(bundle, trust=digest)
    assert not marker.exists()


def test_a_script_that_changes_between_the_judgement_and_its_import(bundle, marker):
    scripted(bundle, marker, "def made():\n    from scripts import late\n    return late\n")
    (bundle / "scripts/late.py").write_text("x = 1")
    run = Workflow(
        str(bundle / "configs/inference.json"), run_id="a", trust=f"sha256:{run_digest(bundle)}", logging_file=False
    )
    run.initialize()
    (bundle / "scripts/late.py").write_text(f"open({str(marker)!r}, 'w')")
    with pytest.raises(ComponentError, match="is not what the digest of --trust counts"):
        run.run()
    assert not marker.exists()


def test_a_bundle_that_changes_before_its_run_is_prepared(bundle, marker):
    digest = scripted(bundle, marker)
    run = Workflow(str(bundle / "configs/inference.json"), run_id="a", trust=digest, logging_file=False)
    (bundle / "scripts/more.py").write_text("x = 1")
    with pytest.raises(ConfigError, match="It is not what was read"):
        run.initialize()
    assert not marker.exists()


def test_a_module_that_an_earlier_run_imported_is_imported_anew(bundle, marker):
    scripted(bundle, marker, "def made(): return 1\n")
    assert ran(bundle, "all") == [1]
    digest = scripted(bundle, marker, "def made(): return 22\n")
    assert ran(bundle, digest) == [22]


def test_byte_code_that_the_digest_does_not_count_is_not_run(bundle, marker):
    evil = bundle.parent / "evil.py"
    evil.write_text(f"open({str(marker)!r}, 'w')\ndef made(): return 2\n")
    digest = scripted(bundle, marker, "def made(): return 1\n")
    cached = Path(importlib.util.cache_from_source(str(bundle / "scripts/net.py")))
    cached.parent.mkdir()
    code = importlib.machinery.SourceFileLoader("net", str(evil)).get_code("net")
    status = (bundle / "scripts/net.py").stat()
    head = importlib.util.MAGIC_NUMBER + bytes(4) + int(status.st_mtime).to_bytes(4, "little")
    cached.write_bytes(head + (status.st_size & 0xFFFFFFFF).to_bytes(4, "little") + marshal.dumps(code))
    assert ran(bundle, digest) == [1]
    assert not marker.exists()


def test_modules_beside_those_that_the_digest_counts_are_not_imported(bundle, marker):
    (bundle / "helper.py").write_text(f"open({str(marker)!r}, 'w')\n")
    digest = scripted(bundle, marker, "import helper\ndef made(): return 1\n")
    with pytest.raises(Exception, match="not what the digest of --trust counts"):
        ran(bundle, digest)
    assert not marker.exists()


def test_the_digest_counts_all_files_that_are_read_as_configs(bundle, tmp_path):
    write_config(bundle, {"net": 1}, "parts.json")
    write_config(bundle, {"a": f"%{bundle}/parts.json::net"})
    assert "and not" in refused(bundle, trust=f"sha256:{run_digest(bundle)}")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ConfigError, match="and not"):
        Workflow([str(bundle / "configs/inference.json"), str(tmp_path / "other.json")], trust="sha256:" + "0" * 64)
    write_config(bundle, {"system": {}, "project": "own"})
    assert "project" in refused(bundle, trust=f"sha256:{run_digest(bundle)}")


def test_overrides_are_judged(bundle, marker):
    write_config(bundle, {"a": {"_target_": "torch.nn.Identity"}})
    for override in (
        {"a::_target_": "os.system", "a::command": touch(marker)},
        {"a": f"$__import__('os').system({touch(marker)!r})"},
    ):
        message = refused(bundle, **override)
        assert "command line" in message
        assert not marker.exists()


def test_merged_files_are_judged_as_they_are_merged(bundle, marker):
    write_config(
        bundle, {"imports": ["$import glob"], "a": {"_target_": "torch.nn.Identity", "command": touch(marker)}}
    )
    write_config(bundle, {"+a": {"_target_": "os.system"}}, "configs/more.json")
    assert "more.json:3 a::_target_: is code: os.system" in refused(bundle, "inference.json,more.json")
    write_config(bundle, {"+imports": ["$import os as glob"], "b": "$glob.glob('x')"}, "configs/more.json")
    assert "$import os as glob" in refused(bundle, "inference.json,more.json")
    write_config(bundle, {"a::_target_": "os.system"}, "configs/more.json")
    assert "a::_target_: is code: os.system" in refused(bundle, "inference.json,more.json")
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        "base: &x {_target_: os.system, command: TOUCH}\na: {<<: *x}\n",
        "base: &x {_target_: os.system, command: TOUCH}\na: *x\n",
        "a: {_target_: torch.nn.Identity, _target_: os.system, command: TOUCH}\n",
        "a: !!python/object/apply:os.system [TOUCH]\n",
        "a: &x [*x, '$open(1)']\n",
    ],
)
def test_yaml(text, bundle, marker):
    (bundle / "configs/train.yaml").write_text(text.replace("TOUCH", json.dumps(touch(marker))))
    with pytest.raises((ConfigError, yaml.YAMLError, RecursionError)):
        started([bundle / "configs/train.yaml"], run_id="a", trust="declarative")
    assert not marker.exists()


def test_macros_are_judged_as_what_they_bring_in(bundle, marker, monkeypatch):
    monkeypatch.chdir(bundle)
    chain = {"x": "%third.json::x", "f": "os.system", "sub": {"f": "torch.nn.Identity", "a": {"_target_": "@##f"}}}
    write_config(bundle, chain, "second.json")
    write_config(bundle, {"x": {"_target_": "os.system", "command": touch(marker)}}, "third.json")
    for macro in ("%second.json::x", "%second.json::f"):
        write_config(bundle, {"a": {"_target_": macro} if macro.endswith("f") else macro})
        assert "is code: os.system" in refused(bundle)
    write_config(bundle, {"f": "os.system", "sub": "%second.json::sub", "a": "$@sub::a"})
    assert "sub::a::_target_: is code" in refused(bundle)
    assert not marker.exists()


def test_a_config_that_is_swapped_after_it_was_judged(bundle, marker):
    write_config(bundle, {"a": "$1 + 1"})
    run = Workflow(str(bundle / "configs/inference.json"), run_id="a", trust="declarative")
    run.initialize()
    write_config(bundle, {"a": f"${write(marker)}"})
    assert run.run() == [2]
    assert not marker.exists()


def test_what_is_set_after_the_judgement_is_judged_too(bundle, marker):
    write_config(bundle, NATIVE, "configs/train.json")
    run = Workflow(str(bundle / "configs/train.json"), run_id="fit", trust="declarative")
    run.initialize()
    run.bundle_root = f"${write(marker)}"
    with pytest.raises(ConfigError, match="bundle_root: is code"):
        run.initialize()
    assert not marker.exists()


@pytest.mark.parametrize("level", ["all", "declarative"])
def test_trust_is_no_item_of_a_config(level, bundle):
    write_config(bundle, {"a": "$1", "trust": "all"})
    assert "trust: must not stand in a config" in refused(bundle, trust=level)


def test_trust_is_not_given_by_a_file_of_arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", "--args_file", "args.json"])
    with pytest.raises(ConfigError, match="must be given on the command line"):
        refuse_trust_of_file("all")
    refuse_trust_of_file(None)
    monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", "--trust=all"])
    refuse_trust_of_file("all")


def test_the_environment_sets_the_default(bundle, marker, monkeypatch):
    scripted(bundle, marker)
    monkeypatch.setenv(VARIABLE, "declarative")
    assert "is code" in refused(bundle, trust=None)
    assert not marker.exists()
    assert ran(bundle, "all") == [1]


@pytest.mark.parametrize("given", ["none", "sha256:12", "Declarative", "sha256:" + "G" * 64])
def test_a_level_that_there_is_not(given, bundle):
    with pytest.raises(ConfigError, match="must be all, declarative or sha256:NUMBER"):
        Workflow(str(bundle / "configs/inference.json"), trust=given)


def test_nothing_of_a_declarative_bundle_is_imported(bundle, marker, monkeypatch):
    write_config(bundle, {"a": "$1"})
    for name in ("wave", "nntplib", "colorsys"):
        (bundle / f"{name}.py").write_text(f"open({str(marker)!r}, 'w')")
    monkeypatch.chdir(bundle)
    monkeypatch.syspath_prepend(str(bundle))
    sys.path.insert(0, "")
    sys.modules.pop("colorsys", None)
    assert ran(bundle, "declarative") == [1]
    assert "bundle" not in importlib.import_module("colorsys").__file__
    assert not marker.exists()


@pytest.mark.parametrize("name", ["glob", "pandas"])
def test_modules_in_the_way_of_others(name, bundle, marker):
    write_config(bundle, {"i": f"$import {name}", "a": "$1"})
    (bundle / f"{name}.py").write_text(f"open({str(marker)!r}, 'w')")
    assert f"is code: $import {name}" in refused(bundle)
    assert not marker.exists()


class Evil:
    """Fires when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.system, (touch(self.marker),)


def test_pickles_are_not_loaded(bundle, marker):
    torch.save({"x": Evil(marker)}, bundle / "models/model.pt")
    (bundle / "models/data.npy").write_bytes(pickle.dumps(Evil(marker)))
    for expression in (
        "$torch.load(@file)",
        "$monai.transforms.LoadImage(reader='NumpyReader')(@array)",
        "$np.load(@array)",
    ):
        write_config(
            bundle, {"file": str(bundle / "models/model.pt"), "array": str(bundle / "models/data.npy"), "a": expression}
        )
        with pytest.raises(Exception, match=r"(?i)weights.only|pickle|reader"):
            ran(bundle, "declarative")
    with pytest.raises(pickle.UnpicklingError):  # wherever the process loads weights, whoever asks for it
        torch.load(bundle / "models/model.pt", weights_only=False)
    assert not marker.exists()


LOGGING = """[loggers]
keys=root
[handlers]
keys=a
[formatters]
keys=
[logger_root]
level=INFO
handlers=a
[handler_a]
class={}
args={}
"""


def test_logging_settings_are_judged(bundle, marker):
    file = bundle / "configs/logging.conf"
    for kind, args in (("StreamHandler", f"(__import__('os').system({touch(marker)!r}),)"), ("evil.Handler", "()")):
        file.write_text(LOGGING.format(kind, args))
        assert "logging.conf: is code: [handler_a]" in refused(bundle)
    file.write_text(LOGGING.format("StreamHandler", "(sys.stdout,)"))
    Workflow(str(bundle / "configs/inference.json"), run_id="a", trust="declarative").initialize()
    assert not marker.exists()


def test_what_comes_as_a_zip_file_is_declarative_unless_it_is_said(tmp_path, marker, monkeypatch):
    root = tmp_path / "made"
    scripted(root, marker)
    write_config(root, {**SCRIPTED, "run": "$@a"})
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        for path in sorted(root.rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path))
    with pytest.raises(ConfigError, match=r"is code: scripts\.net\.made") as refused:
        load_bundle(tmp_path / "made.zip", bundle_dir=tmp_path / "cache")
    assert not marker.exists()
    digest = str(refused.value).rpartition("--trust ")[2].rstrip(".")
    assert digest == f"sha256:{run_digest(root)}"
    assert load_bundle(tmp_path / "made.zip", bundle_dir=tmp_path / "cache", trust=digest).run() == [1]
    assert marker.exists()
    kept = next((tmp_path / "cache").iterdir())
    with pytest.raises(ConfigError, match="is code"):
        load_bundle(kept, bundle_dir=tmp_path / "cache")
    assert load_bundle(root).run() == [1]
    monkeypatch.setenv(VARIABLE, "all")
    assert load_bundle(tmp_path / "made.zip", bundle_dir=tmp_path / "cache").run() == [1]


def test_a_client_of_federated_learning(bundle, marker):
    write_config(bundle, {**NATIVE, "evil": {"_target_": "scripts.net.made"}}, "configs/train.json")
    workflow = Workflow(str(bundle / "configs/train.json"), run_id="fit", workflow_type="train", trust="declarative")
    algo = MonaiAlgo(str(bundle), train_workflow=workflow)
    with pytest.raises(ConfigError, match="evil::_target_: is code"):
        algo.initialize({ExtraItems.CLIENT_NAME: "client", ExtraItems.APP_ROOT: ""})


@pytest.mark.slow
def test_the_command_in_the_bundles_own_directory(bundle, marker, monai_bundle):
    """Modules by the names of those that MONAI and this package import are not taken from the working directory."""
    write_config(bundle, {"a": "$1", "run": "$print('ran', @a)"})
    for name in ("ignite", "lightning", "torchmetrics", "tensorboard", "nibabel", "pandas", "yaml", "fire"):
        (bundle / f"{name}.py").write_text(f"open({str(marker)!r}, 'a').write(__name__)")
    words = (
        "run",
        "--workflow",
        "monai_lighter.Workflow",
        "--config_file",
        "configs/inference.json",
        "--trust",
        "declarative",
    )
    done = monai_bundle(*words, cwd=bundle, fresh=True, PYTHONPATH=str(Path(enforce.__file__).parents[2]))
    assert not marker.exists(), marker.read_text()
    assert "ran 1" in done.stdout, done.stderr


def test_check_imports_nothing_of_a_declarative_bundle(bundle, marker):
    scripted(bundle, marker)
    printed = check(str(bundle / "configs/inference.json"), run_id="a", trust="declarative")
    assert printed.exit_code == 2
    assert "inference.json:3: error: a::_target_: is code: scripts.net.made." in printed
    assert not marker.exists()
    check(str(bundle / "configs/inference.json"), run_id="a")
    assert marker.exists()


def test_export_builds_no_network_that_is_code(bundle, marker):
    scripted(bundle, marker)
    write_config(bundle, {"network_def": SCRIPTED["a"]})
    torch.save({"x": torch.zeros(1)}, bundle / "models/model.pt")
    with pytest.raises(ConfigError, match="network_def::_target_: is code"):
        export_bundle(bundle, input_shape=[1, 1, 8, 8], trust="declarative")
    assert not marker.exists()


def test_parts_of_packages_that_are_not_installed(bundle):
    config = {"i": ["$import torchvision", "$import skimage.measure as measure"], "a": "$[torchvision.io]"}
    write_config(bundle, config)
    assert "is code: $[torchvision.io]" in refused(bundle)


LIGHTER = {
    "model": {
        "_target_": "monai_lighter.LighterModule",
        "network": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 1},
    },
    "trainer": {"_target_": "lightning.pytorch.Trainer", "max_epochs": 1, "accelerator": "cpu", "logger": False},
    "a": 1,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": {"_target_": "torch.nn.Linear", "_args_": [1, 2]}}, "a::_args_: is code: _args_: [1, 2]"),
        ({"=model": {"_target_": "scripts.net.made"}}, "model::_target_: is code: scripts.net.made"),
        ({"=project": "scripts"}, "project: is code: project: scripts"),
    ],
)
def test_what_lighters_files_merge_to_is_judged(bundle, marker, change, message):
    scripted(bundle, marker)
    write_config(bundle, LIGHTER, "configs/base.json")
    write_config(bundle, change, "configs/more.json")
    assert message in refused(bundle, "base.json,more.json", "fit")
    assert not marker.exists()


def test_a_model_section_can_be_declarative(bundle):
    write_config(bundle, LIGHTER, "configs/base.json")
    run = Workflow(str(bundle / "configs/base.json"), run_id="fit", trust="declarative", logging_file=False)
    run.initialize()
    assert "lighter" not in sys.modules


def test_the_digest_counts_the_files_that_macros_of_macros_read(bundle, marker, tmp_path):
    digest = scripted(bundle, marker)
    (tmp_path / "outside.yaml").write_text("net: {_target_: scripts.net.made}\n")
    for base in (LIGHTER, SCRIPTED):
        write_config(bundle, {**base, "a": f"%{bundle}/configs/inner.json::b"}, "configs/base.json")
        write_config(bundle, {"b": {"c": f"%{tmp_path}/outside.yaml::net"}}, "configs/inner.json")
        digest = f"sha256:{run_digest(bundle)}"
        assert "and not " + str(tmp_path / "outside.yaml") in refused(bundle, "base.json", "a", trust=digest)
    assert not marker.exists()
