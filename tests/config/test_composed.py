"""Files merged by Lighter's rules: what each operator does, which files have these rules, and what macros of files bring in."""

import pytest
import yaml

from monai_lighter.config.composed import read_composed
from monai_lighter.errors import ConfigError

BASE = {
    "vars": {"lr": 0.1, "classes": 3},
    "trainer": {"_target_": "pytorch_lightning.Trainer", "max_epochs": 1, "callbacks": [{"a": 1}, {"b": 2}]},
    "model": {"_target_": "project.Net", "network": {"_target_": "torch.nn.Identity"}},
    "data": {"_target_": "lighter.LighterDataModule", "train_dataloader": {"batch_size": 2, "shuffle": True}},
}


@pytest.fixture
def compose(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def compose(*changes, base=BASE):
        files = []
        for i, content in enumerate((base, *changes)):
            files.append(f"{i}.yaml")
            (tmp_path / files[-1]).write_text(yaml.safe_dump(content, sort_keys=False))
        return read_composed(files)

    return compose


def test_sections_merge_and_lists_are_extended(compose):
    content = compose(
        {"trainer": {"max_epochs": 5, "callbacks": [{"c": 3}]}, "data": {"train_dataloader": {"batch_size": 8}}}
    ).content
    assert content["trainer"] == {
        "_target_": "pytorch_lightning.Trainer",
        "max_epochs": 5,
        "callbacks": [{"a": 1}, {"b": 2}, {"c": 3}],
    }
    assert content["data"]["train_dataloader"] == {"batch_size": 8, "shuffle": True}
    assert content["model"] == BASE["model"]


def test_items_are_replaced(compose):
    content = compose({"=vars": {"lr": 1}, "trainer": {"=callbacks": []}, "model": {"network": "@net"}}).content
    assert content["vars"] == {"lr": 1}
    assert content["trainer"]["callbacks"] == []
    assert content["model"]["network"] == "@net"


def test_items_are_removed(compose):
    content = compose({"~vars": None, "trainer": {"~callbacks": [-1], "~max_epochs": None}}).content
    assert "vars" not in content
    assert content["trainer"] == {"_target_": "pytorch_lightning.Trainer", "callbacks": [{"a": 1}]}
    content = compose({"~data::train_dataloader": ["shuffle"], "~trainer": ["callbacks"]}).content
    assert content["data"]["train_dataloader"] == {"batch_size": 2}
    assert set(content["trainer"]) == {"_target_", "max_epochs"}


def test_ids_with_separators_lead_into_sections(compose):
    content = compose({"trainer::max_epochs": 7, "=trainer::callbacks": [], "new::item::deep": 1}).content
    assert content["trainer"] == {"_target_": "pytorch_lightning.Trainer", "max_epochs": 7, "callbacks": []}
    assert content["new"] == {"item": {"deep": 1}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"~traner": None}, "traner: `~` removes it, and it is not there. Did you mean 'trainer'?"),
        (
            {"model": {"~networks": None}},
            "model::networks: `~` removes it, and it is not there. Did you mean 'network'?",
        ),
        ({"trainer": {"~callbacks": [2]}}, "trainer::callbacks: `~` removes 2 of it, which is not there."),
        ({"trainer": {"~max_epochs": [1]}}, "trainer::max_epochs: `~` removes it, and is given [1]."),
        ({"~trainer": 5}, "trainer: `~` removes it, and is given 5."),
    ],
)
def test_what_cannot_be_removed_is_told(compose, change, message):
    with pytest.raises(ConfigError) as caught:
        compose(change)
    assert str(caught.value).startswith(message)


def test_which_files_have_these_rules(compose):
    older = {
        "system": {"_target_": "lighter.System", "model": "@net"},
        "trainer": {"_target_": "pytorch_lightning.Trainer"},
    }
    assert compose() is not None  # a model section
    assert compose(base=older) is None  # one file is read alike by both
    assert compose({"trainer": {"max_epochs": 1}}, base=older) is not None
    assert compose({"system#model": 1}, base=older) is None
    assert compose({"+system": {"x": 1}}, base=older) is None
    assert compose({"vars": {"x": "@system#model"}}, base=older) is None
    ours = {"system": {"model": "@net"}, "trainer": {"max_epochs": 2}}
    assert compose({"trainer": {"max_epochs": 1}}, base=ours) is None
    engines = {"model": {"_target_": "UNet"}, "trainer": {"_target_": "SupervisedTrainer", "device": "cpu"}}
    assert compose({"trainer": {"max_epochs": 1}}, base=engines) is None


def test_macros_of_other_files_are_expanded_with_their_own(compose, tmp_path):
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "small.yaml").write_text("width: 4\nnet: {_target_: torch.nn.Linear, in_features: '%width'}\n")
    (tmp_path / "all.yaml").write_text("chosen: '%nets/small.yaml::net'\n")
    composed = compose({"model": {"=network": "%all.yaml::chosen"}, "trainer": {"limit": "%vars::lr"}})
    assert composed.content["model"]["network"] == {"_target_": "torch.nn.Linear", "in_features": 4}
    assert composed.content["trainer"]["limit"] == "%vars::lr"  # of the whole, when all of it is known
    assert composed.read == ["all.yaml", "nets/small.yaml"]


def test_what_a_macro_brings_in_is_merged_into(compose, tmp_path):
    (tmp_path / "calls.yaml").write_text("- {a: 1}\n- {b: 2}\n")
    (tmp_path / "part.yaml").write_text("calls: [{a: 1}]\n")
    base = {**BASE, "trainer": {**BASE["trainer"], "callbacks": "%part.yaml::calls"}}
    assert compose({"trainer": {"callbacks": [{"b": 2}]}}, base=base).content["trainer"]["callbacks"] == [
        {"a": 1},
        {"b": 2},
    ]


def test_macros_that_lead_nowhere_are_left_for_the_check(compose, tmp_path):
    (tmp_path / "some.yaml").write_text("b: '%b'\n")
    (tmp_path / "net.txt").write_text("b: 1\n")
    content = compose({"x": "%some.yaml::c", "y": "%none.yaml::a", "z": "%net.txt::b", "r": "%::::::a"}).content
    assert [content[key] for key in "xyzr"] == ["%some.yaml::c", "%none.yaml::a", "%net.txt::b", "%::::::a"]


@pytest.mark.parametrize("macro", ["%circle.yaml::a", "%circle.yaml::b"])
def test_macros_of_files_that_lead_to_themselves_are_told(compose, tmp_path, macro):
    (tmp_path / "circle.yaml").write_text("a: ['%circle.yaml::a', '%circle.yaml::a']\nb: '%b'\n")
    with pytest.raises(ConfigError, match="leads to itself"):
        compose({"x": macro})


class TestMacrosOnTheWay:
    """Later files of a native config lead into what a macro brings in."""

    @pytest.fixture
    def files(self, tmp_path):
        configs = tmp_path / "configs"
        configs.mkdir()
        (configs / "common.yaml").write_text("steps: [1, 2]\nnet: {a: {b: 1}, c: 2}\n")
        (configs / "train.yaml").write_text(
            "system: {model: '@net'}\nsteps: '%configs/common.yaml::steps'\nnet: '%configs/common.yaml::net'\n"
        )
        return lambda text: (
            (configs / "more.yaml").write_text(text),
            [str(configs / "train.yaml"), str(configs / "more.yaml")],
        )[1]

    def test_what_is_added_or_set_there(self, files):
        composed = read_composed(files("+steps: [3]\nnet::a::b: 5\n"))
        assert not composed.of_lighter
        assert composed.content["steps"] == [1, 2, 3]
        assert composed.content["net"] == {"a": {"b": 5}, "c": 2}

    def test_other_files_are_left_to_monai(self, files):
        assert read_composed(files("steps: [3]\n")) is None
        assert read_composed(files("net::a::b::c::d: 5\n")) is None
