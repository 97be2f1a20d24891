import pytest

from monai_lighter.errors import ConfigError
from monai_lighter.study.values import Range, format_value, read_values

LISTS = {
    "0,1,2": [0, 1, 2],
    "1e-3, 1e-2": [0.001, 0.01],
    "0.5": [0.5],
    "-1,1": [-1, 1],
    "[16,32]": [[16, 32]],
    "[16,32],[32,64]": [[16, 32], [32, 64]],
    "(48,48,48)": [(48, 48, 48)],
    "{'a': 1, 'b': 2}": [{"a": 1, "b": 2}],
    "adam,sgd": ["adam", "sgd"],
    "'a,b'": ["a,b"],
    "'a,b',c": ["a,b", "c"],
    "@unet,@segresnet": ["@unet", "@segresnet"],
    "$max(1, 2), 3": ["$max(1, 2), 3"],
    "true,false": [True, False],
    "'true','null'": [True, None],  # as fit reads them
    "None,1": [None, 1],
    "logs(1)": ["logs(1)"],
}


@pytest.mark.parametrize(("text", "values"), LISTS.items(), ids=LISTS)
def test_commas_outside_of_brackets_and_quotes_separate(text, values):
    assert read_values("x", text) == values


RANGES = {
    "log(1e-4, 1e-1)": Range("log", 1e-4, 1e-1),
    "uniform(-1, 2.5)": Range("uniform", -1, 2.5),
    " int(2,8) ": Range("int", 2, 8),
}


@pytest.mark.parametrize(("text", "range"), RANGES.items(), ids=RANGES)
def test_a_range_has_two_ends(text, range):
    assert read_values("x", text) == range


WRONG = {
    "log(0, 1)": "must have numbers above 0, got 'log",
    "log(1e-1, 1e-4)": "must have the smaller number first",
    "int(1, 2.5)": "must have two whole numbers",
    "uniform(1)": "must have two numbers",
    "uniform(1, 2, 3)": "must have two numbers",
    "uniform(low, high)": "must have two numbers",
    "0,1,0": "has the value 0 twice",
    "1e-3,0.001": "has the value 0.001 twice",
    "true,True": "has the value True twice",
    "0,,1": "has an empty value",
    "0,1,": "has an empty value",
}


@pytest.mark.parametrize(("text", "problem"), WRONG.items(), ids=WRONG)
def test_what_is_wrong_names_the_id(text, problem):
    with pytest.raises(ConfigError, match=problem) as raised:
        read_values("optimizer::lr", text)
    assert raised.value.findings[0].id == "optimizer::lr"


@pytest.mark.parametrize(
    "value", [0, 1.5e-7, 0.1 + 0.2, "adam", "a,b", "1", [16, 32], (1, 2), {"a": 1}, None, True, False]
)
def test_a_value_is_read_again_as_it_was(value):
    assert read_values("x", format_value(value)) == [value]
