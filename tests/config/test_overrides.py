from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from monai_lighter.config.overrides import apply_overrides, expand_macros, find_lost, find_unused_overrides

BUNDLE = Path("/nowhere")


def parser():
    return ConfigParser(
        {"net": {"_target_": "UNet", "channels": [4, 8]}, "lr": 0.1, "trainer": {"max_epochs": 1}, "steps": "@lr"}
    )


@pytest.mark.parametrize(
    ("id", "value", "where"),
    [
        ("lr", 1, "lr"),
        ("net::channels", [1], "net::channels"),
        ("net#channels#1", 3, "net::channels::1"),
        ("net::channels::-1", 3, "net::channels::1"),
        ("net::norm", "batch", "net::norm"),
        ("new", 7, "new"),
        ("trainer::devices", 2, "trainer::devices"),
        ("args::fit::ckpt_path", "x.ckpt", "args::fit::ckpt_path"),
        ("lightning::devices", 2, "lightning::devices"),
    ],
)
def test_overrides_set_items(id, value, where):
    config = parser()
    assert apply_overrides(config, {id: value}, BUNDLE).findings == []
    assert config[where] == value


def test_an_override_may_add_to_a_section_that_is_there():
    config = ConfigParser({"args": {"fit": {"ckpt_path": "a"}}})
    apply_overrides(config, {"args::fit::weights_only": False, "args::test::ckpt_path": "b"}, BUNDLE)
    assert config["args"] == {"fit": {"ckpt_path": "a", "weights_only": False}, "test": {"ckpt_path": "b"}}


def test_one_override_may_stand_in_a_section_that_another_adds():
    config = parser()
    apply_overrides(config, {"extra": {"a": 1}, "extra::b": 2}, BUNDLE)
    assert config["extra"] == {"a": 1, "b": 2}


MESSAGES = {
    "nett::channels": "nett::channels: override whose parent 'nett' does not exist. Did you mean 'net'?",
    "net::channels::7": "net::channels::7: override of item 7 of a list of 2. Use an index below 2.",
    "nett::a::b": "nett::a::b: override whose parent 'nett::a' does not exist. Did you mean 'net::channels'?",
    "trainer::x::y": "trainer::x::y: override whose parent 'trainer::x' does not exist. Did you mean 'trainer'?",
    "lr::x": "lr::x: override inside 'lr', which is no section but 0.1. Override 'lr' itself.",
    "steps::x": "steps::x: override inside 'steps', which is no section but '@lr'. Override 'steps' itself.",
}


def test_all_misplaced_overrides_are_reported_and_not_set():
    config = parser()
    findings = apply_overrides(config, dict.fromkeys(MESSAGES, 1), BUNDLE).findings
    assert [str(finding) for finding in findings] == list(MESSAGES.values())
    assert config.get() == parser().get()


def unused(config, *names):
    return [str(finding) for finding in find_unused_overrides([config], names, ("seed", "args"))]


def test_an_override_that_nothing_refers_to_is_told():
    config = {"max_epochs": 1, "max_epoch": 3, "used": 1, "a": "@used", "b": ["$@other + 1"], "other": 1, "seed": 0}
    assert unused(config, "used", "other", "seed", "a::x", "a#x") == []
    assert unused(config, "max_epoch") == [
        "max_epoch: override adds 'max_epoch', which nothing in the config refers to. Did you mean 'max_epochs'?"
    ]


def test_an_override_of_an_item_within_a_section_is_told_by_its_whole_id():
    config = {"trainer": {"max_epochs": 1}, "epochs": 2, "max_epochs": 3, "a": "@epochs"}
    assert unused(config, "max_epochs")[0].endswith("Did you mean 'trainer::max_epochs'?")


@pytest.mark.parametrize(
    ("id", "hint"),
    [
        ("trainer.max_epochs", "Did you mean 'trainer::max_epochs'? Ids have :: between their parts."),
        ("trainer.precision", "Did you mean 'trainer::precision'? Ids have :: between their parts."),
        ("paths::data_dirr", "Did you mean 'paths::data_dir'?"),
        ("meta_flie", "Did you mean 'meta_file'?"),
    ],
)
def test_what_an_override_may_have_been_meant_to_set(id, hint):
    config = {"trainer": {"max_epochs": 1}, "paths": {"data_dir": "."}, "a": "@paths::data_dir"}
    (message,) = unused(config, id)
    assert message == f"{id}: override adds {id!r}, which nothing in the config refers to. {hint}"


@pytest.mark.parametrize(
    ("config", "id"),
    [
        ({"net": {"_target_": "UNet"}}, "net::norm"),
        ({"net": {"_target_": "UNet", "more": {}}}, "net::more::a"),
        ({"paths": {"a": 1}, "all": "$list(@paths.values())"}, "paths::b"),
        ({"paths": {"a": 1}, "all": "@paths::b"}, "paths::b"),
        ({"args": {"fit": {}}}, "args::fit::ckpt_path"),
        ({"list": [1]}, "list::0"),
    ],
)
def test_an_override_in_a_section_that_is_used_as_a_whole(config, id):
    assert unused(config, id) == []


def test_a_macro_and_what_it_brings_are_references():
    before, after = {"a": "%net", "net": "$@width", "width": 1}, {"a": "$@width", "net": "$@width", "width": 1}
    assert list(find_unused_overrides([before, after], ["net", "width"], ())) == []


def test_a_longer_name_is_no_reference_to_a_shorter_one():
    assert len(unused({"max": 1, "max_epochs": 1, "a": "@max_epochs"}, "max")) == 1


def test_macros_from_this_config_and_from_files(tmp_path):
    (tmp_path / "net.yaml").write_text("net: {_target_: UNet, channels: [1]}\n")
    config = ConfigParser({"a": {"b": 1}, "same": "%a", "file": f"%{tmp_path}/net.yaml::net"})
    assert expand_macros(config) == []
    assert config["same"] == {"b": 1}
    assert config["same"] is not config["a"]
    assert config["file"] == {"_target_": "UNet", "channels": [1]}


def test_relative_ids_are_made_absolute():
    config = ConfigParser({"a": {"b": 1, "c": "@::b", "d": {"e": "@::::b"}}})
    expand_macros(config)
    assert config["a"] == {"b": 1, "c": "@a::b", "d": {"e": "@a::b"}}


def test_all_bad_macros_are_reported(tmp_path):
    file, broken = tmp_path / "net.yaml", tmp_path / "broken.yaml"
    file.write_text("network: 1\n")
    broken.write_text("a: [1\n")
    config = {
        "a": "%/no/such.yaml::x",
        "b": f"%{file}::netwerk",
        "items": [{"c": "%trainr"}],
        "trainer": "@::::a",
        "broken": f"%{broken}::x",
        "text": f"%{tmp_path}/net.txt::x",
    }
    messages = [str(finding) for finding in expand_macros(ConfigParser(config))]
    assert messages[:4] == [
        "a: macro '%/no/such.yaml::x' names a file that does not exist. Mend the path.",
        f"b: macro '%{file}::netwerk' names an item that does not exist. Did you mean 'network'?",
        "items::0::c: macro '%trainr' names an item that does not exist. Did you mean 'trainer'?",
        "trainer: relative ID leads out of the config, in '@::::a'. Remove a separator.",
    ]
    assert messages[4].startswith(f"broken: macro '%{broken}::x' names a file that cannot be read: while parsing")
    assert len(messages) == 6


def test_texts_of_a_command_line_that_are_values():
    config = ConfigParser({"system": {"inferer": 1, "model": 2}, "shuffle": True, "name": "a", "amp": False})
    apply_overrides(config, {"system::inferer": "null", "shuffle": "false", "name": "nullify", "amp": "true"}, BUNDLE)
    assert config.get() == {"system": {"inferer": None, "model": 2}, "shuffle": False, "name": "nullify", "amp": True}
    config = ConfigParser({"run": "$1", "shuffle": True})
    apply_overrides(config, {"shuffle": "false"}, BUNDLE)  # as Ignite would have it
    assert config.get("shuffle") == "false"


def test_overrides_that_monai_drops():
    line = ["fit", "--config_file", "a.yaml", "--a", "None", "--b=None", "--meta_file", "None", "--c", "3", "--d"]
    assert find_lost(line, ["meta_file"]) == ["a", "b"]


def test_what_a_macro_brings_in_is_expanded_too(tmp_path):
    (tmp_path / "a.yaml").write_text("a: {b: '%first'}\n")
    config = ConfigParser({"last": "%middle", "middle": f"%{tmp_path}/a.yaml::a", "first": "%::zero", "zero": [1]})
    seen = []
    assert expand_macros(config, None, lambda config: seen.append(dict(config))) == []
    assert config.get() == {"last": {"b": [1]}, "middle": {"b": [1]}, "first": [1], "zero": [1]}
    assert len(seen) > 1


def test_macros_that_lead_to_themselves_are_told():
    config = ConfigParser({"a": {"b": "%a"}, "c": {"d": "%e"}, "e": {"f": "%c"}, "g": "%g"})
    problems = {finding.id: finding.problem for finding in expand_macros(config)}
    assert problems["a::b"] == "macro '%a' leads to itself"
    assert problems["g"] == "macro '%g' leads to itself"
    assert any(id.startswith(("c::", "e::")) for id in problems)


class TestMacrosWithFiles:
    """Values that configs share."""

    @pytest.fixture
    def bundle(self, tmp_path, monkeypatch):
        """A bundle whose configs/common.yaml says 1, in a working directory whose own says 2."""
        for folder, value in (("bundle", 1), ("elsewhere", 2)):
            (tmp_path / folder / "configs").mkdir(parents=True)
            net = f"net: {{_target_: UNet, channels: [{value}], strides: '@strides'}}"
            (tmp_path / folder / "configs" / "common.yaml").write_text(
                f"value: {value}\n{net}\nmore: '%configs/x.yaml::a'\n"
            )
        (tmp_path / "elsewhere" / "other.json").write_text('{"a": 3}')
        monkeypatch.chdir(tmp_path / "elsewhere")
        return tmp_path / "bundle"

    def test_the_file_of_the_bundle_comes_before_the_one_in_the_working_directory(self, bundle):
        def config():
            macro = "%configs/common.yaml"
            return ConfigParser(
                {"a": f"{macro}::value", "b": [f"{macro}#net#channels"], "c": "%other.json::a", "d": "%a"}
            )

        own, monai = config(), config()
        assert expand_macros(own, bundle) == []
        assert own.get() == {"a": 1, "b": [[1]], "c": 3, "d": 1}
        assert expand_macros(monai) == []
        assert monai.get() == {"a": 2, "b": [[2]], "c": 3, "d": 2}

    def test_in_a_folder_whose_name_has_a_separator_of_ids(self, bundle):
        odd = bundle.rename(bundle.parent / "a#b")
        config = ConfigParser({"a": "%configs/common.yaml::value"})
        assert expand_macros(config, odd) == []
        assert config["a"] == 1

    def test_what_is_wrong_is_told_with_its_id(self, bundle):
        macros = {
            "a": "%configs/commn.yaml::value",
            "b": "%configs/common.yaml::valu",
            "c": "%configs/common.yaml::more",
        }
        config = ConfigParser(macros)
        a, b, c = map(str, expand_macros(config, bundle))
        assert a.startswith("a: macro '%configs/commn.yaml::value' names a file that does not exist in ")
        assert b == "b: macro '%configs/common.yaml::valu' names an item that does not exist. Did you mean 'value'?"
        assert c.startswith("c: macro '%configs/x.yaml::a' names a file that does not exist")
        assert config.get() == {"a": None, "b": None, "c": None}

    def test_an_override_may_lead_into_what_one_brings_in(self, bundle):
        macros = {
            "system": {},
            "strides": 1,
            "net": "%configs/common.yaml::net",
            "value": "%configs/common.yaml::value",
        }
        config = ConfigParser({**macros, "same": "%net"})
        overrides = {"net::channels": [8], "same#norm": "batch"}
        assert apply_overrides(config, overrides, bundle).findings == []
        net = {"_target_": "UNet", "channels": [8], "strides": "@strides"}
        assert config.get() == {**macros, "net": net, "same": {**net, "norm": "batch"}}
        (finding,) = apply_overrides(config, {"value::x": 1}, bundle).findings
        assert finding.problem == "override inside 'value', which is no section but 1"
