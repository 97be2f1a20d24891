"""What a bundle says about a file that is missing."""

from monai_lighter.hints import large_file_hint


def test_a_large_file_of_the_bundle_comes_with_the_command_that_fetches_it(tmp_path):
    (tmp_path / "large_files.yml").write_text('large_files:\n  - path: "models/model.pt"\n    url: "somewhere"\n')
    error = RuntimeError("could not be built")
    error.__cause__ = FileNotFoundError(2, "No such file or directory", str(tmp_path / "models/model.pt"))
    assert f"download_large_files --bundle_path {tmp_path}" in str(large_file_hint(error, tmp_path))


def test_no_hint_for_other_files_and_other_errors(tmp_path):
    missing = FileNotFoundError(2, "No such file or directory", "models/model.pt")
    assert large_file_hint(missing, tmp_path) is None
    (tmp_path / "large_files.json").write_text('{"large_files": [{"path": "models/other.pt"}]}')
    assert large_file_hint(missing, tmp_path) is None
    assert large_file_hint(ValueError("models/other.pt"), tmp_path) is None
