"""What `inspect` says of a bundle, and that it reads and does nothing else."""

import json
import os
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from escapes import touch, write_config

from monai_lighter.commands.arguments import UsageError
from monai_lighter.commands.inspect import inspect as command
from monai_lighter.share.create import create_bundle
from monai_lighter.trust.configs import judge
from monai_lighter.trust.digest import run_digest
from monai_lighter.trust.report import inspect

BUNDLES = sorted(path for path in (Path(__file__).parents[2] / "bundles").glob("*") if path.is_dir())
ZOO = {
    "imports": ["$import glob", "$import os", "$import torch.distributed as dist", "$import logging"],
    "bundle_root": ".",
    "ckpt_dir": "$@bundle_root + '/models'",
    "output_dir": "$datetime.datetime.now().strftime(@ckpt_dir + '/%y%m%d')",
    "more": [
        "$import datetime",
        "$import json",
        "$import pandas as pd",
        "$from functools import partial",
        "$import numpy as np",
    ],
    "events": ["$from ignite.engine import Events", "$import monai", "$from pathlib import Path"],
    "dataset_dir": "/workspace/data/Task09_Spleen",
    "images": "$list(sorted(glob.glob(@dataset_dir + '/imagesTr/*.nii.gz')))",
    "labels": "$[i.replace('imagesTr', 'labelsTr') for i in @images]",
    "listed": "$monai.data.load_decathlon_datalist(@dataset_dir + '/x.json', True, 'training', base_dir=@dataset_dir)",
    "fold": "$monai.auto3dseg.datafold_read(datalist=@listed, basedir=@dataset_dir, fold=0)[0]",
    "table": "$list(@dataset_dir + pd.read_csv(@dataset_dir + 'train.csv').t2_anatomy_reader1)",
    "file": "$open(@dataset_dir + '/x.json', 'r', encoding='utf8')",
    "read": "$json.load(@file)",
    "parts": "$monai.data.partition_dataset(np.arange(len(@images)), (8, 2), shuffle=True, seed=0)",
    "subset": "$torch.utils.data.Subset(@images, @parts[1])",
    "rank": "$dist.get_rank() if dist.is_initialized() else int(os.environ['LOCAL_RANK'])",
    "device": "$torch.device(f\"cuda:{@rank}\" if torch.cuda.is_available() else 'cpu')",
    "made": "$Path(@output_dir).mkdir(exist_ok=True)",
    "network_def": {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    "backbone": "$monai.networks.nets.resnet.ResNet(block=monai.networks.nets.resnet.ResNetBottleneck, layers=[3, 4, 6, 3], "
    "block_inplanes=monai.networks.nets.resnet.get_inplanes(), n_input_channels=1)",
    "detection": "$monai.apps.detection.networks.retinanet_network.resnet_fpn_feature_extractor(@backbone, 3, False, [1], None)",
    "network": "$@network_def.to(@device)",
    "loaded": "$@network.load_state_dict(torch.load(@ckpt_dir + '/model.pt', map_location=@device))",
    "detector": [
        "$@network.set_target_keys(box_key='box', label_key='label')",
        "$@network.set_atss_matcher(num_candidates=4)",
    ],
    "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": 0.0001},
    "classes": "$list(set(range(132)) - set([2, 16]))",
    "noise": "$torch.randn([1] + list(@classes[:3])).to(@device)",
    "train": {
        "dataset": {
            "_target_": "CacheDataset",
            "data": "$[{'image': i, 'label': l} for i, l in zip(@images[:-9], @labels[:-9])]",
            "transform": "%train#pre",
        },
        "pre": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image", "reader": "NibabelReader"},
                {"_target_": "Lambdad", "keys": "label", "func": "$lambda x: torch.where(x[[2]] > 0, 4, 0)"},
                {"_target_": "TorchVisiond", "keys": "image", "name": "ColorJitter", "brightness": 0.1},
                {
                    "_target_": "SaveImaged",
                    "keys": "pred",
                    "writer": "NibabelWriter",
                    "batch_transform": "$lambda x: None",
                },
            ],
        },
        "inferer": {"_target_": "monai_lighter.SlidingWindowLabelInferer", "roi_size": [96, 96, 96], "overlap": 0.5},
        "handlers": [
            {"_target_": "CheckpointSaver", "save_dir": "@ckpt_dir", "save_dict": {"model": "@network"}},
            {"_target_": "StatsHandler", "output_transform": "$monai.handlers.from_engine(['loss'], first=True)"},
            {
                "_target_": "ignite.handlers.EarlyStopping",
                "patience": 3,
                "score_function": "$lambda e: e.state.metrics['a']",
            },
        ],
        "trainer": {
            "_target_": "SupervisedTrainer",
            "max_epochs": 1,
            "event": "$Events.ITERATION_COMPLETED(every=5)",
            "mode": "$monai.utils.GridSampleMode.BILINEAR",
        },
    },
    "initialize": [
        "$dist.is_initialized() or dist.init_process_group(backend='nccl', init_method='env://')",
        "$torch.cuda.set_device(@device)",
        "$monai.utils.set_determinism(seed=123)",
        "$setattr(torch.backends.cudnn, 'benchmark', True)",
        "$@train#trainer.logger.setLevel(logging.WARNING if dist.get_rank() > 0 else logging.INFO)",
        "$None if dist.get_rank() > 0 else @train#handlers[: -2 if dist.get_rank() > 0 else None]",
    ],
    "run": [
        "$@train#trainer.run()",
        "$print('Dice:\\n', @train#trainer.state.metric_details['a'].cpu().numpy(), '{} of {}'.format(1, 2))",
        "$dist.is_initialized() and dist.destroy_process_group()",
    ],
}


def test_what_usual_configs_hold_is_declarative(tmp_path):
    for name in (".git", ".cache", "docs", "a-b.c"):
        (tmp_path / name).mkdir()
    (tmp_path / ".git/HEAD").write_text("ref: refs/heads/main")
    found = inspect(write_config(tmp_path, ZOO))
    assert found.exit_code == 0, str(found)
    assert found.verdict in str(found)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_bundles_of_this_repository_are_declarative_but_for_their_own_scripts(bundle):
    found = inspect(bundle)
    assert found.exit_code == 1
    assert found.code
    assert all(line.own for line in found.code), str(found)
    assert {file.file.split("/")[0] for file in found.files} <= {"scripts", "models"}


@pytest.mark.parametrize("task", ["segmentation", "classification", "regression"])
def test_bundles_that_init_makes_are_declarative_but_for_their_own_scripts(task, tmp_path):
    create_bundle(str(tmp_path / "made"), task, 2, True, None)
    found = inspect(tmp_path / "made")
    assert all(line.own for line in found.code), str(found)
    assert {file.file.split("/")[0] for file in found.files} <= {"scripts"}, str(found)


def test_text_and_json(tmp_path):
    config = {
        "a": {"_target_": "UNet"},
        "b": "$eval('1')",
        "output_dir": "/data/out",
        "c": {"_target_": "scripts.net.Net"},
    }
    root = write_config(tmp_path, config)
    (root / "scripts").mkdir()
    (root / "scripts/net.py").write_text("x = 1")
    (root / "large_files.yml").write_text("large_files:\n- {path: models/m.pt, url: https://e.org/m, hash_val: 12}\n")
    found = inspect(root)
    text = str(found)
    assert "configs/inference.json:5  b  $eval('1')" in text
    assert "configs/inference.json:6  output_dir  /data/out" in text
    assert "models/m.pt  https://e.org/m  md5:12" in text
    assert f"sha256:{run_digest(root)}" in text
    assert text.splitlines()[-1] == found.verdict == "code to read: 2 items of configs, 1 files"
    printed = command(str(root), json=True)
    content = json.loads(str(printed))
    assert printed.exit_code == content["exit_code"] == 1
    assert content["sha256"] == run_digest(root)
    assert content["code"][0] == {
        "file": "configs/inference.json",
        "line": 5,
        "id": "b",
        "text": "$eval('1')",
        "own": False,
    }
    assert [entry["own"] for entry in content["code"]] == [False, True]
    assert [entry["file"] for entry in content["files"]] == ["scripts/net.py"]


def test_no_bundle(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such directory"):
        inspect(tmp_path / "none")
    with pytest.raises(UsageError, match=r"Mend the path\."):
        command(str(tmp_path / "none"))
    assert inspect(tmp_path).exit_code == 2


@pytest.mark.slow
def test_nothing_of_the_bundle_is_imported(tmp_path):
    """In a fresh process that is started in the bundle, with names that the inspection imports itself."""
    root = write_config(
        tmp_path / "bundle", {"a": {"_target_": "ignite.handlers.EarlyStopping"}, "b": "$import pandas"}
    )
    marker = tmp_path / "marker"
    for name in ("ignite", "torchmetrics", "lightning", "pandas", "scripts"):
        (root / f"{name}.py").write_text(f"open({str(marker)!r}, 'a').write(__name__)")
    code = "import sys; from monai_lighter.trust.report import inspect; sys.path.insert(0, ''); print(inspect('.').exit_code)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", f"import sys; sys.path.remove(''); {code}"]
    process = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "1"
    assert not marker.exists(), marker.read_text()


def test_zip_file(tmp_path):
    root = tmp_path / "b"
    write_config(root, ZOO)
    write_config(root, {"version": "1"}, "configs/metadata.json")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for path in root.rglob("*.json"):
            archive.write(path, path.relative_to(tmp_path))
        archive.writestr("__MACOSX/b/configs/._train.json", b"\0\5\x16\7")
    before = sorted(tmp_path.rglob("*"))
    found = inspect(tmp_path / "b.zip")
    assert found.exit_code == 0, str(found)
    assert found.digest == run_digest(root)
    assert sorted(tmp_path.rglob("*")) == before
    with zipfile.ZipFile(tmp_path / "b.zip", "a") as archive:
        archive.writestr("../evil.py", "x")
    found = inspect(tmp_path / "b.zip")
    assert found.exit_code == 2
    assert "leads out of the archive" in str(found)
    (tmp_path / "c.zip").write_bytes(b"PK\3\4")
    assert inspect(tmp_path / "c.zip").exit_code == 2


def test_metadata_and_macro_files_are_configs(tmp_path):
    root = write_config(tmp_path, {"x": "%parts/net.json::a"})
    write_config(root, {"a": {"_target_": "os.system"}}, "parts/net.json")
    write_config(root, {"version": "1", "task": "$torch.os.system('x')"}, "configs/metadata.json")
    assert {(line.file, line.id) for line in inspect(root).code} == {
        ("parts/net.json", "a::_target_"),
        ("configs/metadata.json", "_meta_::task"),
    }


YAMLS = {
    "tag": "a: !!python/object/apply:os.system ['{touch}']",
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "\n".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "merges": "a: &a {x: 1, y: 2}\n"
    + "\n".join(f"{b}: &{b} {{<<: [{','.join([f'*{a}'] * 9)}]}}" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "itself": "a: &a [*a]",
    "deep": "a: " + "[" * 5000 + "]" * 5000,
    "duplicate": "a: 1\na: {_target_: os.system, command: '{touch}'}\na: 2",
    "two documents": "a: 1\n---\nb: 2",
    "broken": "a: [",
    "large": "a: " + "x" * (1 << 23),
    "no items": "- 1",
}
JSONS = ['{"a": 1, "a": {"_target_": "os.system"}}', "[" * 100_000, "{", "[1]"]


@pytest.mark.parametrize("text", [*YAMLS.values(), *JSONS], ids=[*YAMLS, *(text[:9] for text in JSONS)])
def test_configs_that_are_broken(text, bundle, marker):
    name = "configs/train.json" if text in JSONS else "configs/train.yaml"
    (bundle / name).write_text(text.replace("{touch}", touch(marker).replace("'", "''")))
    start = time.monotonic()
    found = inspect(bundle)
    assert time.monotonic() - start < 30
    assert found.exit_code == 2
    assert name in str(found.broken[0])
    assert not marker.exists()


MANY = {
    "references": {"a": "$[" + ",".join(f"@r{i}" for i in range(60_000)) + "]"},
    "chain": {f"a{i}": f"@a{i + 1}" for i in range(20_000)},
    "chain of targets": {**{f"a{i}": f"@a{i + 1}" for i in range(2_000)}, "x": {"_target_": "@a0"}},
    "lists of macros": {
        **{f"a{j}": [f"%a{j + 1}"] * 10 for j in range(12)},
        "x": {"_target_": "LoadImage", "reader": "@a0"},
    },
    "items": {"a": [1] * 60_000},
    "deep": json.loads('{"a":' * 100 + "1" + "}" * 100),
    "brackets": {"a": "$" + "(" * 9000 + ")" * 9000},
}


@pytest.mark.parametrize("name", MANY)
def test_configs_that_would_keep_it_busy(name, tmp_path):
    root = write_config(tmp_path, MANY[name])
    write_config(root, MANY[name], "configs/more.json")
    start = time.monotonic()
    inspect(root)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    "section",
    [
        "[handler_a]\nclass=StreamHandler\nargs=(__import__('os').system('x'),)\n",
        "[handler_a]\nclass=__import__('os').system('x')\nargs=()\n",
        "[handler_a]\nclass=logging.handlers.SocketHandler\nargs=('example.com', 1)\n",
        "[handler_a]\nclass=StreamHandler\nargs=%(k)s\n[DEFAULT]\nk=(eval('1'),)\n",
        "[handler_a]\nclass=StreamHandler\nargs=()\n[DEFAULT]\nkwargs={'stream': eval('1')}\n",
        "[handler_a]\nclass=StreamHandler\nargs=()\n# a comment\rkwargs={'stream': eval('1')}\n",
        "[handler_a]\nclass=StreamHandler\nargs=()\nlevel=__import__('os')\n",
        "[handler_a]\nclass=FileHandler\nargs=('fire.py',)\n",
        "[handler_a]\nclass=FileHandler\nargs=('a/.hidden/x.log',)\n",
        "[handler_a]\nclass=FileHandler\nargs=('.bashrc',)\n",
        "[formatter_f]\nclass=evil.Formatter\n",
        "[formatter_f]\nformat=ext://evil.module\n",
        "[formatter_f]\nstyle={\nformat={x.__class__}\n",
        "[formatter_f]\ndefaults={'a': eval('1')}\n",
        "[formatter_f]\nformat=x\n" + "# x\n" * 500_000,
        "[formatter_f\n",
    ],
)
def test_logging_settings_that_are_more_than_settings(section, bundle):
    (bundle / "configs/logging.conf").write_bytes(section.encode())
    found = inspect(bundle)
    assert {line.file for line in found.code} == {"configs/logging.conf"}


def test_usual_logging_settings(bundle):
    text = (
        "[loggers]\nkeys=root\n[logger_root]\nlevel=INFO\nhandlers=a,b\n[handler_a]\nclass=StreamHandler\nlevel=INFO\n"
    )
    text += "formatter=f\nargs=(sys.stdout,)\n[handler_b]\nclass=handlers.RotatingFileHandler\nargs=('logs/x.log', 'a', 9)\n"
    (bundle / "configs/logging.conf").write_text(
        text + "[formatter_f]\nformat=%(asctime)s - %(levelname)s - %(message)s\n"
    )
    assert inspect(bundle).exit_code == 0, str(inspect(bundle))


def test_files_that_are_code(bundle, tmp_path):
    code = ("scripts/net.py", "fire.py", "run.sh", "Makefile", "x.ipynb", "models/lib.so")
    code += ("scripts/__pycache__/net.cpython-311.pyc",)
    for name in code:
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_bytes(struct.pack("<I", 1))
    for name in ("docs/README.md", "LICENSE", "docs/a.png", "data/x.nii.gz", "requirements.txt"):
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_text("x")
    (bundle / "models/model.pt").symlink_to("/etc/passwd")
    (bundle / "out").symlink_to(tmp_path)
    os.mkfifo(bundle / "pipe.yaml")
    found = {file.file: file for file in inspect(bundle).files}
    assert {*found} == {
        *code,
        *("models/model.pt", "out", "pipe.yaml"),
    }
    assert found["fire.py"].sha256 == "67abdd721024f0ff4e0b3f4c2fc13bc5bad42d0b7851d456d88d203d15aaa450"
    assert found["out"].what == "a link out of the bundle"


def test_names_that_would_spoof_the_report(bundle):
    (bundle / "configs/x.json").write_text('{"a": "$eval(\'\\u001b[2K\\ndeclarative: it brings no code\')"}')
    text = str(inspect(bundle))
    assert "\x1b" not in text
    assert "\ndeclarative: " not in text


def test_keys_that_lighter_merges_by_are_code():
    documents = {"x.yaml": {"trainer": {"_target_": "lightning.pytorch.Trainer", "=callbacks": []}, "~vars": None}}
    assert [(each.id, each.text) for each in judge(documents)] == [
        ("trainer::=callbacks", "=callbacks: []"),
        ("~vars", "~vars: None"),
    ]
