import json

import numpy as np
import pytest

from monai_lighter.errors import ConfigError
from monai_lighter.study.study_folder import COMPLETE, PRUNED, StudyRequest, Trial, read_study, trial_folder

VALUES = {0.1: [0.5, 0.75, 0.9], 0.01: [0.7, 0.72, 0.71]}


def request(**changes):
    kept = StudyRequest(
        ["train.yaml"],
        {"seed": "0"},
        {"fold": [0, 1, 2], "lr": [0.1, 0.01]},
        {},
        ["fold"],
        None,
        "",
        "maximize",
        True,
        "d",
    )
    return kept._replace(**changes)


def write_study(folder, values=VALUES, **changes):
    request(**changes).write(folder)
    for number, (lr, fold) in enumerate((each, fold) for each in values for fold in range(3)):
        trial = Trial(trial_folder(folder, number), number, number // 3, {"lr": lr, "fold": fold}, {"fold": fold})
        trial.folder.mkdir()
        trial._replace(state=COMPLETE, value=values[lr][fold], metric="val/metrics/dice/epoch", epoch=fold).write()
    return folder


def test_means_and_deviations_are_numpys(tmp_path):
    study = read_study(write_study(tmp_path))
    for one, values in zip(study.sets, VALUES.values(), strict=True):
        assert one.mean == pytest.approx(np.mean(values), rel=1e-15)
        assert one.std == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert [one.parameters for one in study.sets] == [{"lr": 0.1}, {"lr": 0.01}]


@pytest.mark.parametrize(("direction", "best"), [("maximize", 0.1), ("minimize", 0.01)])
def test_the_best_is_by_the_mean_and_the_direction(tmp_path, direction, best):
    study = read_study(write_study(tmp_path, {0.1: [0.5, 0.9, 0.9], 0.01: [0.7, 0.7, 0.7]}, direction=direction))
    assert study.best.parameters == {"lr": best}


@pytest.mark.parametrize("change", [{"state": PRUNED}, {"value": None}])
def test_a_set_with_a_trial_that_has_no_value_has_no_mean_and_is_never_the_best(tmp_path, change):
    write_study(tmp_path)
    Trial.read(trial_folder(tmp_path, 2))._replace(**change).write()
    study = read_study(tmp_path)
    assert study.sets[0].mean is study.sets[0].std is None
    assert study.best.number == 1


def test_a_set_of_which_a_fold_has_not_begun_has_no_mean(tmp_path):
    write_study(tmp_path)
    (trial_folder(tmp_path, 4) / "trial.json").unlink()
    assert [one.mean is None for one in read_study(tmp_path).sets] == [False, True]


def test_what_is_written_is_read_again(tmp_path):
    write_study(tmp_path)
    study = read_study(tmp_path)
    assert study.request == request()
    assert study.trials[1] == Trial.read(tmp_path / "001")
    assert (study.trials[1].fold, study.trials[1].weights_path) == ("1", None)


def test_a_file_of_a_later_version_may_have_more(tmp_path):
    write_study(tmp_path)
    path = tmp_path / "000" / "trial.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "red"}))
    assert read_study(tmp_path).trials[0].number == 0


def test_a_folder_without_a_study_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"is no study, it has no study\.json"):
        read_study(tmp_path)
