"""Files that are reached by another name, or by another way, than one would look for."""

import json
import stat
import subprocess
import sys
import tarfile
import zipfile

import pytest
from planted import checked, touch

from monai_lighter.inspection import Level, inspect

CONFIG = {"a": {"_target_": "os.system"}}


def evil(marker):
    return json.dumps({"a": {**CONFIG["a"], "command": touch(marker)}})


def runs(config, marker, item="a"):
    """Runs an item of a config in another process, sees that it fires, and takes the marker away."""
    code = (
        "import sys; from monai.bundle import ConfigParser; parser = ConfigParser(); parser.read_config(sys.argv[1]); "
    )
    code += "parser.parse(); parser.get_parsed_content(sys.argv[2])"
    command = [sys.executable, "-c", code, str(config), item]
    subprocess.run(command, capture_output=True, check=False, cwd=config.parents[1])
    assert marker.exists()
    marker.unlink()


def test_link_in_place_of_a_config(bundle, marker):
    (bundle / "docs").mkdir()
    (bundle / "docs/notes.txt").write_text(evil(marker))
    (bundle / "configs/other.json").symlink_to("../docs/more.txt")
    (bundle / "docs/more.txt").symlink_to("./notes.txt")
    runs(bundle / "configs/other.json", marker)
    checked(bundle, marker, "target configs/other.json")


def test_link_to_a_directory_of_configs(bundle, marker):
    (bundle / "docs/deep").mkdir(parents=True)
    (bundle / "docs/deep/train.json").write_text("{")
    (bundle / "more").mkdir()
    (bundle / "more/configs").symlink_to("../docs/deep")
    checked(bundle, marker, "config more/configs/train.json")


def test_links_in_circles_and_to_nothing(bundle):
    (bundle / "a.json").symlink_to("b.json")
    (bundle / "b.json").symlink_to("a.json")
    (bundle / "c.json").symlink_to("none")
    assert inspect(bundle).exit_code == 1


def test_links_in_archives(tmp_path, marker):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("b/configs/train.json")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "../docs/notes.txt")
        archive.writestr("b/docs/notes.txt", evil(marker))
    checked(tmp_path / "a.zip", marker, "target configs/train.json")
    (tmp_path / "notes.txt").write_text(evil(marker))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "notes.txt", "b/docs/notes.txt")
        info = tarfile.TarInfo("b/configs/train.json")
        info.type, info.linkname = tarfile.LNKTYPE, "b/docs/notes.txt"
        archive.addfile(info)
    checked(tmp_path / "a.tar", marker, "target configs/train.json")


def test_config_that_is_too_large_outside_configs(bundle, marker):
    (bundle / "models/parts.yaml").write_text(evil(marker) + "\n" + ("# " + "x" * 100 + "\n") * 12_000)
    (bundle / "configs/inference.json").write_text(json.dumps({"x": "%models/parts.yaml::a"}))
    runs(bundle / "configs/inference.json", marker, "x")
    report = checked(bundle, marker, "config models/parts.yaml")
    assert "does not hold" not in str(report)


@pytest.mark.parametrize("name", ["bundle", "bundle.bin", "bundle.pt"])
def test_archive_without_its_suffix(name, tmp_path, marker):
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("x/configs/inference.json", evil(marker))
    checked(tmp_path / name, marker, "target configs/inference.json")


@pytest.mark.parametrize("name", ["typing_extensions.py", "lightning_utilities/__init__.py", "colorsys.py"])
def test_module_in_the_way_of_another(name, bundle, marker):
    module = name.split("/")[0].removesuffix(".py")
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_text(f"open({str(marker)!r}, 'w')")
    code = f"import sys; sys.modules.pop({module!r}, None); import {module}"
    subprocess.run([sys.executable, "-c", code], cwd=bundle, check=True)
    assert marker.exists()
    marker.unlink()
    checked(bundle, marker, f"stands in the way of {module!r}")


def test_usual_directories_stand_in_the_way_of_nothing(bundle):
    for name in ("scripts", "tests", "docs", "src"):
        (bundle / name).mkdir()
        (bundle / name / "__init__.py").write_text("x = 1")
    assert inspect(bundle).level is Level.LOOK
