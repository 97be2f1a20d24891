"""What a bundle says about a file that is missing."""

import pytest

from monai_lighter.errors import BundleError
from monai_lighter.errors.context import missing_file_hint, missing_file_hints

YAML = 'large_files:\n  - path: "models/model.pt"\n    url: "somewhere"\n'
JSON = '{"large_files": [{"path": "models/other.pt", "url": "x"}, {"path": "models/model.pt", "url": "y"}]}'
MISSING = FileNotFoundError(2, "No such file or directory", "/bundle/models/model.pt")


@pytest.mark.parametrize(
    ("name", "text"), [("large_files.yml", YAML), ("large_files.yaml", YAML), ("large_files.json", JSON)]
)
def test_a_large_file_of_the_bundle_comes_with_the_command_that_fetches_it(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    error = RuntimeError("could not be built")
    error.__cause__ = MISSING
    assert f"download_large_files --bundle_path {tmp_path}" in str(missing_file_hint(error, tmp_path))
    assert missing_file_hint(FileNotFoundError("no weights in 'models/model.pt'."), tmp_path)


def test_no_hint_for_other_files_and_other_errors(tmp_path):
    assert missing_file_hint(MISSING, tmp_path) is None
    (tmp_path / "large_files.json").write_text(JSON)
    assert (
        missing_file_hint(FileNotFoundError(2, "No such file or directory", "models/best_model.pt"), tmp_path) is None
    )
    assert missing_file_hint(ValueError("models/model.pt"), tmp_path) is None


@pytest.mark.parametrize(
    "text", ["large_files: [", "- 1", "a: 1", "large_files:", "large_files: 3", "large_files: [3]", ""]
)
def test_a_list_that_is_none_hides_no_error(tmp_path, text):
    (tmp_path / "large_files.yml").write_text(text)
    assert missing_file_hint(MISSING, tmp_path) is None


def test_an_error_is_raised_with_the_hint_or_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), missing_file_hints(tmp_path):
        raise MISSING
    (tmp_path / "large_files.yml").write_text(YAML)
    with (
        pytest.raises(BundleError, match=r"/bundle/models/model.pt.* The bundle lists it") as raised,
        missing_file_hints(tmp_path),
    ):
        raise MISSING
    assert raised.value.__cause__ is MISSING


@pytest.mark.parametrize(
    ("name", "text", "command"),
    [("train.yaml", "system: {}", "run fit --workflow monai_lighter.Workflow"), ("train.json", "{}", "run --workflow")],
)
def test_weights_that_a_training_makes_come_with_its_command(tmp_path, name, text, command):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / name).write_text(text)
    missing = FileNotFoundError(2, "No such file or directory", str(tmp_path / "models" / "model.pt"))
    hint = str(missing_file_hint(missing, tmp_path))
    assert f"{command} " in hint
    assert hint.endswith(str(tmp_path / "configs" / name))
    assert missing_file_hint(FileNotFoundError(2, "No such file", str(tmp_path / "data" / "x.nii")), tmp_path) is None
    (tmp_path / "configs" / name).unlink()
    assert missing_file_hint(missing, tmp_path) is None
