import pytest

from monai_lighter.config.stages import find_absent_run, find_other_run_ids, find_unknown_type
from monai_lighter.errors import Note

NATIVE = {"system": {"model": 1}, "run": "$@trainer.fit(@system)"}


@pytest.mark.parametrize("run_id", ["fit", "predict", "run", "system::model", "system#model"])
def test_stages_and_items_are_run(run_id):
    assert find_absent_run(run_id, NATIVE) is None


def test_what_is_no_stage_and_no_item():
    finding = find_absent_run("fitt", NATIVE)
    assert str(finding) == "run_id: run ID 'fitt' doesn't exist in the config file. Did you mean 'fit'?"
    finding = find_absent_run("fit", {"run": 1})
    assert finding.hint == "A stage needs a `system` section."


def test_types_of_workflows():
    assert [find_unknown_type(kind) for kind in (None, "train", "Training", "infer", "eval")] == [[]] * 5
    (finding,) = find_unknown_type("trian")
    assert str(finding).endswith("evaluation, got 'trian'. Did you mean 'train'?")


def test_items_that_run_an_engine():
    config = {"training": ["$@train#trainer.run()"], "initialize": ["$@a.run()"], "x": "$@a.b"}
    assert find_other_run_ids(config, ["initialize"]) == ["training"]
    assert isinstance(find_absent_run("run", config, ["training"]), Note)
    assert find_absent_run("trainin", config).hint == "Did you mean 'training'?"
