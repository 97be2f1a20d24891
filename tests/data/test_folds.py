import json
from collections import Counter

import pytest

from monai_lighter import Folds
from monai_lighter.errors import ConfigError


def cases(count=20, folder="/data"):
    """Two cases a subject; every fourth subject is ill."""
    return [
        {"image": f"{folder}/s{i // 2:02}_{i % 2}.nii.gz", "patient": f"p{i // 2:02}", "ill": int(i // 2 % 4 == 0)}
        for i in range(count)
    ]


def names(part):
    return [case["image"] for case in part]


def all_folds(path=None, **keywords):
    return [Folds(cases(), fold, path=path, **keywords) for fold in range(keywords.get("n_splits", 5))]


@pytest.mark.parametrize(
    "keys", [{}, {"subject": "patient"}, {"stratify": "ill"}, {"subject": "patient", "stratify": "ill"}]
)
def test_each_case_is_validated_once_and_never_trained_on_then(keys):
    folds = all_folds(**keys)
    assert sorted(name for fold in folds for name in names(fold.val)) == sorted(names(cases()))
    for fold in folds:
        assert sorted(names(fold.train) + names(fold.val)) == sorted(names(cases()))


def test_a_subject_is_in_one_part():
    for fold in all_folds(subject="patient", test_size=0.2):
        parts = [{case["patient"] for case in part} for part in (fold.train, fold.val, fold.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 10


def test_without_subjects_one_is_torn_apart():
    """Else the test above would pass for splits by case."""
    assert any(
        {case["patient"] for case in fold.train} & {case["patient"] for case in fold.val} for fold in all_folds()
    )


def test_classes_are_as_frequent_in_each_fold():
    counts = [Counter(case["ill"] for case in fold.val) for fold in all_folds(stratify="ill", n_splits=2)]
    assert counts == [Counter({0: 7, 1: 3})] * 2


def test_the_test_is_the_same_in_all_folds_and_in_none():
    folds = all_folds(test_size=0.25)
    assert {tuple(names(fold.test)) for fold in folds} == {tuple(names(folds[0].test))}
    assert len(folds[0].test) == 5
    assert not {*names(folds[0].test)} & {name for fold in folds for name in names(fold.train) + names(fold.val)}


@pytest.mark.parametrize(("share", "nearest"), [(0.4, 1 / 3), (0.29, 1 / 4), (0.45, 1 / 2), (0.1, 1 / 10)])
def test_the_share_of_the_test_is_the_nearest_of_equal_parts(share, nearest):
    data = [{"image": f"case_{i}"} for i in range(60)]
    assert len(Folds(data, test_size=share, path=None).test) == pytest.approx(60 * nearest)


def test_repetitions_are_other_splits():
    first, again = (Folds(cases(), fold, n_repeats=2, path=None) for fold in (0, 5))
    assert names(first.val) != names(again.val)
    union = [name for fold in range(5, 10) for name in names(Folds(cases(), fold, n_repeats=2, path=None).val)]
    assert sorted(union) == sorted(names(cases()))


def test_the_order_of_the_data_decides_nothing():
    one, other = (Folds(data, test_size=0.2, path=None) for data in (cases(), cases()[::-1]))
    assert [{*names(part)} for part in (one.test, one.val)] == [{*names(part)} for part in (other.test, other.val)]


def test_the_seed_decides():
    assert names(Folds(cases(), path=None).val) == names(Folds(cases(), path=None).val)
    assert names(Folds(cases(), path=None, seed=1).val) != names(Folds(cases(), path=None).val)


class TestFile:
    def test_is_read_again_wherever_the_data_lie_and_in_whichever_order(self, tmp_path):
        path = tmp_path / "splits.json"
        before = Folds(cases(), path=path).val
        moved = Folds([*reversed(cases(folder="/elsewhere/data"))], path=path).val
        assert sorted(names(moved)) == [name.replace("/data", "/elsewhere/data") for name in sorted(names(before))]

    def test_a_test_without_it_is_told(self, tmp_path, caplog):
        """As where a bundle is tested on another machine, whose test would be of cases that were trained on."""
        path = tmp_path / "splits.json"
        _ = Folds(cases(), path=path).train
        _ = Folds(cases(), path=path).test
        assert not caplog.text  # a training that is the first, and its test
        path.unlink()
        _ = Folds(cases(), path=path).test
        assert caplog.text.count("20 cases are split anew") == 1

    def test_decides_over_the_splitter(self, tmp_path):
        path = tmp_path / "splits.json"
        folds = Folds(cases(), path=path)
        _ = folds.val
        known = json.loads(path.read_text())
        known["folds"][0], known["folds"][1] = known["folds"][1], known["folds"][0]
        path.write_text(json.dumps(known))
        assert names(Folds(cases(), 1, path=path).val) == names(folds.val)

    @pytest.mark.parametrize(
        ("count", "keywords", "message"),
        [
            (22, {}, r"has 2 cases that are not in .*, such as 's10_0.nii.gz'"),
            (18, {}, r"has 2 cases fewer than in .*, such as 's09_0.nii.gz'"),
            (20, {"n_splits": 4}, r"n_splits: is 4, and .* was written for 5"),
            (20, {"subject": "patient"}, r"subject: is 'patient', and .* was written for None"),
        ],
    )
    def test_of_something_else_is_an_error_and_stays(self, tmp_path, count, keywords, message):
        path = tmp_path / "splits.json"
        _ = Folds(cases(), path=path).val
        before = path.read_bytes()
        with pytest.raises(ConfigError, match=message):
            _ = Folds(cases(count), path=path, **keywords).val
        assert path.read_bytes() == before


def test_a_table_whose_files_lie_beside_it(tmp_path):
    rows = ["image,ill"]
    for i in range(4):
        (tmp_path / f"{i}.nii.gz").touch()
        rows.append(f"{i}.nii.gz,{i % 2}")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    folds = Folds(tmp_path / "cases.csv", n_splits=2, stratify="ill", path=None)
    assert {case["image"] for case in folds.train + folds.val} == {str(tmp_path / f"{i}.nii.gz") for i in range(4)}
    assert {case["ill"] for case in folds.val} == {"0", "1"}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"fold": 5}, "fold: must be from 0 to 4, got 5"),
        ({"n_splits": 1}, "n_splits, n_repeats: must be 2 or more, 1 or more, got 1, 1"),
        ({"test_size": 0.7}, "test_size: must be from 0 to 0.5, got 0.7"),
        (
            {"subject": "patiant"},
            r"subject: case 0 has no 'patiant', and 19 others. The cases have image, patient, ill",
        ),
        ({"n_splits": 11, "subject": "patient"}, "n_splits: is 11, for 10 subjects"),
        ({"name": "patient"}, "10 cases stand more than once, such as 'p00' by their 'patient'"),
    ],
)
def test_refused(keywords, message):
    with pytest.raises(ConfigError, match=message):
        Folds(cases(), path=None, **keywords)


def test_corrected_patients_do_not_keep_a_split_that_tears_them(tmp_path):
    path = tmp_path / "splits.json"
    assert Folds(cases(), subject="patient", path=path).train
    corrected = [{**case, "patient": f"q{i % 7}"} for i, case in enumerate(cases())]
    with pytest.raises(ConfigError, match=r"7 subjects \(patient\) in two parts, such as 'q0'"):
        Folds(corrected, subject="patient", path=path).train  # noqa: B018
    relabelled = [{**case, "patient": case["patient"] + "x"} for case in cases()]
    assert Folds(relabelled, subject="patient", path=path).train


def test_an_edited_split_has_no_case_twice(tmp_path):
    path = tmp_path / "splits.json"
    splits = Folds(cases(), path=path)._splits
    splits["folds"][0].append(splits["folds"][1][0])
    path.write_text(json.dumps({**json.loads(path.read_text()), **splits}))
    with pytest.raises(ConfigError, match="1 cases in two parts"):
        Folds(cases(), path=path).train  # noqa: B018


def test_a_subject_that_is_written_in_several_ways_is_one():
    ways = [lambda n: n, float, str, lambda n: f" {n} "]
    data = [{**case, "patient": ways[i % 4](i // 4)} for i, case in enumerate(cases())]
    for fold in range(5):
        folds = Folds(data, fold, subject="patient", path=None)
        assert len(folds.val) == 4
        assert len({int(case["patient"]) for case in folds.val}) == 1


@pytest.mark.parametrize("key", ["subject", "stratify"])
def test_an_empty_cell_of_pandas_is_no_value(key):
    data = [{**case, "patient": float("nan") if i > 16 else "p" + str(i)} for i, case in enumerate(cases())]
    with pytest.raises(ConfigError, match=f"{key}: case 17 has no 'patient', and 2 others"):
        Folds(data, path=None, **{key: "patient"})


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"data": []}, "data: must be a list of dictionaries"),
        ({"data": ["a.nii"]}, "got 1 of str"),
        ({"data": {"training": cases()}}, "got dict"),
        ({"data": "none.csv"}, "no table 'none.csv'"),
        ({"fold": "1"}, "fold: must be a whole number, got '1'"),
        ({"n_splits": 5.5}, "n_splits: must be a whole number"),
        ({"test_size": 0.01}, "20 cases cannot be split into 100 parts"),
        ({"stratify": "image"}, "20 cases cannot be split into 5 parts"),
    ],
)
def test_ordinary_mistakes_are_told(keywords, message):
    with pytest.raises(ConfigError, match=message):
        Folds(**{"data": cases(), "path": None, **keywords}).train  # noqa: B018


@pytest.mark.parametrize("text", ["{", "[]", '{"folds": [[]]}'])
def test_a_file_that_is_no_file_of_splits_stays(tmp_path, text):
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(ConfigError, match="is no file of splits"):
        Folds(cases(), path=tmp_path / "splits.json").train  # noqa: B018
    assert (tmp_path / "splits.json").read_text() == text


@pytest.mark.parametrize("row", ["a.nii,p1,more", "a.nii"])
def test_a_row_of_another_length_is_told(tmp_path, row):
    (tmp_path / "cases.csv").write_text(f"image,patient\nb.nii,p0\n{row}\n")
    with pytest.raises(ConfigError, match="row 2 has not as many cells"):
        Folds(tmp_path / "cases.csv", n_splits=2, path=None)
