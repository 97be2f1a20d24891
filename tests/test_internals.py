"""The private names of Ignite, Lightning, MONAI and torch that the package uses: that these are all, and that they are there."""

import ast
import hashlib
import importlib
import inspect
import textwrap
from functools import cache
from pathlib import Path
from pydoc import locate

import pytest
import torch
from ignite.engine import Engine, Events
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.trainer.connectors.logger_connector.result import _Metadata, _ResultMetric
from monai.bundle.config_item import ComponentLocator
from monai.bundle.reference_resolver import ReferenceResolver
from monai.data import DataLoader, SmartCacheDataset
from monai.engines import SupervisedTrainer
from monai.metrics import DiceMetric
from monai.transforms import Flip, LoadImaged, SaveImage
from torchmetrics import MeanSquaredError

import monai_lighter
from monai_lighter import internals

PACKAGE = Path(monai_lighter.__file__).parent
FILES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "internals.py" and "templates" not in path.relative_to(PACKAGE).parts
]
PUBLIC = {"_replace", "_asdict", "_fields", "_make", "_exit"}
"""Documented names: of ``collections.namedtuple``, which have the underscore so that no field is called so, and ``os._exit``."""
OWN = {
    "_adapter": "system.system.System",
    "_forward_accepts": "system.system.System",
    "_frozen": "callbacks.freezer.Freezer",
    "_losses": "system.system.System",
    "_still": "callbacks.freezer.Freezer",
    "_shared": "system.ledger.Ledger",
}
"""Names of our own classes that other parts of the package use, and the class."""


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name != "_"


def foreign_names(source):
    """Private names that a module takes from what is neither ``self`` nor its own, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            of_super = ast.unparse(node.value) == "super()" and any(
                node.attr in names for names in internals.INHERITED.values()
            )
            if not (of_self or of_super):
                yield node.attr, node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(name.value):
                yield name.value, node.lineno
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("monai_lighter"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from ((name, node.lineno) for name in names if is_private(name))


def test_a_private_name_of_a_library_is_used_in_one_module():
    found = {
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in FILES
        for name, line in foreign_names(path.read_text())
        if name not in PUBLIC | OWN.keys()
    }
    assert not found, "give it a function in monai_lighter/internals.py that says what for"


@pytest.mark.parametrize(
    "line",
    ["engine._process_function", "trainer.fit_loop._data_fetcher = 1", "getattr(x, '_version', 0)", "hasattr(x, '_orig_mod')",
     "super()._resolve(1)", "from torch import _C", "from torch._dynamo import config", "lambda x: x()._a"],
)  # fmt: skip
def test_such_a_use_is_found(line):
    assert [*foreign_names(line)]


def test_the_package_uses_its_own_as_the_list_says():
    used = {name for path in FILES for name, _ in foreign_names(path.read_text())}
    assert OWN.keys() <= used
    for name, owner in OWN.items():
        assert name in inspect.getsource(locate(f"monai_lighter.{owner}"))


def take_engine(engine):
    """Handler."""


def filtered_handler(engine):
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), take_engine)
    return engine._event_handlers[Events.ITERATION_COMPLETED][0][0]


@pytest.fixture(scope="module")
def holders():
    """What the functions of `internals` are given, by the names of the table below."""
    engine = Engine(lambda engine, batch: None)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return {
        "engine": engine,
        "handler": filtered_handler(engine),
        "trainer": trainer,
        "logger connector": trainer._logger_connector,
        "fit loop": trainer.fit_loop,
        "epoch loop": trainer.fit_loop.epoch_loop,
        "validation loop": trainer.fit_loop.epoch_loop.val_loop,
        "SupervisedTrainer": SupervisedTrainer,
        "metric": DiceMetric(),
        "metric of torchmetrics": MeanSquaredError(),
        "image loader": LoadImaged("image"),
        "image saver": SaveImage(print_log=False),
        "traced transform": Flip(0),
        "ReferenceResolver": ReferenceResolver,
        "locator": ComponentLocator(),
        "tensor": torch.zeros(1),
        "compiled network": torch.compile(torch.nn.Identity()),
        "weight averaging": WeightAveraging(),
        "loader": DataLoader([1]),
        "cache": SmartCacheDataset([1, 2], cache_num=1, progress=False),
        "csv logger": CSVLogger("."),
        "TensorBoard's logger": TensorBoardLogger("."),
        "module": LightningModule(),
        "result": _ResultMetric(_Metadata("training_step", "loss", on_step=True, on_epoch=False), is_tensor=True),
    }


USED = {
    "engine": (
        "_dataloader_iter", "_event_handlers", "_init_iter", "_internal_run_as_gen", "_internal_run_generator", "_is_done",
        "_process_function", "_setup_dataloader_iter",
    ),
    "handler": ("_parent",),
    "trainer": ("_accelerator_connector", "_logger_connector", "_results"),
    "module": ("_current_fx_name",),
    "result": ("_forward_cache",),
    "logger connector": ("_first_loop_iter",),
    "fit loop": ("_combined_loader", "_data_fetcher"),
    "epoch loop": ("_batches_that_stepped",),
    "validation loop": ("_combined_loader", "_data_source"),
    "SupervisedTrainer": ("_iteration",),
    "image loader": ("_loader",),
    "image saver": ("_data_index",),
    "traced transform": ("_transforms_match",),
    "metric": ("_buffers", "_synced", "_synced_tensors"),
    "metric of torchmetrics": ("_computed", "_reductions", "_sync_dist", "_update_count"),
    "ReferenceResolver": ("_vars",),
    "locator": ("_components_table",),
    "tensor": ("_version",),
    "compiled network": ("_orig_mod",),
    "weight averaging": ("_average_model",),
    "loader": ("_iterator",),
    "cache": ("_replace_done",),
    "csv logger": ("_get_next_version", "_version"),
    "TensorBoard's logger": ("_get_next_version", "_version"),
}  # fmt: skip
"""All private names that `internals` uses."""


def test_the_list_of_names_is_complete():
    tree = ast.parse(inspect.getsource(internals))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_private(node.attr)}
    used |= {node.value for node in ast.walk(tree)
             if isinstance(node, ast.Constant) and isinstance(node.value, str) and is_private(node.value)}  # fmt: skip
    listed = {name for names in USED.values() for name in names}
    assert used == listed | {name for names in internals.INHERITED.values() for name in names}


@pytest.mark.parametrize(("holder", "name"), [(holder, name) for holder, names in USED.items() for name in names])
def test_the_name_is_there(holders, holder, name):
    assert hasattr(holders[holder], name)


def test_every_function_says_what_for():
    for name, function in vars(internals).items():
        if inspect.isfunction(function) and function.__module__ == internals.__name__:
            assert function.__doc__, name


def own_classes():
    """The classes of the package, with their trees."""
    for path in FILES:
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                yield getattr(importlib.import_module(module), node.name), node


def names_of(tree):
    """Names that a class has: of its methods and attributes, and those that its methods give ``self``."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            yield node.attr
    yield from (target.id for node in tree.body for target in ast.walk(node) if isinstance(target, ast.Name))


def foreign_classes(cls):
    return [base for base in cls.__mro__ if base.__module__.split(".")[0] in ("ignite", "lightning", "monai", "torch")]


@cache
def names_of_library(cls):
    return {*vars(cls), *names_of(ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0])}


def inherited():
    """Private names that classes of the package share with the classes of libraries that they extend."""
    for cls, tree in own_classes():
        names = {name for name in names_of(tree) if is_private(name)}
        for base in foreign_classes(cls) if names else ():
            shared = names & names_of_library(base)
            names -= shared
            yield from ((base, name) for name in shared)


def test_private_names_are_inherited_as_the_list_says():
    found = {(base, name) for base, name in inherited()}
    listed = {(locate(path), name) for path, names in internals.INHERITED.items() for name in names}
    assert found == listed, "list it in internals.INHERITED with what for, or give ours another name"


SOURCES = [
    # automatic.py keeps its logic, up to the loss
    (SupervisedTrainer._iteration, "a15cbc01f63f42c88033092933458b65d0957ed4f2636aca683d45a0a7de9bf6"),
    # engine.py keeps what it does before the loop, in LightningEngine._begin
    (Engine.run, "a3c1f6d9a7963020bd830dee8a4534bb5701e763d28d4f310663f548091de85c"),
    # run.py halts these two after the events of STOPS
    (Engine._internal_run_as_gen, "ac72760eabacc3613e2cb84e5aabb89bbc6f7c4de51dd3736311010d82ead56d"),
    (Engine._run_once_on_dataset_as_gen, "a80c8b15878416f268b65a84c3d9e64c613ba16760c2f6ffd0a8726ee8696616"),
    # run.py counts by it the iterations of an epoch that an earlier run has done
    (Engine._setup_engine, "dba8b9e40d088c42b22f4d563b8433e0bf5a1db6568b32c0e532032a78752b0a"),
]
"""What the package keeps a copy of, or relies on line by line, with the SHA-256 of its source in MONAI 1.6.1 and Ignite 0.5.5."""


@pytest.mark.parametrize(("function", "digest"), SOURCES, ids=[function.__qualname__ for function, _ in SOURCES])
def test_the_source_that_is_relied_on_is_the_one_that_was_read(function, digest):
    found = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()
    assert found == digest, "read what has changed, follow it where the list says who relies on it, and note its hash"


def test_a_handler_is_the_one_that_was_given():
    engine = Engine(lambda engine, batch: None)
    assert internals.get_registered_handler(filtered_handler(engine)) is take_engine
    assert internals.get_registered_handler(take_engine) is take_engine


def test_a_metric_aggregates_over_the_items_it_is_given():
    metric = DiceMetric()
    metric(torch.ones(2, 1, 4, 4), torch.ones(2, 1, 4, 4))
    (rows,) = internals.get_items(metric)
    assert torch.stack([*rows]).tolist() == [[1.0], [1.0]]
    internals.set_items(metric, [torch.tensor([[0.0], [0.5], [1.0]])])
    assert metric.aggregate().item() == 0.5


def test_a_metric_goes_on_from_the_items_it_had():
    metric = DiceMetric()
    internals.set_gathered(metric, [[torch.tensor([0.0])]])
    metric(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4))
    assert metric.aggregate().item() == 0.5


def test_short_names_are_monais():
    assert internals.get_component_names(ComponentLocator())["UNet"] == ["monai.networks.nets.unet"]


def test_no_trainer_is_no_error():
    assert LightningModule()._trainer is None
