import json

import pytest
import yaml

from monai_lighter.commands.arguments import UsageError
from monai_lighter.commands.check import check


@pytest.fixture
def inside(created, monkeypatch):
    """Makes a bundle and goes into it."""

    def make(*arguments, **keywords):
        root = created(*arguments, **keywords)
        monkeypatch.chdir(root)
        return root

    return make


CPU = ("--trainer::accelerator", "cpu")


def test_a_sound_config(inside, check_command):
    inside()
    code, output = check_command("configs/train.yaml")
    assert code == 0
    assert "errors  0" in output
    assert "fit run " in output
    assert "CacheDataset" in output


def test_mistakes_with_their_lines(inside, check_command):
    root = inside()
    file = root / "configs" / "common.yaml"
    text = file.read_text().replace("in_channels:", "in_channel:")
    file.write_text(text)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "in_channel:" in line)
    code, output = check_command("configs/train.yaml", "--system::optimizer::lrr", 1)
    assert code == 2
    assert f"configs/common.yaml:{line}: error: network_def::in_channel: UNet has no argument 'in_channel'" in output
    assert "command line: error: system::optimizer::lrr: torch.optim.AdamW has no argument 'lrr', got 1." in output


def test_json_and_several_configs(inside, check_command):
    root = inside()
    (root / "configs" / "more.yaml").write_text("system#optimizer#lrr: 1\n")
    code, output = check_command("configs/train.yaml,configs/more.yaml", "configs/inference.yaml", "--json")
    merged, inference = json.loads(output)
    assert code == 2
    assert merged["config"] == ["configs/train.yaml", "configs/more.yaml"]
    (row,) = merged["rows"]
    place = {"level": "error", "id": "system::optimizer::lrr", "file": "configs/more.yaml", "line": 1}
    assert {key: row[key] for key in place} == place
    assert "Did you mean 'lr'?" in row["hint"]
    assert inference["errors"] == 0
    built = inference["stages"]["predict"]
    assert {"id": "network_def", "target": "UNet"}.items() <= built[0].items()
    assert built[0]["line"] > 1


def test_a_config_that_is_not_there(check_command, tmp_path):
    code, output = check_command(tmp_path / "no.yaml", "--json")
    assert code == 2
    assert "no.yaml" in json.loads(output)["rows"][0]["problem"]
    with pytest.raises(UsageError, match="must be a file or several, got none"):
        check()


def test_a_directory_and_a_file_of_another_kind(inside, check_command):
    inside()
    code, output = check_command("configs")
    assert code == 2
    assert (
        "error: config_file: must be a .yaml, .yml or .json file, 'configs' is a directory. Name a file in it:"
        in output
    )
    assert "configs/inference.yaml, configs/train.yaml." in output
    code, output = check_command("LICENSE")
    assert code == 2
    assert "error: config_file: must be a .yaml, .yml or .json file, 'LICENSE' is none. Mend the path." in output


@pytest.mark.slow
def test_as_a_process(inside, verb):
    inside()
    report = verb("check", "configs/evaluate.yaml", "--json", fresh=True)
    assert list(report["stages"]) == ["test", "run"]
    done = verb("check", "configs/evaluate.yaml", "--network_def::_target_", "UNett", code=2)
    assert "Did you mean 'UNet'?" in done.stdout
    assert "Traceback" not in done.stderr


def rows_of(trace, part):
    return {(row["step"], row["key"]): row for row in trace["rows"] if row["part"] == part}


@pytest.mark.parametrize("dims", [2, 3])
def test_the_trace_of_a_training(inside, check_command, dims):
    root = inside(dims=dims)
    before = {path for path in root.rglob("*") if "__pycache__" not in path.parts}
    code, output = check_command("configs/train.yaml", "--trace", "--json", *CPU)
    trace = json.loads(output)["trace"]
    assert (code, trace["error"], trace["stage"]) == (0, "", "fit")
    train, val = rows_of(trace, "train"), rows_of(trace, "val")
    patch = [64, 64] if dims == 2 else [48, 48, 48]
    loaded, oriented = train["LoadImaged", "image"], train["Orientationd", "label"]
    assert loaded["shape"] == str((1, *((80, 72) if dims == 2 else (52, 48, 44))))
    assert loaded["spacing"] == " x ".join("1" * dims)
    assert (loaded["orientation"], oriented["orientation"]) == (("LP", "RA") if dims == 2 else ("LPS", "RAS"))
    assert loaded["dtype"] == "float32"
    assert oriented["range"] == "0 to 1"
    assert loaded["seconds"] > 0
    assert train["batch of 2", "image"]["shape"] == str((2, 1, *patch))
    assert train["network UNet", ""]["shape"] == str((2, 2, *patch))
    assert float(train["loss", "total"]["range"]) > 0
    assert 0 <= float(val["metric", "dice"]["range"]) <= 1
    assert trace["steps"]["train"]["seconds"] > 0
    assert "MiB" in trace["steps"]["train"]["memory"]
    assert {path for path in root.rglob("*") if "__pycache__" not in path.parts} == before


def test_the_trace_of_a_prediction_writes_nothing(inside, check_command):
    root = inside()
    code, output = check_command("configs/inference.yaml", "--trace", "--case", 1, *CPU)
    assert code == 0
    assert "Invertd" in output
    assert "SaveImaged    " not in output.partition("trace")[2]
    assert "step of predict" in output
    assert not (root / "eval").exists()


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_trace_of_other_tasks(inside, check_command, task):
    inside(task)
    code, output = check_command("configs/train.yaml", "--trace", "--json", *CPU)
    trace = json.loads(output)["trace"]
    assert (code, trace["error"]) == (0, "")
    assert any(row["step"] == "metric" for row in trace["rows"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            ("--preprocessing::0::keys", "[image, labl]"),
            ("transform 0, LoadImaged, failed on case image=", "labl", "train_00"),
        ),
        (("--network_def::in_channels", 3), ("network UNet failed on case image=", "train_00.nii.gz")),
        (("--system::criterion::to_onehot_y", False, "--num_classes", 3), ("loss failed on case image=", "train_00")),
        (
            ("--case", 99),
            ("system::dataloaders::train::dataset::data: has no case 99, there are 8. Give --case 0 to 7.",),
        ),
        (("--system::postprocessing::val::argmax", "[1, 2, 3]"), ("system::postprocessing::val", "AsDiscreted")),
    ],
)
def test_a_trace_that_fails_names_the_step_and_the_case(inside, check_command, override, words):
    inside()
    code, output = check_command("configs/train.yaml", "--trace", *override, *CPU)
    assert code == 2
    (error,) = [line for line in output.splitlines() if line.startswith("error  ") and not line[7:].strip().isdigit()]
    for word in words:
        assert word in error


def test_a_file_that_cannot_be_read_is_named(inside, check_command):
    root = inside()
    (root / "data" / "images" / "train_00.nii.gz").write_bytes(b"no image")
    code, output = check_command("configs/train.yaml", "--trace", *CPU)
    assert code == 2
    assert "transform 0, LoadImaged, failed on case image=" in output
    assert "train_00.nii.gz" in output


def test_an_erroneous_config_is_not_traced(inside, check_command):
    inside()
    code, output = check_command("configs/train.yaml", "--trace", "--system::optimizer::lrr", 1)
    assert code == 2
    assert "step of" not in output


ENGINES = """
imports: [$import glob]
bundle_root: .
images: $sorted(glob.glob('data/images/train_*.nii.gz'))
network: {_target_: UNet, spatial_dims: 2, in_channels: 1, out_channels: 2, channels: [4, 8], strides: [2]}
dataset:
  _target_: CacheDataset
  data: "$[{'image': i, 'label': i.replace('images', 'labels')} for i in @images]"
  transform:
    _target_: Compose
    transforms:
      - {_target_: LoadImaged, keys: [image, label], ensure_channel_first: true}
      - {_target_: ScaleIntensityd, keys: image}
post: {_target_: Compose, transforms: [{_target_: AsDiscreted, keys: [pred, label], argmax: [true, false], to_onehot: 2}]}
trainer:
  _target_: SupervisedTrainer
  max_epochs: 1
  device: $torch.device('cpu')
  train_data_loader: {_target_: DataLoader, dataset: '@dataset', batch_size: 2, num_workers: 2}
  network: '@network'
  loss_function: {_target_: DiceLoss, softmax: true, to_onehot_y: true}
  optimizer: {_target_: torch.optim.Adam, params: $@network.parameters(), lr: 0.01}
  postprocessing: '@post'
  key_train_metric: {dice: {_target_: MeanDice, output_transform: "$monai.handlers.from_engine(['pred', 'label'])"}}
  train_handlers:
    - {_target_: ValidationHandler, validator: '@evaluator', interval: 1}
    - {_target_: TensorBoardStatsHandler, log_dir: ./eval, output_transform: "$lambda x: None"}
    - {_target_: CheckpointSaver, save_dir: ./models2, save_dict: {net: '@network'}, save_final: true}
evaluator:
  _target_: SupervisedEvaluator
  device: $torch.device('cpu')
  val_data_loader: {_target_: DataLoader, dataset: '@dataset'}
  network: '@network'
  inferer: {_target_: SlidingWindowInferer, roi_size: [32, 32]}
  postprocessing: {_target_: Compose, transforms: [{_target_: SaveImaged, keys: pred, output_dir: ./eval}]}
initialize: ["$open('marked', 'w').close()"]
run: [$@trainer.run()]
"""


@pytest.fixture
def engines(inside):
    root = inside()
    file = root / "configs" / "engines.yaml"
    file.write_text(ENGINES)
    return file


def test_the_trace_of_an_engine(engines, check_command):
    code, output = check_command(engines, "--trace", "--json")
    trace = json.loads(output)["trace"]
    assert (code, trace["error"]) == (0, "")
    rows = rows_of(trace, "trainer")
    assert rows["batch of 2", "image"]["shape"] == "(2, 1, 80, 72)"
    assert rows["network UNet", ""]["shape"] == "(2, 2, 80, 72)"
    assert rows["AsDiscreted", "pred"]["shape"] == "(2, 80, 72)"
    assert float(rows["loss DiceLoss", ""]["range"]) > 0
    assert 0 <= float(rows["metric dice", ""]["range"]) <= 1
    assert trace["steps"]["trainer"]["seconds"] > 0
    root = engines.parent.parent
    assert not [name for name in ("eval", "models2", "marked") if (root / name).exists()]


def test_the_trace_of_an_evaluator_and_of_a_failing_engine(engines, check_command):
    code, output = check_command(engines, "--trace", "--run", "[$@evaluator.run()]", "--dataset::data", "$@images")
    assert code == 2
    assert "error  dataset::transform: transform 0, LoadImaged, failed on case data/images/train_00.nii.gz" in output
    code, output = check_command(engines, "--trace", "--run", "[$@evaluator.run()]")
    assert code == 0
    assert "step of evaluator" in output
    code, output = check_command(engines, "--trace", "--network::in_channels", 2)
    assert code == 2
    assert "error  network UNet failed on case image=data/images/train_00.nii.gz" in output


def test_a_run_without_an_engine_cannot_be_traced(engines, check_command):
    config = yaml.safe_load(engines.read_text())
    engines.write_text(yaml.safe_dump({**config, "run": ["$print(1)"]}))
    code, output = check_command(engines, "--trace")
    assert code == 2
    assert "the run must refer to an engine" in output
