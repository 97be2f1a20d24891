import stat
import struct
import zipfile

import pytest

from monai_lighter.share.packaging import write_zip
from monai_lighter.trust.archive import ArchiveError, Limits, extract_zip


def link(archive):
    member = zipfile.ZipInfo("b/models/model.pt")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(member, "/etc/passwd")


def twice(archive):
    archive.writestr("b/a.txt", "1")
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("b/a.txt", "2")


def many(archive):
    for i in range(30):
        archive.writestr(f"b/{i}", "")


HOSTILE = {
    "parent": (lambda archive: archive.writestr("b/../../evil", "x"), "leads out of the archive"),
    "absolute": (lambda archive: archive.writestr("/tmp/evil", "x"), "leads out of the archive"),
    "windows": (lambda archive: archive.writestr("C:/evil", "x"), "leads out of the archive"),
    "backslash": (lambda archive: archive.writestr("b\\..\\evil", "x"), "leads out of the archive"),
    "link": (link, "is a link"),
    "twice": (twice, "is there twice"),
    "case": (lambda archive: [archive.writestr(name, "") for name in ("b/A", "b/a")], "is there twice"),
    "file and folder": (
        lambda archive: [archive.writestr(name, "") for name in ("b/a", "b/a/c")],
        "is a file and a folder",
    ),
    "control": (lambda archive: archive.writestr("b/\x1b[2J", ""), "control characters"),
    "bomb": (lambda archive: archive.writestr("b/zeros", bytes(3_000_000)), "unpacks to 3000000 bytes"),
    "bomb in parts": (
        lambda archive: [archive.writestr(f"b/{i}", bytes(900_000)) for i in range(9)],
        "unpacks to 8100004",
    ),
    "many": (many, "must hold at most 20 files, got 31"),
}
LIMITS = Limits(files=20, size=10_000_000, ratio=100, exempt=1_000_000)


@pytest.mark.parametrize(("fill", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_archives_leave_nothing(fill, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/configs/train.yaml", "a: 1")
        fill(archive)
    with pytest.raises(ArchiveError, match=message):
        extract_zip(tmp_path / "x.zip", tmp_path / "to", LIMITS)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_an_archive_that_lies_about_its_sizes_stops_at_what_it_said(tmp_path):
    file = tmp_path / "x.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(5_000_000))
    data = file.read_bytes()
    file.write_bytes(data.replace(struct.pack("<L", 5_000_000), struct.pack("<L", 10)))
    with pytest.raises(ArchiveError, match=r"x\.zip cannot be unpacked"):
        extract_zip(file, tmp_path / "to")
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("cut", [0, 10, 100, -1, -30])
def test_truncated_archives_leave_nothing(cut, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.txt").write_text("content " * 100)
    write_zip(tmp_path / "b", tmp_path / "x.zip")
    data = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[:cut])
    with pytest.raises(ArchiveError, match=r"cut\.zip cannot be unpacked"):
        extract_zip(tmp_path / "cut.zip", tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_broken_byte_is_noticed_and_nothing_left(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("a", "c"):
        (tmp_path / "b" / name).write_bytes(bytes(range(256)) * 50)
    write_zip(tmp_path / "b", tmp_path / "x.zip")
    data = bytearray((tmp_path / "x.zip").read_bytes())
    data[100] ^= 255
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match=r"x\.zip cannot be unpacked"):
        extract_zip(tmp_path / "x.zip", tmp_path / "to")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "x.zip"]


def test_there_and_back(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "c" / "a").write_bytes(b"1")
    write_zip(tmp_path / "b", tmp_path / "x.zip")
    extract_zip(tmp_path / "x.zip", tmp_path / "to")
    assert (tmp_path / "to" / "b" / "c" / "a").read_bytes() == b"1"
