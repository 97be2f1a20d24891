import pytest
import torch
from lightning.pytorch import Trainer
from monai.data import DataLoader
from monai.metrics import DiceMetric
from monai.transforms import AsDiscreted, LoadImaged, RandAffined, Spacingd

from monai_lighter.check.parameters import Parameter, find_accepted, read_text


def names_of(target):
    accepted = find_accepted(target)
    return list(accepted.parameters), accepted.required, accepted.is_open


class Base:
    def __init__(self, a, b=1):
        pass


class Passing(Base):
    def __init__(self, c, **others):
        others["b"] = others.get("b", 2)
        super().__init__(**others)


class Again(Passing):
    def __init__(self, d=1, **kwargs):
        super().__init__(**kwargs)


class Taking(Base):
    def __init__(self, c, **kwargs):
        self.extra = kwargs.pop("extra", None)
        super().__init__(**kwargs)


class Keeping(Base):
    def __init__(self, **kwargs):
        self.settings = kwargs


class Made:
    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, a):
        pass


def test_what_is_passed_on_to_bases_counts():
    assert names_of(Base) == (["a", "b"], ["a"], False)
    assert names_of(Passing) == (["c", "a", "b"], ["c"], False)
    assert names_of(Again) == (["d", "c", "a", "b"], [], False)
    assert "num_workers" in find_accepted(DataLoader).parameters
    assert not find_accepted(DataLoader).is_open
    assert names_of(Made) == (["a"], [], False)


def test_what_may_go_elsewhere_is_open():
    assert names_of(Taking) == (["c"], ["c"], True)
    assert names_of(Keeping) == ([], [], True)
    assert names_of(lambda a, **kwargs: a) == (["a"], ["a"], True)
    assert find_accepted(dict) is None


@pytest.mark.parametrize(
    ("target", "name", "text", "value"),
    [
        (torch.optim.AdamW, "lr", "1e-4", 1e-4),
        (torch.optim.lr_scheduler.MultiStepLR, "milestones", "(1, 2)", (1, 2)),
        (torch.optim.lr_scheduler.MultiStepLR, "gamma", "1e-1", 0.1),
        (torch.optim.AdamW, "betas", "[0.9, 0.99]", [0.9, 0.99]),
        (DiceMetric, "include_background", "no", False),
        (DiceMetric, "include_background", "True", True),
        (DataLoader, "shuffle", "false", False),
        (DataLoader, "num_workers", "2", 2),
        (Trainer, "max_epochs", "50", 50),
        (torch.nn.utils.clip_grad_norm_, "max_norm", "inf", float("inf")),
        (Trainer, "max_epochs", "null", None),
        (Trainer, "gradient_clip_val", "1", 1),
        (lambda a=0.5, b=(1, 2): a, "a", "1", 1.0),
        (lambda a=0.5, b=(1, 2): a, "b", "3, 4", (3, 4)),
    ],
)
def test_a_text_is_read_where_the_parameter_is_none(target, name, text, value):
    parameter = find_accepted(target).parameters[name]
    read = read_text(text, parameter)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("target", "name", "text", "wanted"),
    [
        (torch.optim.AdamW, "lr", "fast", "a number"),
        (torch.optim.AdamW, "lr", "true", "a number"),
        (DiceMetric, "include_background", "1", "true or false"),
        (DataLoader, "num_workers", "1.5", "a whole number"),
        (Trainer, "max_epochs", "fifty", "a whole number or null"),
        (torch.optim.lr_scheduler.MultiStepLR, "milestones", "(1, x)", "a list, each a whole number"),
    ],
)
def test_a_text_that_is_no_such_value(target, name, text, wanted):
    parameter = find_accepted(target).parameters[name]
    assert parameter.wanted == wanted
    with pytest.raises(ValueError, match=r"."):
        read_text(text, parameter)


def test_a_default_alone_leaves_other_values_possible():
    parameter = find_accepted(lambda features=1.0: features).parameters["features"]
    assert not parameter.certain
    assert read_text("0.5", parameter) == 0.5
    assert find_accepted(RandAffined).parameters["rotate_range"].single >= {float}


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (LoadImaged, "keys"),
        (AsDiscreted, "keys"),
        (Spacingd, "mode"),
        (DiceMetric, "reduction"),
        (Trainer, "accelerator"),
    ],
)
def test_what_may_be_a_text_stays_one(target, name):
    assert find_accepted(target).parameters[name] == Parameter()
