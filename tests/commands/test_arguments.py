from typing import Any

import pytest

from monai_lighter.commands.arguments import UsageError, format_help, read_words, require_configs, require_path
from monai_lighter.commands.run import run
from monai_lighter.commands.stage import fit


def several(
    *config: str,
    trace: bool = False,
    case: int = 0,
    data: "Any" = False,
    trust: "str | None" = None,
    meta_file: "Any" = None,
    prove: bool = True,
    **override: "Any",
):
    """Does something.

    More of it.

    Args:
        config: file.
        trace: also that,
            in two lines.
        override: items.
    """


several.__annotations__.update(trace="bool", case="int", prove="bool")


def one(bundle: "str", stage: "str" = "predict", output: "str | None" = None):
    """Does one thing."""


@pytest.mark.parametrize(("verb", "name"), [(fit, "train.yaml"), (run, "bundle.zip")])
def test_how_much_is_printed_is_a_flag_wherever_it_stands(verb, name):
    for words in (["--quiet", name], [name, "--quiet"], ["--quiet=True", name]):
        assert read_words(verb, words) == ([name], {"quiet": True})
    assert read_words(verb, [name, "--noverbose"]) == ([name], {"verbose": False})
    assert "\n  --quiet\n" in format_help(verb)


def read(*words):
    return read_words(several, words)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["a.yaml", "b.yaml"], (["a.yaml", "b.yaml"], {})),
        (["--config", "a.yaml", "--config=b.yaml"], (["a.yaml", "b.yaml"], {})),
        (["--trace", "a.yaml", "b.yaml"], (["a.yaml", "b.yaml"], {"trace": True})),
        (["a.yaml", "--notrace", "--no-prove"], (["a.yaml"], {"trace": False, "prove": False})),
        (["--prove", "False", "--trace=true"], ([], {"prove": False, "trace": True})),
        (["--case", "3", "--trust", "0.10"], ([], {"case": 3, "trust": "0.10"})),
        (["--meta-file", "['a', 'b']"], ([], {"meta_file": ["a", "b"]})),
        (["--data", "--case=1"], ([], {"data": True, "case": 1})),
        (["--data", "check"], ([], {"data": "check"})),
        (["a.yaml", "--lr", "0.1", "b.yaml"], (["a.yaml", "b.yaml"], {"lr": 0.1})),
        (
            ["--trainer::max_epochs=3", "trainer::devices=[0, 1]"],
            ([], {"trainer::max_epochs": 3, "trainer::devices": [0, 1]}),
        ),
        (["lr=-1e-4", "net#act=relu", "+list=[1]"], ([], {"lr": -1e-4, "net#act": "relu", "+list": [1]})),
        (["--lr", "-1", "--shuffle", "--x=None"], ([], {"lr": -1, "shuffle": True, "x": None})),
        (
            ["--roi", "[96, 96]", "--d", "{a: 1}", "--name", "a=b"],
            ([], {"roi": [96, 96], "d": {"a": 1}, "name": "a=b"}),
        ),
        (["runs/lr=0.1/train.yaml"], (["runs/lr=0.1/train.yaml"], {})),
        (["--lr", "1", "lr=2", "--case=1", "--case", "1"], ([], {"lr": 2, "case": 1})),
        (["--net::channels::-1", "3"], ([], {"net::channels::-1": 3})),
    ],
)
def test_words_become_arguments(words, wanted):
    assert read(*words) == wanted


def test_a_flag_that_may_stand_alone_leaves_a_file_to_be_an_argument(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.yaml", "lr=0.1.yaml"):
        (tmp_path / name).touch()
    assert read("--data", "a.yaml") == (["a.yaml"], {"data": True})
    assert read("lr=0.1.yaml") == (["lr=0.1.yaml"], {})


@pytest.mark.parametrize(
    ("verb", "words", "messages"),
    [
        (several, ["--trace=maybe"], ["--trace: must be True or False, got 'maybe'."]),
        (several, ["--case", "x"], ["--case: must be a whole number, got 'x'."]),
        (
            several,
            ["--trust", "--case"],
            [f"--{name}: needs a value. Write --{name} VALUE." for name in ("trust", "case")],
        ),
        (several, ["--case", "1", "case=2"], ["case: is given twice, 1 and 2. Remove one."]),
        (one, ["b", "--outptu", "x"], ["--outptu: one has no such flag. Did you mean 'output'?"]),
        (one, [], ["bundle: is missing. See monai-lighter one --help."]),
        (
            one,
            ["my", "new", "x", "b"],
            ["one: cannot use 'b'. Quote a name that has spaces; see monai-lighter one --help."],
        ),
    ],
)
def test_all_that_is_wrong_with_a_line(verb, words, messages):
    with pytest.raises(UsageError) as caught:
        read_words(verb, words)
    assert str(caught.value).splitlines() == messages


def test_arguments_by_name_and_by_place():
    assert read_words(one, ["b", "fit", "-o", "x"]) == (["b", "fit"], {"output": "x"})
    assert read_words(one, ["--bundle", "7"]) == ([], {"bundle": "7"})


def test_help_is_made_of_the_docstring():
    lines = format_help(several).splitlines()
    assert lines[:3] == ["usage: monai-lighter several CONFIG … [options]", "", "Does something."]
    assert lines[lines.index("  --trace") + 1] == "      also that, in two lines."
    assert "      Default: True." in lines
    assert lines[-2:] == ["  --ID VALUE, ID=VALUE", "      items."]


def test_configs_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    for name in ("train.yaml", "metadata.json"):
        (tmp_path / "configs" / name).touch()
    assert require_configs(["configs/train.yaml,configs/metadata.json"], "fit") == [
        "configs/train.yaml",
        "configs/metadata.json",
    ]
    with pytest.raises(UsageError) as caught:
        require_configs(["configs/trian.yaml", "no/such.yaml"], "fit")
    assert str(caught.value).splitlines() == [
        "config_file: Cannot find the config file: configs/trian.yaml. Did you mean 'configs/train.yaml'?",
        "config_file: Cannot find the config file: no/such.yaml. Mend the path.",
    ]
    with pytest.raises(UsageError, match=r"got none. Name one: monai-lighter fit configs/train.yaml\."):
        require_configs([], "fit")
    with pytest.raises(UsageError, match=r"must be a bundle, there is no 'config'. Did you mean 'configs'\?"):
        require_path("bundle", "config", "a bundle")
