import pytest

from monai_lighter.data.case_lists import find_table_flaws

SOUND = "image,label\na.nii.gz,0\nb.nii.gz,1\n"
KEYS = ("image", "label")
FLAWS = {
    "sound": (SOUND.encode(), KEYS, False, []),
    "a BOM that the reader coped with": (SOUND.encode("utf-8-sig"), KEYS, False, []),
    "a BOM that it did not": (SOUND.encode("utf-8-sig"), ("\ufeffimage", "label"), False, ["BOM"]),
    "UTF-16": (SOUND.encode("utf-16"), KEYS, True, ["BOM"]),
    "Latin-1": (SOUND.replace("a.", "ä.").encode("latin-1"), KEYS, False, ["byte 12"]),
    "semicolons that the reader coped with": (SOUND.replace(",", ";").encode(), KEYS, False, []),
    "semicolons that it did not": (SOUND.replace(",", ";").encode(), ("image;label",), False, ["image;label"]),
    "a column twice": (b"image,image\na,b\n", KEYS, False, ["image"]),
    "more cells than columns": (b"image,label\na,b,c\n", KEYS, False, ["3 cells"]),
    "blanks": (b"image,label\na,\n ,1\nc\n", KEYS, False, ["blank"] * 3),
    "blanks in a column that no case has": (b"image,remark\na,\nb,x\n", ("image",), False, []),
    "no rows": (b"image,label\n", (), True, ["0 rows"]),
    "empty": (b"", (), True, ["0 rows"]),
}


@pytest.mark.parametrize(("content", "used", "failed", "expected"), FLAWS.values(), ids=FLAWS)
def test_flaws_of_a_table(content, used, failed, expected, tmp_path):
    (tmp_path / "cases.csv").write_bytes(content)
    assert [value for value, _, _ in find_table_flaws(str(tmp_path / "cases.csv"), used, failed)] == expected
