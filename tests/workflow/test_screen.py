import logging
import warnings

import pytest
import torch
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.utilities import rank_zero_info
from monai.data import MetaTensor
from monai.transforms import Orientationd
from torchmetrics.classification import MulticlassAUROC

from monai_lighter import ConfigError, Workflow
from monai_lighter.config.resolver import LOCATOR
from monai_lighter.workflow.next_commands import list_next_commands
from monai_lighter.workflow.screen import Screen

TIP = "\N{ELECTRIC LIGHT BULB} Tip: For seamless cloud logging, try installing [litlogger]"
OF_LIBRARY = {"lightning.pytorch.utilities._pytree": True, "monai.utils.module": False, "scripts.dataset": False}


@pytest.fixture
def said(caplog):
    """What arrives at handlers of the root, Lightning's messages among it."""
    source = logging.getLogger("lightning.pytorch")
    propagates, source.propagate = source.propagate, True
    caplog.set_level(logging.INFO)
    level = source.level
    source.setLevel(logging.INFO)
    yield lambda: [record.getMessage() for record in caplog.records]
    source.propagate = propagates
    source.setLevel(level)


class TestScreen:
    def test_advertisements_are_left_out_and_the_rest_stays(self, said):
        with Screen().show():
            rank_zero_info(TIP)
            rank_zero_info("Restored all states from the checkpoint")
        assert said() == ["Restored all states from the checkpoint"]

    def test_what_the_end_of_a_run_tells_is_not_told_before(self):
        told = {
            "monai_lighter.system.weights": "best weights: dice = 0.9",
            "monai.data.image_writer": "writing: a.nii.gz",
        }

        def passes(name, text):
            return bool(logging.getLogger(name).filter(logging.LogRecord(name, logging.INFO, "", 0, text, None, None)))

        with Screen().show():
            assert not any(passes(*one) for one in told.items())
            assert passes("monai_lighter.system.weights", "dice = 0.9 in epoch 1, but a is not finite")
        with Screen(verbose=True).show():
            assert all(passes(*one) for one in told.items())

    def test_afterwards_and_verbose_all_is_as_it_was(self, said):
        before = warnings.filters[:]
        with Screen(quiet=True).show():
            pass
        with Screen(verbose=True).show():
            rank_zero_info(TIP)
            assert warnings.filters == before
        rank_zero_info(TIP)
        assert said() == [TIP, TIP]
        assert warnings.filters == before
        assert logging.root.manager.disable == logging.NOTSET

    @pytest.mark.parametrize(("module", "hidden"), OF_LIBRARY.items())
    def test_what_libraries_use_themselves_is_nobody_elses_business(self, module, hidden):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with Screen().show():
                warnings.warn_explicit("is deprecated", FutureWarning, "file.py", 1, module)
        assert len(seen) == (not hidden)

    def test_what_libraries_say_of_themselves_and_nobody_can_mend_is_left_out(self):
        """Of each size of a 2D image, as it is inverted, and of each batch that lacks a class."""
        image = MetaTensor(torch.rand(1, 6, 5), affine=torch.diag(torch.tensor([-1.0, 1, 1, 1])))
        turn = Orientationd("image", "RA", labels=None)

        def provoke():
            turn.inverse(turn({"image": image}))
            MulticlassAUROC(2)(torch.rand(4, 2), torch.zeros(4, dtype=torch.long))

        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with Screen().show():
                provoke()
            assert [str(each.message) for each in seen] == []
            with Screen(verbose=True).show():
                provoke()
        assert len(seen) == 3

    def test_quiet_leaves_errors(self, said):
        with Screen(quiet=True).show():
            logging.getLogger("monai_lighter").warning("a warning")
            logging.getLogger("anything.made.later").error("an error")
        assert said() == ["an error"]

    def test_a_config_says_it_too_and_the_argument_goes_over_it(self):
        assert Screen.of_run({"quiet": True}, True, None, None).quiet
        assert not Screen.of_run({"quiet": True}, True, False, None).quiet
        assert not Screen.of_run({"verbose": [1]}, False, None, None).verbose  # an item of a bundle of engines

    @pytest.mark.parametrize(
        ("given", "id"), [({"quiet": True, "verbose": True}, "quiet"), ({"verbose": "no"}, "verbose")]
    )
    def test_what_it_cannot_be(self, given, id):
        with pytest.raises(ConfigError, match=f"^{id}"):
            Screen(**given)

    def test_caches_are_filled_without_a_bar_where_nothing_redraws_it(self):
        config = {
            "a": {"_target_": "CacheDataset", "data": []},
            "b": [{"_target_": "SmartCacheDataset", "progress": True}],
            "c": {"_target_": "Dataset", "data": []},
        }
        Screen().hide_caching(config, LOCATOR)
        assert [config["a"].get("progress"), config["b"][0]["progress"], config["c"].get("progress")] == [
            False,
            True,
            None,
        ]


NATIVE = {"system": {"model": "@net", "dataloaders": {"test": {}}}, "spacing": [1, 1]}


class TestNextCommands:
    @pytest.fixture
    def folder(self, tmp_path):
        folder = tmp_path / "my configs"
        folder.mkdir()
        (folder / "evaluate.json").write_text('{"system": {"model": "@net"}, "spacing": [1, 1]}')
        (folder / "inference.yaml").write_text("trainer: {}\n")
        return folder

    def test_they_name_the_configs_beside_it_that_are_native(self, folder):
        config = {"system": {"model": "@net", "dataloaders": {"train": {}}}}
        given = {"spacing": [2, 2], "max_epochs": 3, "note": "5", "flag": True}
        commands = list_next_commands(f"{folder}/train.yaml", given, config)
        assert set(commands) == {"fit", "test"}
        assert commands["test"] == ["monai-lighter", "test", f"{folder}/evaluate.json", "--spacing", "[2, 2]"]
        assert commands["fit"][3:] == [
            *("--spacing", "[2, 2]", "--max_epochs", "3"),
            *("--note", "'5'", "--flag", "True"),
        ]

    def test_a_config_with_the_data_goes_before_them(self, folder):
        files = [f"{folder}/train.yaml", f"{folder}/small.yaml"]
        assert list_next_commands(files, {}, NATIVE)["test"] == ["monai-lighter", "test", *files]


@pytest.mark.slow
class TestRuns:
    def outputs(self, bundle, capfd, run_id="fit", **keywords):
        Workflow(f"{bundle}/configs/train.yaml", run_id=run_id, **keywords).run()
        done = capfd.readouterr()
        return done.out, done.err

    def test_a_fit_says_what_it_made_and_writes_curves(self, bundle, capfd):
        how = {"trainer::logger": True, "trainer::enable_model_summary": True, "max_epochs": 2}
        out, err = self.outputs(bundle, capfd, **how)
        assert "ended by      max_epochs = 2" in out
        assert "Tip" not in err
        (folder,) = (bundle / "lightning_logs").iterdir()
        assert {"metrics.csv", "curves.png", "config.yaml"} <= {path.name for path in folder.iterdir()}

    def test_the_network_is_told_in_a_line(self, bundle, caplog, said):
        Workflow(f"{bundle}/configs/train.yaml", run_id="fit", **{"trainer::enable_model_summary": True}).run()
        (line,) = [line for line in said() if "parameters" in line]
        assert line.startswith("model: UNet, ")

    def test_a_summary_of_ones_own_stays(self, bundle):
        own = [{"_target_": "lightning.pytorch.callbacks.ModelSummary", "max_depth": 2}]
        workflow = Workflow(f"{bundle}/configs/train.yaml", run_id="fit", **{"trainer::callbacks": own})
        workflow.initialize()
        callbacks = workflow.parser.get_parsed_content("trainer").callbacks
        assert [type(each) for each in callbacks if isinstance(each, ModelSummary)] == [ModelSummary]

    def test_validation_ends_with_one_table(self, bundle, capfd):
        out, _ = self.outputs(bundle, capfd, "validate")
        assert "Validate metric" not in out
        assert "worst dice: " in out

    def test_quiet_prints_the_result_alone(self, bundle, capfd):
        out, err = self.outputs(bundle, capfd, "validate", quiet=True, **{"trainer::enable_progress_bar": True})
        assert out.strip().startswith("validated 2 cases")
        assert not err

    def test_a_config_leaves_the_summary_out(self, bundle, extra, capfd):
        text = (bundle / "configs" / "train.yaml").read_text()
        (bundle / "configs" / "train.yaml").write_text(f"{text}\nrun_summary: false\n")
        out, _ = self.outputs(bundle, capfd, "validate")
        assert "validated" not in out
        assert "Validate metric" in out  # Lightning's own

    def test_a_logger_of_ones_own_stays_alone(self, bundle, tmp_path):
        logger = {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": str(tmp_path / "logs")}
        workflow = Workflow(f"{bundle}/configs/train.yaml", run_id="fit", **{"trainer::logger": logger})
        workflow.run()
        assert len(workflow.parser.get_parsed_content("trainer").loggers) == 1

    def test_a_config_outside_of_a_bundle_lacks_no_metadata(self, bundle, tmp_path, caplog):
        file = tmp_path / "elsewhere.yaml"
        file.write_text((bundle / "configs" / "train.yaml").read_text())
        Workflow(str(file), run_id="fit")
        assert "metadata" not in caplog.text
        Workflow(str(file), meta_file=str(tmp_path / "none.json"), run_id="fit")
        assert "Cannot find the metadata config file" in caplog.text

    def test_the_command_says_in_a_line_what_monai_says_at_length(self, bundle, monai_bundle):
        arguments = ("run", "validate", "--workflow", "monai_lighter.Workflow", "--config_file", "configs/train.yaml")
        done = monai_bundle(*arguments, cwd=bundle, fresh=True, PYTHONWARNINGS="")
        assert done.returncode == 0, done.stderr
        everything = done.stdout + done.stderr
        assert "configs/train.yaml may run any code (trust: all)" in everything
        for text in ("no allow list", "input summary", "is deprecated", "litlogger", "litmodels"):
            assert text not in everything
        quiet = monai_bundle(*arguments, "--quiet", cwd=bundle, fresh=True, PYTHONWARNINGS="")
        assert not quiet.stderr
        assert quiet.stdout.strip().startswith("validated 2 cases")

    def test_two_processes_make_one_table_of_all_cases(self, bundle, monai_bundle):
        arguments = ("run", "validate", "--workflow", "monai_lighter.Workflow", "--config_file", "configs/train.yaml")
        both = monai_bundle(*arguments, "--quiet", "--trainer::devices", 2, cwd=bundle)
        assert both.returncode == 0, both.stderr
        (row,) = [line for line in both.stdout.splitlines() if line.startswith("dice ")]
        assert row.split()[-1] == "2"
        (worst,) = [line for line in both.stdout.splitlines() if line.startswith("worst dice: ")]
        assert "image_4.nii.gz" in worst
        assert "image_5.nii.gz" in worst
