import pytest
from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent, ConfigItem
from monai.bundle.reference_resolver import ReferenceResolver

from monai_lighter.config.resolver import Resolver
from monai_lighter.errors import ComponentError


def parser(config, **arguments):
    result = ConfigParser(config)
    result.ref_resolver = Resolver(**arguments)
    return result


def test_what_it_gives_is_what_monai_gives():
    config = {"a": 1, "b": "$@a + 1", "c": {"_target_": "UNet", "x": "@b"}, "d": ["@a", {"e": "@b"}]}
    assert parser(config).get_parsed_content("d") == ConfigParser(config).get_parsed_content("d")


def test_monai_resolves_every_item_through_the_method_that_is_wrapped():
    assert ReferenceResolver.get_resolved_content.__code__.co_names == ("_resolve_one_item",)
    assert "_resolve_one_item" in ReferenceResolver._resolve_one_item.__code__.co_names


@pytest.mark.parametrize(
    ("config", "id", "message"),
    [
        (
            {"outer": {"_target_": "Compose", "transforms": [{"_target_": "Flipd", "keys": 0, "nope": 1}]}},
            "outer::transforms::0",
            "Flipd could not be built: ",
        ),
        ({"outer": "$@inner", "inner": "$1 / 0"}, "inner", "'$1 / 0' failed: ZeroDivisionError: division by zero"),
        ({"outer": "$@inner[3]", "inner": [1]}, "outer", "'$@inner[3]' failed: IndexError: list index out of range"),
        (
            {"outer": {"a": {"_target_": "torch.nn.Linear", "in_features": "x", "out_features": 1}}},
            "outer::a",
            "torch.nn.Linear could not be built: TypeError: ",
        ),
    ],
)
def test_a_failure_names_the_innermost_item(config, id, message):
    with pytest.raises(ComponentError) as caught:
        parser(config).get_parsed_content("outer")
    assert caught.value.id == id
    assert str(caught.value).startswith(f"{id}: {message}")
    assert caught.value.__cause__ is not None


def test_a_missing_id_is_monais_error():
    with pytest.raises(KeyError, match="missing"):
        parser({"a": 1}).get_parsed_content("missing")


def test_the_traceback_of_the_cause_is_kept(tmp_path):
    with pytest.raises(ComponentError) as caught:
        parser({"a": {"_target_": "json.loads", "s": "{"}}).get_parsed_content("a")
    assert "JSONDecodeError" in str(caught.value)


def test_an_item_is_told_of_once_before_it_is_used():
    told = []
    result = parser({"a": {"_target_": "UNet"}, "b": "$len(@c)", "c": [1]}, built=lambda *item: told.append(item))
    result.get_parsed_content("b")
    result.get_parsed_content("b")
    assert told == [("c", [1]), ("b", 1)]


def test_items_are_exchanged_as_they_are_added():
    class Exchanged(ConfigComponent):
        def instantiate(self, **kwargs):
            return "exchanged"

    def exchange(item: ConfigItem) -> ConfigItem:
        if isinstance(item, ConfigComponent) and item.get_config()["_target_"] == "UNet":
            return Exchanged(config=item.get_config(), id=item.get_id(), locator=item.locator)
        return item

    config = {"net": {"_target_": "UNet"}, "flip": {"_target_": "Flip"}, "name": "net", "ref": "@net"}
    result = parser(config, exchange=exchange)
    assert result.get_parsed_content("ref") == "exchanged"
    assert type(result.get_parsed_content("flip")).__name__ == "Flip"


def test_arguments_without_names():
    config = {
        "x": 2,
        "joined": {"_target_": "os.path.join", "_args_": ["a", "$str(@x)"]},
        "sum": {"_target_": "builtins.sum", "_args_": [[1, "@x"]], "start": 4},
        "later": {"_target_": "builtins.pow", "_args_": ["@x"], "_mode_": "callable", "mod": 5},
        "not": {"_target_": "builtins.sum", "_args_": [1], "_disabled_": True},
    }
    result = parser(config).get_parsed_content("")
    assert (result["joined"], result["sum"], result["later"](4)) == ("a/2", 7, 1)
    assert "not" not in result


def test_a_function_that_is_called_and_not_handed_on_is_told():
    config = {"pred_transforms": [{"_target_": "torch.argmax", "dim": 1}]}
    with pytest.raises(ComponentError, match=r"to be called later, add `_mode_: callable`\.$"):
        parser(config).get_parsed_content("pred_transforms")
    with pytest.raises(ComponentError) as caught:
        parser({"a": {"_target_": "torch.nn.Linear"}}).get_parsed_content("a")
    assert "callable" not in str(caught.value)


def read(table, more=None):
    """The rows of a table.

    Args:
        table: csv file with the columns ``image`` and ``label``,
            paths of files.
        more: nothing.
    """
    with open(table) as file:
        return file.readlines()


HERE = f"{__name__}.read"


@pytest.mark.parametrize(
    ("config", "hint"),
    [
        (
            {"_target_": HERE, "table": "$'/no/' + 'table.csv'"},
            "What it is, table: csv file with the columns ``image`` and ``label``, paths of files.",
        ),
        (
            {"_target_": "torch.argmax", "dim": 1},
            "Where the function itself is meant, to be called later, add `_mode_: callable`.",
        ),
        (
            {"_target_": HERE, "more": 1},
            "Where the function itself is meant, to be called later, add `_mode_: callable`.",
        ),
        (
            {"_target_": "lightning.pytorch.Trainer", "accelerator": "cpu", "devices": [0]},
            "should be an int > 0. Given: devices: [0].",
        ),
    ],
)
def test_what_else_is_known_of_the_arguments(config, hint):
    with pytest.raises(ComponentError) as caught:
        parser({"outer": config}).get_parsed_content("outer")
    assert str(caught.value).endswith(hint)


def test_a_type_error_within_a_function_says_nothing_of_its_mode():
    with pytest.raises(ComponentError) as caught:
        parser({"outer": {"_target_": HERE, "table": [1]}}).get_parsed_content("outer")
    assert "_mode_" not in str(caught.value)
