import pytest
import yaml
from lightning.pytorch import Trainer, profilers

from monai_lighter import Workflow
from monai_lighter.system.profiler import PassThroughProfiler


def test_lightnings_own_is_exchanged_and_still_one_to_lightning():
    trainer = Trainer(logger=False, barebones=True)
    PassThroughProfiler.into(trainer)
    assert type(trainer.profiler) is PassThroughProfiler
    assert isinstance(trainer.profiler, profilers.PassThroughProfiler)
    with trainer.profiler.profile("outer"), trainer.profiler.profile("inner"):
        pass
    with pytest.raises(KeyError), trainer.profiler.profile("outer"):
        raise KeyError("seen")


def test_a_profiler_that_was_asked_for_stays():
    trainer = Trainer(logger=False, profiler="simple")
    PassThroughProfiler.into(trainer)
    assert type(trainer.profiler) is profilers.SimpleProfiler


@pytest.mark.parametrize(("asked", "got"), [(None, PassThroughProfiler), ("simple", profilers.SimpleProfiler)])
def test_trainer_of_a_config(tmp_path, asked, got):
    config = {"trainer": {"profiler": asked}, "system": {"model": {"_target_": "torch.nn.Identity"}}}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config))
    run = Workflow(str(tmp_path / "train.yaml"), logging_file=False, run_id="none")
    run.initialize()
    assert type(run.trainer.profiler) is got
