"""Archives of bundles are read, never unpacked."""

import io
import json
import os
import stat
import tarfile
import zipfile

import pytest

from monai_lighter.inspection import Level, bundle_digest, inspect, run_digest

CONFIG = json.dumps({"a": {"_target_": "UNet"}})


@pytest.fixture
def place(tmp_path):
    """The path of an archive, in a directory that nothing else may appear in."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "bundle.zip"


def zipped(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (("b/configs/train.json", CONFIG), *members):
            archive.writestr(name, data)


def dangers(path):
    before = sorted(path.parent.parent.rglob("*"))
    report = inspect(path)
    assert sorted(path.parent.parent.rglob("*")) == before
    assert report.exit_code == 2, str(report)
    return " ".join(str(entry) for entry in report.at(Level.DANGER))


def test_a_harmless_one(place):
    zipped(place)
    report = inspect(place)
    assert report.exit_code == 0, str(report)
    assert [entry.file for entry in report.entries] == ["configs/train.json"]


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("../evil.py", "traversal"),
        ("b/../../evil.py", "traversal"),
        ("/etc/evil.py", "absolute"),
        ("C:/evil.py", "absolute"),
        ("b\\..\\evil.py", "backslash"),
        ("b/Configs/train.json", "case"),
        ("b/x\u202etxt.py", "invisible"),
    ],
)
def test_names(name, named, place):
    zipped(place, (name, "x"))
    assert named in dangers(place)


def test_duplicates(place):
    with pytest.warns(UserWarning, match="Duplicate"):
        zipped(place, ("b/configs/train.json", '{"a": {"_target_": "os.system"}}'))
    assert "duplicate" in dangers(place)


def test_link(place):
    info = zipfile.ZipInfo("b/models/model.pt")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    zipped(place, (info, "/etc/passwd"))
    assert "/etc/passwd" in dangers(place)


def test_bombs(place):
    zipped(place, ("b/zeros", bytes(50 << 20)))
    assert "bomb" in dangers(place)
    zipped(place, *((f"b/{i}", "") for i in range(20_001)))
    assert "20002 files" in dangers(place)


def test_overlap(place):
    zipped(place, ("b/x", os.urandom(100)), ("b/y", os.urandom(100)))
    data = bytearray(place.read_bytes())
    first, second = (data.rindex(b"PK\x01\x02", 0, data.rindex(name)) for name in (b"b/x", b"b/y"))
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    place.write_bytes(data)
    assert "overlaps" in dangers(place)


def test_encrypted(place):
    zipped(place, ("b/secret.py", "x"))
    data = bytearray(place.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    place.write_bytes(data)
    assert "encrypted" in dangers(place)


@pytest.mark.parametrize("cut", [10, 60, 200])
def test_truncated(cut, place):
    zipped(place, ("b/x", os.urandom(500)))
    place.write_bytes(place.read_bytes()[:-cut])
    assert "cannot be read" in dangers(place)


def test_broken_content(place):
    zipped(place, ("b/x", b"content"))
    data = bytearray(place.read_bytes())
    start = data.index(b"b/x") + 3
    data[start : start + 4] = b"\xff\xff\xff\xff"
    place.write_bytes(data)
    assert "b" in dangers(place)


def test_code_in_an_archive(place):
    zipped(
        place, ("b/configs/x.yaml", "a: $torch.os.system('x')"), ("b/scripts/__pycache__/x.cpython-311.pyc", bytes(20))
    )
    text = dangers(place)
    assert "posix.system" in text
    assert "byte code" in text


def tarred(path, *infos, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for info, data in infos:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_tar(tmp_path):
    (tmp_path / "here").mkdir()
    path = tmp_path / "here" / "bundle.tar.gz"
    link, device = tarfile.TarInfo("b/link"), tarfile.TarInfo("b/device")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "../../etc", tarfile.CHRTYPE
    config = tarfile.TarInfo("b/configs/a.json")
    tarred(path, (config, b'{"a": "$eval(1)"}'), (link, b""), (device, b""), (tarfile.TarInfo("../x"), b""))
    text = dangers(path)
    for named in ("builtins.eval", "../../etc", "b/device", "traversal"):
        assert named in text


def test_tar_bomb(tmp_path):
    (tmp_path / "here").mkdir()
    path = tmp_path / "here" / "bundle.tgz"
    tarred(path, (tarfile.TarInfo("b/zeros"), bytes(80 << 20)))
    assert "bomb" in dangers(path)


def test_digest_is_that_of_the_content(place, tmp_path):
    zipped(place, ("b/scripts/net.py", "x = 1"))
    with zipfile.ZipFile(place) as archive:
        archive.extractall(tmp_path / "out")
    root = tmp_path / "out" / "b"
    digest = bundle_digest(place)
    assert bundle_digest(root) == digest == inspect(place).digest == inspect(root).digest
    (root / "scripts/__pycache__").mkdir()
    (root / "scripts/__pycache__/net.pyc").write_bytes(b"x")
    (root / "empty").mkdir()
    assert bundle_digest(root) == digest
    (root / "scripts/net.py").rename(root / "scripts/other.py")
    assert bundle_digest(root) != digest
    (root / "scripts/other.py").rename(root / "scripts/net.py")
    assert bundle_digest(root) == digest
    (root / "scripts/net.py").write_text("x = 2 ")
    assert bundle_digest(root) != digest
    os.symlink("x", root / "link")
    with_link = bundle_digest(root)
    os.unlink(root / "link")
    os.symlink("y", root / "link")
    assert bundle_digest(root) != with_link


def test_digest_of_a_run_is_that_of_configs_models_and_scripts(place, tmp_path):
    zipped(place, ("b/scripts/net.py", "x = 1"), ("b/data/configs/a.csv", "1"), ("b/models/model.pt", "m"))
    with zipfile.ZipFile(place) as archive:
        archive.extractall(tmp_path / "out")
    root = tmp_path / "out" / "b"
    digest = run_digest(root)
    assert inspect(place).run_digest == inspect(root).run_digest == digest != inspect(root).digest
    (root / "data/configs/a.csv").write_text("2")
    (root / "LICENSE").write_text("x")
    assert run_digest(root) == digest
    (root / "models/model.pt").write_text("n")
    assert run_digest(root) != digest
