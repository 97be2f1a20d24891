import copy
import sys
from pathlib import Path

import pytest
import yaml
from mistakes import BASES, FINE, MISTAKES, NOTES, write_spoiled
from monai.bundle.config_item import ComponentLocator

from monai_lighter.check.native_config import check_walk
from monai_lighter.check.walk import Walk
from monai_lighter.config.stages import add_defaults, pruned
from monai_lighter.errors import Note
from monai_lighter.share.create import TASKS, create_bundle
from monai_lighter.workflow.check_config import Check
from monai_lighter.workflow.prepare import Asked

ROOT = Path(__file__).parents[2]

GOOD = """
network_def: {_target_: UNet, spatial_dims: 2, in_channels: 1, out_channels: 2, channels: [4, 8], strides: [2]}
imports: ["$import glob", "$from pathlib import Path"]
data: "$[str(p) for p in Path('.').glob('*')]"
system:
  model: "@network_def"
  criterion: {_target_: DiceLoss, softmax: true}
  optimizer: {_target_: torch.optim.AdamW, params: "$@system::model.parameters()", lr: 0.01}
  scheduler: {_target_: torch.optim.lr_scheduler.StepLR, optimizer: "@system::optimizer", step_size: 1}
  metrics: {val: {dice: {_target_: DiceMetric}}}
  adapters: {train: {batch: {_target_: monai_lighter.BatchAdapter, input_accessor: 0}}}
  dataloaders:
    train: {_target_: DataLoader, dataset: {_target_: Dataset, data: "@data"}, batch_size: 2, pin_memory: true}
    val: {_target_: DataLoader, dataset: {_target_: Dataset, data: "$@data[:1]"}}
    predict: {_target_: DataLoader, dataset: "@data"}
trainer: {max_epochs: 2}
args: {fit: {ckpt_path: null}}
"""


def messages(changes=None, stage="fit", config=GOOD, roots=None):
    full = yaml.safe_load(config)
    for id, value in (changes or {}).items():
        *path, key = id.split("::")
        node = full
        for name in path:
            node = node.setdefault(name, {})
        if value is None:
            del node[key]
        else:
            node[key] = value
    add_defaults(full, "/bundle")
    needed = full if stage is None else pruned(full, stage)
    before = copy.deepcopy(full)
    roots = roots or ["system", "trainer", f"args::{stage}", "imports", "initialize"]
    findings = check_walk(Walk(full, needed, stage, ComponentLocator()), roots)
    assert full == before
    return [str(finding) for finding in findings if not isinstance(finding, Note)]


@pytest.mark.parametrize("stage", ["fit", "validate", "predict", None])
def test_a_config_that_is_right(stage):
    assert messages(stage=stage) == []


@pytest.mark.parametrize(
    ("id", "value", "message"),
    [
        # sections and keys
        (
            "system::optimiser",
            1,
            "system::optimiser: monai_lighter.System has no argument 'optimiser', got 1. Did you mean 'optimizer'?",
        ),
        (
            "system::dataloaders::vall",
            "@data",
            "system::dataloaders::vall: unknown key 'vall'. Did you mean 'val'?",
        ),
        (
            "system::metrics",
            [1],
            "system::metrics: must be a section, got [1]. Give it some of: train, val, test, predict.",
        ),
        (
            "system::adapters::train::loging",
            {},
            "system::adapters::train::loging: unknown key 'loging'. Did you mean 'logging'?",
        ),
        ("system", 3, "system: must be a section, got 3. Give it model, optimizer, dataloaders, …."),
        ("trainer", 3, "trainer: must be a section, got 3. Give it max_epochs, devices, …."),
        ("args", 3, "args: must be a section, got 3. Give it some of: fit, validate, test, predict."),
        ("args::fitt", {}, "args::fitt: unknown key 'fitt'. Did you mean 'fit'?"),
        (
            "args::fit::ckpt",
            "x",
            "args::fit::ckpt: unknown key 'ckpt'. Did you mean 'ckpt_path'?",
        ),
        (
            "trainer::max_epoch",
            5,
            "trainer::max_epoch: lightning.pytorch.Trainer has no argument 'max_epoch', got 5. Did you mean 'max_epochs'?",
        ),
        # targets
        (
            "system::criterion",
            {"_target_": "DiceLos"},
            "system::criterion::_target_: 'DiceLos' cannot be found. Did you mean 'DiceLoss'?",
        ),
        (
            "system::criterion",
            {"_target_": "torch.nn.CrossEntropyLos"},
            "system::criterion::_target_: 'torch.nn.CrossEntropyLos' cannot be found. Did you mean 'torch.nn.CrossEntropyLoss'?",
        ),
        (
            "system::criterion",
            {"_target_": "no_such_package.Loss"},
            "system::criterion::_target_: 'no_such_package.Loss' needs the package 'no_such_package', which is not installed. "
            "If the run needs it: pip install no_such_package. Else mend the name.",
        ),
        # arguments
        (
            "system::optimizer::lrr",
            0.01,
            "system::optimizer::lrr: torch.optim.AdamW has no argument 'lrr', got 0.01. Did you mean 'lr'?",
        ),
        (
            "system::scheduler",
            {"_target_": "torch.optim.lr_scheduler.StepLR", "optimizer": "@system::optimizer"},
            "system::scheduler: torch.optim.lr_scheduler.StepLR needs 'step_size', got ['optimizer']. Add it.",
        ),
        (
            "system::dataloaders::val",
            {"_target_": "DataLoader"},
            "system::dataloaders::val: DataLoader needs 'dataset', got no argument. Add it.",
        ),
        # references and expressions
        (
            "system::model",
            "@netwrok_def",
            "system::model: refers to `@netwrok_def`, which is not in the config, in '@netwrok_def'. "
            "Did you mean 'network_def'?",
        ),
        (
            "trainer::max_steps",
            "$len(@zzz) * 2",
            "trainer::max_steps: refers to `@zzz`, which is not in the config, in '$len(@zzz) * 2'. "
            "Define it, or mend the name.",
        ),
        (
            "trainer::max_steps",
            "@data::3",
            "trainer::max_steps: refers to `@data::3`, which is not in the config, in '@data::3'. Did you mean 'data'?",
        ),
        (
            "trainer::max_steps",
            "$1 +",
            "trainer::max_steps: is not a valid expression (invalid syntax), got '$1 +'. Mend the Python in it.",
        ),
        (
            "trainer::max_steps",
            "$'x@'.index('@')",
            "trainer::max_steps: has an `@` that is no reference, in \"$'x@'.index('@')\". "
            "Write chr(64) for the character, torch.matmul for the product.",
        ),
        (
            "initialize",
            ["$open('x'"],
            "initialize::0: is not a valid expression ('(' was never closed), got \"$open('x'\". Mend the Python in it.",
        ),
        # what a stage needs
        ("system::model", None, "system::model: stage 'fit' needs it, got None. Add it."),
        ("system::optimizer", None, "system::optimizer: stage 'fit' needs it, got None. Add it."),
        (
            "system::dataloaders::train",
            None,
            "system::dataloaders::train: stage 'fit' needs a dataloader, got none; it has val, predict. Add it.",
        ),
        (
            "system::dataloaders",
            None,
            "system::dataloaders::train: stage 'fit' needs a dataloader, got none. Add it.",
        ),
        # classes
        (
            "trainer::_target_",
            "torch.nn.Linear",
            "trainer::_target_: must be a lightning.pytorch.Trainer, got torch.nn.Linear. Name one.",
        ),
        (
            "system",
            {"_target_": "torch.nn.Identity"},
            "system::_target_: must be a lightning.pytorch.LightningModule, got torch.nn.Identity. Name one.",
        ),
        (
            "trainer::callbacks",
            [{"_target_": "pytorch_lightning.callbacks.EarlyStopping", "monitor": "x"}],
            "trainer::callbacks::0::_target_: pytorch_lightning.callbacks.EarlyStopping is of pytorch_lightning, and system of "
            "lightning.pytorch, whose classes differ. Write lightning.pytorch.callbacks.EarlyStopping.",
        ),
    ],
)
def test_what_is_wrong_is_found_with_its_message(id, value, message):
    assert message in messages({id: value})


@pytest.mark.parametrize("stage", ["test", "validate", "predict"])
def test_a_stage_with_no_dataloader(stage):
    mode = {"validate": "val"}.get(stage, stage)
    (message,) = messages({f"system::dataloaders::{m}": None for m in ("val", "predict")}, stage)
    expected = f"system::dataloaders::{mode}: stage {stage!r} needs a dataloader, got none; it has train. Add it."
    assert message == expected


def test_dataloaders_may_come_through_args():
    changes = {"system::dataloaders": None, "args::fit": {"datamodule": "@data"}}
    assert messages(changes) == []
    assert messages({"system::dataloaders": None, "args::fit": {"train_dataloaders": "@data"}}) == []
    assert messages({"system::dataloaders": None, "args": "@arguments", "arguments": {"fit": {"datamodule": 1}}}) == []


def test_all_is_found_at_once():
    changes = {"system::optimizer::lrr": 1, "trainer::max_epoch": 1, "system::model": "@nope", "args::fitt": {}}
    assert len(messages(changes)) == 4


def test_one_mistake_is_told_once():
    assert len(messages({"network_def::nope": 1, "again": "@network_def", "trainer::callbacks": ["@again"]})) == 1


@pytest.mark.parametrize(
    ("changes", "id"),
    [
        ({"a": "@b", "b": "@a", "trainer::max_steps": "@a"}, "a: refers to itself (a -> b -> a)"),
        (
            {"a": {"_target_": "Compose", "transforms": "@a"}, "trainer::max_steps": "@a"},
            "a: refers to itself (a -> a::transforms -> a)",
        ),
        (
            {"a": {"_target_": "Compose", "transforms": ["$@b"]}, "b": {"c": "$@a"}, "trainer::max_steps": "@a"},
            "a: refers to itself (a -> a::transforms -> a::transforms::0 -> b -> b::c -> a)",
        ),
        ({"trainer::max_steps": "$@trainer"}, "trainer: refers to itself (trainer -> trainer::max_steps -> trainer)"),
    ],
)
def test_circles_are_found(changes, id):
    assert f"{id}. Break the circle." in messages(changes)


def test_references_between_neighbours_are_no_circle():
    assert messages({"vars": {"a": 1, "b": "@vars::a"}, "trainer::max_steps": "@vars::b"}) == []


def test_what_no_stage_reaches_is_left_alone():
    assert messages({"unused": {"_target_": "no.such.Thing", "x": "@nope"}}) == []
    assert messages({"run": "$@nope"}) == []
    assert len(messages({"run": "$@nope"}, stage=None, roots=["run"])) == 1


def test_what_another_stage_builds_is_not_built():
    (message,) = messages({"trainer::callbacks": ["$@system::optimizer"]}, "predict")
    assert message == (
        "trainer::callbacks::0: refers to `@system::optimizer`, which is not in the config, in '$@system::optimizer'. "
        "Stage 'predict' does not build it."
    )


def test_disabled_items_are_left_alone():
    assert messages({"trainer::callbacks": [{"_target_": "no.such.Thing", "_disabled_": True}]}) == []


def test_special_keys_and_partials():
    component = {"_target_": "DiceLoss", "_mode_": "callable", "_desc_": "x", "_requires_": [], "softmax": True}
    assert messages({"system::criterion": component}) == []
    assert messages({"system::optimizer": {"_target_": "$torch.optim.SGD", "lrr": 1}}) == []


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="its f-strings take any quotes")
def test_an_f_string_that_its_references_break():
    (message,) = messages({"trainer::default_root_dir": "$f'{@data}/x'"})
    assert message == (
        "trainer::default_root_dir: has a reference in an f-string, where MONAI writes single quotes, in "
        "\"$f'{@data}/x'\". Write the f-string in double quotes, or join texts with +."
    )
    assert messages({"trainer::default_root_dir": '$f"{@data}/x"'}) == []


def test_a_module_that_raises_when_imported(tmp_path, monkeypatch):
    (tmp_path / "raising_module.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    (message,) = messages({"system::criterion": {"_target_": "raising_module.Loss"}})
    assert message.startswith("system::criterion::_target_: 'raising_module.Loss' cannot be imported (")
    assert "No module named 'no_such_package'" in message


def test_a_target_that_is_no_text():
    message = "system::criterion::_target_: must be a class or function, got 3. Name one."
    assert message in messages({"system::criterion": {"_target_": 3}})
    message = "system::criterion::_target_: must be a class or function, got the module torch.nn. Name one."
    assert message in messages({"system::criterion": {"_target_": "torch.nn"}})


def test_an_unreadable_signature_and_a_c_function_are_let_through():
    assert messages({"trainer::max_steps": {"_target_": "builtins.max"}}) == []


def test_pytorch_lightning_alone_is_fine():
    trainer = {"_target_": "pytorch_lightning.Trainer", "max_epochs": 1}
    changes = {"system": {"_target_": "pytorch_lightning.LightningModule"}, "trainer": trainer}
    assert messages(changes) == []


def test_a_short_name_may_be_any_of_monais():
    assert messages({"system::optimizer": {"_target_": "Novograd", "params": []}}) == []


def checked(folder, base, id=None, value=None, override=None, **keywords):
    """`Check` of one of the two sound configs, with one item changed."""
    return Check(write_spoiled(folder, base, id, value), override, Asked(**keywords))


def test_there_are_enough_mistakes():
    assert len(MISTAKES) >= 50
    assert sum(base == "zoo" for base, *_ in MISTAKES) >= 20


@pytest.mark.parametrize(("base", "id", "value", "where", "words"), MISTAKES)
def test_a_planted_mistake_is_found(folder, base, id, value, where, words):
    check = checked(folder, base, id, value)
    found = [str(error) for error in check.errors if error.id == where]
    assert any(words in text for text in found), [str(one) for one in (*check.errors, *check.notes)]


@pytest.mark.parametrize(("base", "id", "value", "where", "words"), NOTES)
def test_what_need_not_be_wrong_is_a_note(folder, base, id, value, where, words):
    check = checked(folder, base, id, value)
    assert check.errors == []
    assert any(note.id == where and words in str(note) for note in check.notes), [str(note) for note in check.notes]


@pytest.mark.parametrize(("base", "id", "value"), [("native", None, None), ("zoo", None, None), *FINE])
def test_nothing_is_said_about_what_is_right(folder, base, id, value):
    check = checked(folder, base, id, value)
    assert [*check.errors, *check.notes] == []


def test_a_finding_has_the_file_and_the_line(folder):
    check = checked(folder, "zoo", "train::trainer::max_epoch", 3)
    (error,) = [error for error in check.errors if error.id.endswith("max_epoch")]
    lines = (folder / "configs" / "train.yaml").read_text().splitlines()
    assert check.place(error).file == str(folder / "configs" / "train.yaml")
    assert lines[check.place(error).line - 1].strip() == "max_epoch: 3"


def test_overrides_are_checked_and_named(folder):
    check = checked(
        folder, "native", override={"system#optimizer#lrr": 1, "netwrok_def": 1, "system::optimizer::a::b": 1}
    )
    assert [(error.id, str(check.place(error))) for error in check.errors] == [
        ("system::optimizer::a::b", "command line"),
        ("system::optimizer::lrr", "command line"),
        ("netwrok_def", "command line"),
    ]
    assert str(check.errors[-1]).endswith("nothing in the config refers to. Did you mean 'network_def'?")


def test_an_override_that_nothing_refers_to_is_a_note_for_engines(folder):
    check = checked(folder, "zoo", override={"netwrok_def": 1})
    assert [str(note) for note in check.notes if note.id == "netwrok_def"] == [
        "netwrok_def: override adds 'netwrok_def', which nothing in the config refers to. Did you mean 'network_def'?"
    ]


def test_everything_is_found_at_once_also_beside_a_bad_macro(folder):
    override = {"system::postprocessing::val": "%vars::pots", "trainer::max_epoch": 1, "run": "$@trainr.fit(glub)"}
    check = checked(folder, "native", override=override)
    assert {error.id for error in check.errors} == {"system::postprocessing::val", "trainer::max_epoch", "run"}
    assert len(check.errors) == 4


def test_a_text_is_read_for_the_argument_that_wants_a_number_alone(folder):
    override = {"fold": "02", "system::dataloaders::train::num_workers": "@fold", "vars::name": "$'fold_' + str(@fold)"}
    check = checked(folder, "native", override=override)
    assert check.errors == []
    needed = check.prepared.needed["fit"]
    assert (needed["fold"], needed["system"]["dataloaders"]["train"]["num_workers"]) == ("02", 2)


def test_what_each_stage_would_build(folder):
    check = checked(folder, "native")
    assert list(check.built) == ["fit", "validate", "run"]
    built = {stage: [one.id for one in components] for stage, components in check.built.items()}
    assert "system::optimizer" in built["fit"]
    assert "system::optimizer" not in built["validate"]
    assert built["fit"].index("network_def") < built["fit"].index("system::optimizer") < built["fit"].index("system")
    assert list(checked(folder, "native", run_id="validate").built) == ["validate"]
    assert [one.target for one in checked(folder, "zoo").built["run"]][-1] == "SupervisedTrainer"


def test_a_key_that_stands_twice_is_an_error_where_ignite_would_not_run_it(folder):
    text = "run: $1\na:\n  lr: 1\n  lr: 2\n"
    (folder / "a.yaml").write_text(text)
    (folder / "b.yaml").write_text(text + "system: {model: $1}\n")
    for file, native in (("a.yaml", False), ("b.yaml", True)):
        check = Check(file)
        (found,) = [one for one in (check.errors if native else check.notes) if one.id == "a::lr"]
        assert str(found) == f"a::lr: stands twice, at {file}:3 and line 4, of which the last counts. Remove one."


def test_nothing_is_built_or_run(folder):
    (folder / "scripts" / "marks.py").write_text("import pathlib\ndef mark(**k): pathlib.Path('marked').touch()\n")
    for id, value in (
        ("data", "$__import__('scripts.marks').marks.mark()"),
        ("network_def", {"_target_": "scripts.marks.mark"}),
    ):
        check = checked(folder, "native", id, value)
        assert check.errors == []
    assert not (folder / "marked").exists()


def test_properties_of_a_type_that_is_asked_for_are_errors(folder):
    check = checked(folder, "zoo", workflow_type="infer")
    assert {error.id for error in check.errors} == {"dataset", "evaluator", "inferer"}


def test_a_run_id_and_a_type_that_there_are_not(folder):
    (error,) = checked(folder, "native", run_id="fitt").errors
    assert str(error) == "run_id: run ID 'fitt' doesn't exist in the config file. Did you mean 'fit'?"
    for base in BASES:
        (error,) = checked(folder, base, workflow_type="trian").errors
        assert str(error).startswith("workflow_type: must be one of train, training, infer,")
        assert str(error).endswith("got 'trian'. Did you mean 'train'?")


def test_an_argument_of_an_older_monai_says_what_to_install(folder):
    (folder / "configs" / "metadata.json").write_text('{"version": "1", "monai_version": "1.0.0"}')
    (error,) = checked(folder, "zoo", "network_def::img_size", 96).errors
    assert error.id == "network_def::img_size"
    assert "written for MONAI 1.0.0" in str(error)
    for id in ("network_def::out_channel", "train::trainer::Amp"):
        check = checked(folder, "zoo", id, 96)
        assert [error.id for error in check.errors] == [id]


def test_a_module_that_needs_a_package_that_is_not_installed(folder):
    (folder / "scripts" / "nets.py").write_text("import nosuchpackage\nclass Net: pass\n")
    (error,) = checked(folder, "zoo", "network_def", {"_target_": "scripts.nets.Net"}).errors
    assert "nosuchpackage" in error.problem
    assert error.id == "network_def::_target_"


def test_files_that_cannot_be_read_or_merged(folder):
    (folder / "a.yaml").write_text("a: [1\nb: 2")
    (folder / "b.json").write_text('{"train#trainer": 1}')
    for files, words in (("a.yaml", "line 2"), ("b.json", "train"), ("c.yaml", "c.yaml")):
        (error,) = Check(files).errors
        assert words in str(error)


@pytest.mark.parametrize(
    "file",
    sorted(file for file in ROOT.glob("bundles/*/configs/*.yaml") if file.stem != "common"),
    ids=lambda file: f"{file.parts[-3]}-{file.stem}",
)
def test_nothing_is_found_in_the_example_bundles(file, folder):
    check = Check(str(file))
    assert [*check.errors, *check.notes] == []


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("dims", [2, 3])
def test_nothing_is_found_in_a_created_bundle(task, dims, folder):
    create_bundle(folder / "bundle", task, dims)
    for file in {*(folder / "bundle" / "configs").glob("*.yaml")} - {folder / "bundle" / "configs" / "common.yaml"}:
        check = Check(str(file))
        assert [*check.errors, *check.notes] == []
