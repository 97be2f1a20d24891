import pytest

from monai_lighter.config.stages import no_run, other_run_ids, unknown_run_id, unknown_type
from monai_lighter.errors import Note

NATIVE = {"system": {"model": 1}, "run": "$@trainer.fit(@system)"}


@pytest.mark.parametrize("run_id", ["fit", "predict", "run", "system::model", "system#model"])
def test_stages_and_items_are_run(run_id):
    assert unknown_run_id(run_id, NATIVE) == []


def test_what_is_no_stage_and_no_item():
    (finding,) = unknown_run_id("fitt", NATIVE)
    assert str(finding) == "run_id: run ID 'fitt' doesn't exist in the config file. Did you mean 'fit'?"
    (finding,) = unknown_run_id("fit", {"run": 1})
    assert finding.hint == "A stage needs a `system` section."


def test_types_of_workflows():
    assert [unknown_type(kind) for kind in (None, "train", "Training", "infer", "eval")] == [[]] * 5
    (finding,) = unknown_type("trian")
    assert str(finding).endswith("evaluation, got 'trian'. Did you mean 'train'?")


def test_items_that_run_an_engine():
    config = {"training": ["$@train#trainer.run()"], "initialize": ["$@a.run()"], "x": "$@a.b"}
    assert other_run_ids(config, "run", ["initialize"]) == ["training"]
    assert other_run_ids(config, "fit", ()) == []
    assert isinstance(no_run("run", config, ["training"]), Note)
    assert no_run("trainin", config, ()).hint == "Did you mean 'training'?"
