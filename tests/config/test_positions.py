import json

import pytest

from monai_lighter.config.positions import Place, Positions


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda name, text: (tmp_path / name).write_text(text)


YAML = """\
a: 1
b:
  c: {d: x, e: [1,
    2]}
base: &base
  f: 1
g:
  <<: *base
  h: 2
"""


def test_items_of_yaml_have_the_lines_of_their_keys(write):
    write("x.yaml", YAML)
    places = Positions(["x.yaml"])
    ids = {"a": 1, "b": 2, "b::c": 3, "b::c::d": 3, "b::c::e": 3, "b::c::e::1": 4, "g": 7, "g::f": 6, "g::h": 9}
    assert {id: places.place(id).line for id in ids} == ids
    assert places.place("b::c::missing::deeper") == Place("x.yaml", 3)
    assert str(places.place("a")) == "x.yaml:1"


def test_json_gives_the_lines_that_yaml_would(write):
    config = {"a": 1, "b": {"c": [1, {"d": 'x, } ] \\" é'}, [], {}], "e": None}, "f": [True, -1.5e3]}
    text = json.dumps(config, indent=4, ensure_ascii=False).replace("    ", "\t")
    write("x.json", text)
    write("x.yaml", text.replace("\t", "    "))
    ids = ["a", "b", "b::c", "b::c::0", "b::c::1", "b::c::1::d", "b::c::3", "b::e", "f", "f::1"]
    one, two = Positions(["x.json"]), Positions(["x.yaml"])
    assert [one.place(id).line for id in ids] == [two.place(id).line for id in ids]
    assert one.place("f::1").line == len(text.splitlines()) - 2


def test_files_are_merged_as_monai_merges_them(write):
    write("x.yaml", "a: {b: 1, c: 2}\nd: [1, 2]\n")
    write("y.json", '{\n"a#b": 3,\n"+d": [3],\n"+a": {"e": 4}}')
    places = Positions(["x.yaml", "y.json"], ["a#c"])
    assert places.place("a::b") == Place("y.json", 2)
    assert places.place("a::c") == Place("command line")
    assert places.place("a::e") == Place("y.json", 4)
    assert places.place("d::1") == Place("x.yaml", 2)
    assert places.place("d::2") == Place("y.json", 3)


@pytest.mark.parametrize(
    ("name", "text"), [("x.yaml", "a:\n  b: 1\n  b: 2\n"), ("x.json", '{"a":\n{"b": 1,\n"b": 2}}')]
)
def test_keys_that_stand_twice(name, text, write):
    write(name, text)
    (double,) = Positions([name]).doubles()
    assert double.id == "a::b"
    assert f"at {name}:2 and line 3" in double.problem


def test_what_cannot_be_read_has_no_places(write):
    write("x.yaml", "a: [1")
    write("x.json", '{"a": ')
    assert Positions(["x.yaml", "x.json", "none.yaml"]).place("a") == Place("x.yaml")


def test_places_in_files_merged_by_the_rules_of_lighter(write):
    write("a.yaml", "trainer:\n  max_epochs: 1\n  callbacks:\n    - {x: 1}\nvars: {a: 1,\n  b: 2}\n")
    write("b.yaml", "trainer:\n  callbacks:\n    - y: 2\n  =max_epochs: 3\n\n~vars: [a]\nvars::c: 5\n")
    places = Positions(["a.yaml", "b.yaml"], (), composed=True)
    ids = {
        "trainer::max_epochs": "b.yaml:4",
        "trainer::callbacks::0::x": "a.yaml:4",
        "trainer::callbacks::1::y": "b.yaml:3",
        "vars::b": "a.yaml:6",
        "vars::c": "b.yaml:7",
    }
    assert {id: str(places.place(id)) for id in ids} == ids


@pytest.mark.parametrize("folder", ["", "bundle/"])
def test_what_a_macro_brings_in_stands_where_it_is_written(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configs = tmp_path / folder / "configs"
    configs.mkdir(parents=True)
    (configs / "common.yaml").write_text("net:\n  channels:\n    - 4\n    - 8\nsteps: [1]\n")
    (configs / "x.yaml").write_text(
        "\nnet: '%configs/common.yaml::net'\nall: '%configs/common.yaml'\nlost: '%none.yaml::a'\n"
    )
    places = Positions([f"{folder}configs/x.yaml"], ["net::channels"])
    common = f"{folder}configs/common.yaml"
    assert places.place("net") == Place(f"{folder}configs/x.yaml", 2)
    assert places.place("net::channels") == Place("command line")
    assert Positions([f"{folder}configs/x.yaml"]).place("net::channels::1") == Place(common, 4)
    assert places.place("all::steps::0") == Place(common, 5)
    assert places.place("lost::a") == Place(f"{folder}configs/x.yaml", 4)
