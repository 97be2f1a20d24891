"""Files that other programs run or obey are named."""

import zipfile

import pytest

from monai_lighter.inspection import Level, inspect


@pytest.mark.parametrize(
    ("name", "text", "level"),
    [
        ("sitecustomize.py", "x = 1", Level.DANGER),
        ("sitecustomize/__init__.py", "x = 1", Level.DANGER),
        ("scripts/usercustomize.cpython-311.pyc", "x", Level.DANGER),
        (".envrc", "x", Level.DANGER),
        ("run", "#!/bin/sh\nrm -rf ~\n", Level.LOOK),
        ("run.sh", "rm -rf ~\n", Level.LOOK),
        ("Makefile", "all:\n\trm -rf ~\n", Level.LOOK),
        (".env", "LD_PRELOAD=x", Level.LOOK),
        (".vscode/tasks.json", "{}", Level.LOOK),
        ("pyproject.toml", "[build-system]\nbuild-backend = 'x'\n", Level.LOOK),
        ("pyproject.toml", "[tool.ruff]\nline-length = 100\n", Level.OK),
        ("docs/x.html", "<p><script src='http://e.org/x'></script>", Level.LOOK),
        ("docs/x.svg", "<svg onload = 'x()'/>", Level.LOOK),
        ("docs/x.html", "<p>on = off</p>", Level.OK),
        ("docs/README.md", "# A script\n", Level.OK),
        (".git/hooks/update.sample", "#!/bin/sh\n", Level.OK),
    ],
)
def test_files(name, text, level, bundle):
    (bundle / name).parent.mkdir(exist_ok=True, parents=True)
    (bundle / name).write_text(text)
    entries = [entry for entry in inspect(bundle).entries if entry.file == name]
    assert max((entry.level for entry in entries), default=Level.OK) is level


def test_zip_file_with_nothing_in_it_or_something_behind_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "b.zip", "w"):
        pass
    assert "there is no file in it" in str(inspect(tmp_path / "b.zip").at(Level.LOOK))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("configs/train.json", "{}")
        archive.comment = b"a comment"
    assert inspect(tmp_path / "b.zip").exit_code == 0
    with (tmp_path / "b.zip").open("ab") as stream:
        stream.write(b"junk" * 10)
    assert "40 bytes behind" in str(inspect(tmp_path / "b.zip").at(Level.LOOK))
