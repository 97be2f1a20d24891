import copy
import re
from pathlib import Path

import pytest
import yaml
from tiny_bundle import CONFIG

from monai_lighter.errors import ConfigError
from monai_lighter.study.plan import make_plan, require_same, require_unchanged
from monai_lighter.study.runner import begin_study

CONFIGS = ["configs/train.yaml"]
FOLDS = {"fold": "0,1,2"}


def plan(words=FOLDS, **keywords):
    return make_plan(CONFIGS, words, **keywords)


def findings(words=FOLDS, **keywords):
    with pytest.raises(ConfigError) as raised:
        plan(words, **keywords)
    return {finding.id: finding.problem for finding in raised.value.findings}


@pytest.fixture
def changed(bundle):
    """Writes the bundle's config with other items."""

    def write(**changes):
        config = {**CONFIG, **{id: value for id, value in changes.items() if value is not None}}
        for id in [id for id, value in changes.items() if value is None]:
            del config[id]
        (bundle / "configs" / "train.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    return write


def test_the_fold_of_folds_is_what_the_mean_is_over(bundle):
    request = plan({**FOLDS, "width": "4,8", "learning_rate": "0.1"}).request
    assert request.over == ["fold"]
    assert request.grid == {"fold": [0, 1, 2], "width": [4, 8]}
    assert request.fixed == {"learning_rate": "0.1"}
    assert (request.n_trials, request.metric, request.direction, request.trials_per_set) == (None, "", "maximize", 3)


def test_an_unknown_id_and_a_wrong_value_are_told_at_once(bundle):
    found = findings({"fold": "0,1", "learning_rat": "0.1,0.2", "network::channels": "[4,8],[4,x]"})
    assert "nothing in the config refers to" in found["learning_rat"]
    assert len(found) == 2


def test_a_seed_is_given_where_the_config_has_none(changed):
    changed(seed=None)
    assert plan().request.fixed == {"seed": "0"}
    assert plan({"seed": "1,2", **FOLDS}, over=["seed", "fold"]).request.trials_per_set == 6


def test_what_cannot_be_is_told(bundle):
    assert "takes an id with several values" in findings({"fold": "1"})["study"]
    assert "is drawn from a range" in findings({"learning_rate": "log(1e-3, 1e-1)"})["n_trials"]
    assert "no id has values to draw from" in findings(n_trials=3)["n_trials"]
    assert "must be ids with several values" in findings(over=["width"])["over"]
    assert "must be maximize or minimize" in findings(direction="up")["direction"]


def test_a_search_keeps_folds_for_the_mean(bundle):
    request = plan({**FOLDS, "learning_rate": "log(1e-3, 1e-1)"}, n_trials=5).request
    assert (request.over, request.ranges, request.is_search) == (["fold"], {"learning_rate": ["log", 1e-3, 1e-1]}, True)


CALLBACKS = {
    "what ModelWeights chooses by": (
        [{"_target_": "monai_lighter.ModelWeights", "monitor": "val/loss/epoch"}],
        ("val/loss/epoch", "minimize"),
    ),
    "what ModelCheckpoint watches": (
        [
            {
                "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                **{"monitor": "val/metrics/dice/epoch", "mode": "max", "dirpath": "$@trainer::default_root_dir + '/x'"},
            }
        ],
        ("val/metrics/dice/epoch", "maximize"),
    ),
}


WEIGHTS = {"_target_": "monai_lighter.ModelWeights", "monitor": "val/loss/epoch"}
CALLBACKS |= {
    "the same where it is referred to": (["@weights"], ("val/loss/epoch", "minimize")),
    "the same in a list that is computed": ("$[@weights]", ("val/loss/epoch", "minimize")),
    "the same alone": (WEIGHTS, ("val/loss/epoch", "minimize")),
    "a monitor and a mode of elsewhere": (
        [{**WEIGHTS, "monitor": "@key", "mode": "$@way"}],
        ("val/metrics/dice/epoch", "minimize"),
    ),
    "a mode alone": ([{"_target_": "monai_lighter.ModelWeights", "mode": "min"}], ("", "minimize")),
    "what is not disabled": ([{**WEIGHTS, "_disabled_": True}], ("", "maximize")),
}


@pytest.mark.parametrize(("callbacks", "expected"), CALLBACKS.values(), ids=CALLBACKS)
def test_the_metric_is(changed, callbacks, expected):
    changed(
        trainer={**CONFIG["trainer"], "callbacks": callbacks}, weights=WEIGHTS, key="val/metrics/dice/epoch", way="min"
    )
    request = plan().request
    assert (request.metric, request.direction) == expected


def test_a_metric_by_which_weights_are_chosen_has_their_direction(changed):
    weights = {**WEIGHTS, "monitor": "val/metrics/dice/epoch", "mode": "min"}
    changed(trainer={**CONFIG["trainer"], "callbacks": [weights]})
    assert plan(metric="val/metrics/dice/epoch").request.direction == "minimize"
    assert plan(metric="val/loss/epoch").request.direction == "minimize"


def test_the_direction_of_a_distance_is_down(changed):
    metrics = {"val": {"distance": {"_target_": "SurfaceDistanceMetric"}}}
    changed(system={**CONFIG["system"], "metrics": metrics})
    assert plan().request.direction == "minimize"
    assert plan(metric="val/metrics/distance/epoch").request.direction == "minimize"
    assert plan(direction="maximize").request.direction == "maximize"


def test_a_folder_that_all_trials_would_write_to_is_refused(changed):
    logger = {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "$@bundle_root + '/logs'"}
    changed(trainer={**CONFIG["trainer"], "logger": logger})
    assert "to which all trials would write" in findings()["trainer::logger::save_dir"]
    logger["save_dir"] = "$@output_dir + '/logs'"
    changed(trainer={**CONFIG["trainer"], "logger": logger}, output_dir="$@bundle_root + '/eval'")
    assert plan().outputs == {"trainer::default_root_dir": ".", "output_dir": "output"}


def test_folds_that_no_file_keeps_are_refused_before_anything_is_written(bundle, changed):
    changed(folds={**CONFIG["folds"], "path": None})
    with pytest.raises(ConfigError, match="folds::path: must be a file in a study"):
        begin_study(bundle / "studies" / "train", plan())
    assert [path.name for path in (bundle / "studies" / "train").iterdir()] == ["lock"]
    changed()
    begin_study(bundle / "studies" / "train", plan())


def test_another_study_in_the_folder_is_refused_with_what_differs(bundle, changed):
    folder = bundle / "studies" / "train"
    begin_study(folder, plan())
    assert (bundle / "splits.json").is_file()
    assert require_same(folder, plan())._replace(key="", splits={}) == plan().request
    with pytest.raises(ConfigError, match=r"grid: is .*0, 1.*and was .*0, 1, 2"):
        begin_study(folder, plan({"fold": "0,1"}))
    changed(width=8)
    with pytest.raises(ConfigError, match="width: is 8, and was 4 when"):
        begin_study(folder, plan())


def test_more_trials_of_a_search_are_the_same_study(bundle):
    words = {"learning_rate": "log(1e-3, 1e-1)"}
    begin_study(bundle / "s", plan(words, n_trials=3))
    begin_study(bundle / "s", plan(words, n_trials=5))
    with pytest.raises(ConfigError, match="n_trials: is 4, and was 5"):
        begin_study(bundle / "s", plan(words, n_trials=4))


def test_a_config_that_is_edited_while_trials_run_ends_the_study(bundle, changed):
    """Trials of one study with two configs would have one mean."""
    folder = bundle / "studies" / "train"
    made = begin_study(folder, plan())
    require_unchanged(folder, made)
    changed(width=8)
    with pytest.raises(ConfigError, match="width: is 8, and was 4 when"):
        require_unchanged(folder, made)
    (bundle / "configs" / "train.yaml").write_text("{")
    with pytest.raises(ConfigError, match=r"train\.yaml"):
        require_unchanged(folder, made)


def test_a_study_keeps_its_key_where_its_folder_is_renamed(bundle):
    key = begin_study(bundle / "a", plan()).request.key
    (bundle / "a").rename(bundle / "b")
    assert begin_study(bundle / "b", plan()).request.key == key
    assert begin_study(bundle / "c" / "a", plan()).request.key != key


def test_a_callback_whose_file_all_trials_would_write_is_refused(changed):
    """Each fold of a package would have the same weights."""
    weights = {"_target_": "monai_lighter.ModelWeights", "path": "$@bundle_root + '/models/model.pt'"}
    changed(trainer={**CONFIG["trainer"], "callbacks": [weights]})
    assert "to which all trials would write" in findings()["trainer::callbacks::0::path"]
    weights["path"] = "$@trainer::default_root_dir + '/models/model.pt'"
    changed(trainer={**CONFIG["trainer"], "callbacks": [weights]})
    assert plan().outputs == {"trainer::default_root_dir": "."}  # nor is the path of Folds one


def test_a_storage_is_part_of_a_study_and_its_password_of_no_file(bundle):
    """A second process without it would find nothing in the journal, and run every trial again."""
    url = "postgresql://anna:secret@host/studies"
    begin_study(bundle / "s", plan(storage=url))
    assert "secret" not in (bundle / "s" / "study.json").read_text()
    begin_study(bundle / "s", plan(storage=url.replace("secret", "other")))
    with pytest.raises(ConfigError, match=r"storage: is '', and was 'postgresql://anna:\*\*\*@host/studies' when"):
        begin_study(bundle / "s", plan())


CODE = "def scale(rate):\n    return rate * {factor}\n"


@pytest.fixture
def rates(bundle, changed, monkeypatch):
    """The file of a package that the bundle's config names in an expression alone."""
    monkeypatch.syspath_prepend(str(bundle))
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "__init__.py").touch()
    file = bundle / "scripts" / "rates.py"
    file.write_text(CODE.format(factor=2))
    system = {**CONFIG["system"], "optimizer": {**CONFIG["system"]["optimizer"], "lr": "$scale(@learning_rate)"}}
    changed(imports=["$import glob", "$from scripts.rates import scale"], system=system)
    return file


def test_code_that_is_edited_ends_a_study(bundle, rates):
    folder = bundle / "s"
    made = begin_study(folder, plan())
    require_unchanged(folder, made)
    rates.write_text("# a comment\n" + CODE.format(factor=2))
    require_unchanged(folder, made)
    rates.write_text(CODE.format(factor=3))
    for again in (lambda: require_unchanged(folder, made), lambda: begin_study(folder, plan())):
        with pytest.raises(ConfigError, match=r"scripts/rates\.py: is other code: it has been edited since"):
            again()


def test_splits_that_are_made_anew_of_other_data_end_a_study(bundle):
    """A case that has been validated in fold 0 would be validated in fold 1 as well."""
    folder, file = bundle / "s", bundle / "splits.json"
    made, text = begin_study(folder, plan()), file.read_text()
    file.unlink()
    with pytest.raises(ConfigError, match=r"folds::path: has other splits .*, or is not there"):
        require_unchanged(folder, made)
    begin_study(folder, plan())
    assert file.read_text() == text
    file.unlink()
    (bundle / "data" / "image_00.nii.gz").unlink()
    with pytest.raises(ConfigError, match=r"folds::path: has other splits"):
        begin_study(folder, plan())


def test_a_checkpoint_that_all_trials_would_go_on_from_is_refused(bundle, changed):
    """It has seen the cases of every fold."""
    (bundle / "last.ckpt").touch()
    changed(args={"fit": {"ckpt_path": "last.ckpt"}})
    assert "every trial would go on from" in findings()["args::fit::ckpt_path"]


@pytest.fixture
def engines(tmp_path, monkeypatch):
    """Writes the bundle of MONAI's engines of the docs, with more of one item."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "zoo.md").read_text()
    config = yaml.safe_load(re.search(r"```yaml\n(# configs/train\.yaml\n.*?)```", page, re.DOTALL)[1])
    Path("configs").mkdir()

    def write(change):
        changed = copy.deepcopy(config)
        change(changed)
        Path("configs/train.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))

    return write


def test_a_folder_that_is_written_to_by_default_is_refused(engines):
    handler = {"_target_": "TensorBoardStatsHandler"}
    engines(lambda config: config["train"]["handlers"].append(handler))
    found = findings({"optimizer::lr": "0.1,0.2"})
    assert "by default, to which all trials would write" in found["train::handlers::2::log_dir"]
    handler["log_dir"] = "$@ckpt_dir + '/runs'"
    engines(lambda config: config["train"]["handlers"].append(handler))
    assert plan({"optimizer::lr": "0.1,0.2"}).outputs == {"ckpt_dir": "models"}


def test_a_checkpoint_that_all_engines_would_go_on_from_is_refused(engines):
    engines(lambda config: config.update(lightning={"ckpt_path": "last.ckpt"}))
    assert "every trial would go on from" in findings({"optimizer::lr": "0.1,0.2"})["lightning::ckpt_path"]


def test_a_key_metric_of_engines_that_is_turned_needs_a_direction(engines):
    comparison = {"metric_cmp_fn": "$lambda new, best: new < best"}
    engines(lambda config: config["validate"]["evaluator"].update(comparison))
    assert "metric_cmp_fn may turn it" in findings({"optimizer::lr": "0.1,0.2"})["direction"]
    assert plan({"optimizer::lr": "0.1,0.2"}, direction="minimize").request.direction == "minimize"
