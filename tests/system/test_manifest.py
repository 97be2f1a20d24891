import json

import pytest

from monai_lighter import ConfigError
from monai_lighter.system.manifest import MANIFEST, Manifest, ManifestRow


def list_rows(manifest):
    return [row for rows in manifest.group_by_case().values() for row in rows]


class TestManifest:
    @pytest.mark.parametrize("name", ["a;b.txt", "a,b.txt", 'a"b.txt', " a b ", "é.txt", "\udce9.txt", "a\u2028b", "'"])
    def test_any_name_comes_back(self, tmp_path, name):
        row = ManifestRow(name, (name, "c.txt"), ("1", "2"), "0.5", "written", "3", "4")
        Manifest(tmp_path).append(row)
        assert list_rows(Manifest(tmp_path)) == [row]
        Manifest(tmp_path).rewrite({})
        assert list_rows(Manifest(tmp_path)) == [row]

    @pytest.mark.parametrize("cut", range(1, 40, 6))
    def test_a_row_that_was_cut_off_takes_no_other_with_it(self, tmp_path, cut):
        first, second, third = (
            ManifestRow(f"case, {i}", (f"{i};.txt",), (f"{i}" * 8,), state="written") for i in range(3)
        )
        manifest = Manifest(tmp_path)
        manifest.append(first, second)
        path = tmp_path / MANIFEST
        path.write_bytes(path.read_bytes()[:-cut])
        again = Manifest(tmp_path)
        assert [row for row in list_rows(again) if row != second] == [first][: len(list_rows(again))]
        again.append(third)
        assert list_rows(Manifest(tmp_path))[-1] == third
        assert Manifest(tmp_path).find_owner("0;.txt") == first

    def test_the_last_row_that_names_a_file_has_it(self, tmp_path):
        manifest = Manifest(tmp_path)
        manifest.append(ManifestRow("x", ("a", "b"), ("1", "2"), state="written", made_of="first"))
        manifest.append(ManifestRow("x", ("b", "c"), ("3", "4"), state="written", made_of="second"))
        for each in (manifest, Manifest(tmp_path)):
            assert each.find_owner("a") == ManifestRow(
                "x", ("a",), ("1",), state="written"
            )  # of which nobody says it is whole
            assert each.find_owner("b").made_of == "second"
        manifest.rewrite({})
        assert len((tmp_path / MANIFEST).read_text().splitlines()) == 3

    def test_cases_of_other_runs_stay_and_come_first(self, tmp_path):
        manifest = Manifest(tmp_path)
        manifest.append(*(ManifestRow(case, (case,), ("1",), state="written") for case in ("d", "b", "a", "c")))
        manifest.rewrite({"a": 0, "b": 1, "c": 2})
        assert [row.case for row in list_rows(Manifest(tmp_path))] == ["d", "a", "b", "c"]

    def test_a_file_that_is_no_manifest_stays_as_it_is(self, tmp_path):
        (tmp_path / MANIFEST).write_text("SeriesInstanceUID,Size\n1.2,3\n")
        with pytest.raises(ConfigError, match="is no manifest of cases, but begins with 'SeriesInstanceUID,Size'"):
            Manifest(tmp_path)
        assert (tmp_path / MANIFEST).read_text() == "SeriesInstanceUID,Size\n1.2,3\n"

    def test_what_earlier_runs_wrote_in_its_place(self, tmp_path):
        lines = [json.dumps({"file": "a.txt", "case": "../a.nii", "sha256": "1"}), '{"file": "y_p']
        (tmp_path / ".cases.jsonl").write_text("\n".join(lines))
        manifest = Manifest(tmp_path)
        assert manifest.find_owner("a.txt").case_sha256 == "1"
        manifest.rewrite({})
        assert not (tmp_path / ".cases.jsonl").exists()
        assert Manifest(tmp_path).find_owner("a.txt").case == "../a.nii"
