import json

import pytest

from monai_lighter.commands.arguments import UsageError
from monai_lighter.commands.compare import compare

HEADER = "case,metric,class,value\n"


@pytest.fixture
def runs(tmp_path):
    for name, values in {"a": (0.5, 0.6, 0.7), "b": (0.6, 0.8, "nan")}.items():
        (tmp_path / name).mkdir()
        rows = "".join(f"case {i},dice,object,{value}\n" for i, value in enumerate(values))
        (tmp_path / name / "dice.csv").write_text(HEADER + rows)
    return [str(tmp_path / "a"), str(tmp_path / "b")]


def test_the_table_has_a_row_for_each_metric_and_class(runs):
    text = compare(*runs)
    assert "2 (1 left out)  0.55 -> 0.7  +0.15 [" in text
    assert "2/0/0" in text
    assert "  case 1  0.6 -> 0.8" in text


def test_json_is_json_where_a_number_is_none(runs):
    one = json.loads(compare(*runs, json=True))["rows"][0]
    assert (one["metric"], one["class"], one["n"], one["better"]) == ("dice", "object", 2, 2)
    (path,) = [f"{run}/dice.csv" for run in runs[1:]]
    with open(path, "w") as file:
        file.write(HEADER + "".join(f"case {i},dice,object,nan\n" for i in range(3)))
    one = json.loads(compare(*runs, json=True), parse_constant=lambda name: pytest.fail(name))["rows"][0]
    assert one["difference"] is None


def test_one_run_is_no_comparison(runs):
    with pytest.raises(UsageError, match="must be two or more, got 1"):
        compare(runs[0])
