"""Predictions that are gone on with: real files, a config, and what the manifest says of each case."""

import csv
import os
import shutil
import threading
from hashlib import sha256

import nibabel
import numpy as np
import pytest
import yaml
from monai.transforms import LoadImaged

from monai_lighter import ConfigError, Workflow
from monai_lighter.system.ledger import Ledger, Output
from monai_lighter.system.provenance import digest_item

NETWORK = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 1, "kernel_size": 1}


@pytest.fixture
def bundle(tmp_path):
    """A bundle that predicts four images, with two outputs each: a NIfTI by SaveImaged, a tensor by FileWriter."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "data").mkdir()
    for i in range(4):
        values = np.random.default_rng(i).random((4, 5, 6), np.float32)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "data" / f"{i}.nii.gz")
    config = {
        "imports": ["$import glob"],
        "seed": 1,
        "workers": 0,
        "network": NETWORK,
        "system": {
            "model": "@network",
            "dataloaders": {
                "predict": {
                    **{"_target_": "DataLoader", "batch_size": 1, "num_workers": "@workers"},
                    "dataset": {
                        "_target_": "Dataset",
                        "data": "$[{'image': file} for file in sorted(glob.glob(@bundle_root + '/data/*.nii.gz'))]",
                        "transform": {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
                    },
                }
            },
            "postprocessing": {
                "predict": {
                    **{"_target_": "SaveImaged", "keys": "pred", "output_dir": "$@bundle_root + '/images'"},
                    **{"output_postfix": "pred", "separate_folder": False, "print_log": False},
                }
            },
        },
        "trainer": {
            **{"accelerator": "cpu", "logger": False, "enable_progress_bar": False},
            "callbacks": [
                {"_target_": "monai_lighter.FileWriter", "path": "$@bundle_root + '/tensors'", "writer": "tensor"}
            ],
        },
    }
    (tmp_path / "configs" / "predict.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def predict(bundle, **override):
    """Predicts; gives what each case came to in the folder of images."""
    Workflow(str(bundle / "configs" / "predict.yaml"), logging_file=False, run_id="predict", **override).run()
    return {os.path.basename(row["case"]): row["state"] for row in read(bundle / "images")}


def read(folder):
    with open(folder / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


def outputs(bundle):
    """Files and when they were written."""
    files = [*bundle.glob("images/*.gz"), *bundle.glob("tensors/*.pt")]
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


ALL = {f"{i}.nii.gz": "written" for i in range(4)}
WHOLE = dict.fromkeys(ALL, "skipped")


@pytest.mark.slow
class TestSkipping:
    def test_whole_cases_are_left_alone_and_are_not_even_loaded(self, bundle, monkeypatch):
        assert predict(bundle) == ALL
        before = outputs(bundle)
        assert len(before) == 8
        images = {path: path.read_bytes() for path in bundle.glob("data/*")}
        assert predict(bundle, skip_existing=True) == WHOLE
        assert outputs(bundle) == before
        os.remove(bundle / "tensors" / "2.pt")
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4)), bundle / "data" / "4.nii.gz")
        loaded = []
        load = LoadImaged.__call__

        def note(self, data, *arguments):
            loaded.append(os.path.basename(data["image"]))
            return load(self, data, *arguments)

        monkeypatch.setattr(LoadImaged, "__call__", note)
        workflow = Workflow(str(bundle / "configs" / "predict.yaml"), logging_file=False, skip_existing=True)
        assert [os.path.basename(item["identifier"]) for item in workflow.predict()] == ["2.nii.gz", "4.nii.gz"]
        assert loaded == ["2.nii.gz", "4.nii.gz"]
        after = outputs(bundle)
        again = {"2_pred.nii.gz", "2.pt", "4_pred.nii.gz", "4.pt"}
        assert {name for name in after if after[name] != before.get(name)} == again
        assert {name: after[name][0] for name in before} == {name: data for name, (data, *_) in before.items()}
        states = {os.path.basename(row["case"]): row["state"] for row in read(bundle / "tensors")}
        assert states == {**WHOLE, "2.nii.gz": "written", "4.nii.gz": "written"}
        assert all(path.read_bytes() == data for path, data in images.items())

    @pytest.mark.parametrize("override", [{"seed": 2}, {"network::bias": False}, {"trainer::precision": "bf16-mixed"}])
    def test_outputs_of_other_weights_or_another_config_are_no_outputs_of_these(self, bundle, override, caplog):
        predict(bundle)
        before = outputs(bundle)
        assert predict(bundle, skip_existing=True, **override) == ALL
        assert "outputs of 4 of 4 cases are of other weights, another config" in caplog.text
        other = outputs(bundle)
        assert all(other[name][0] != before[name][0] for name in before)
        assert predict(bundle, skip_existing=True, **override) == WHOLE
        assert outputs(bundle) == other

    def test_what_changes_no_prediction_changes_nothing(self, bundle):
        predict(bundle)
        before = outputs(bundle)
        overrides = {"workers": 1, "quiet": True, "trainer::max_epochs": 3, "trainer::enable_model_summary": False}
        assert predict(bundle, skip_existing=True, **overrides) == WHOLE
        assert outputs(bundle) == before

    def test_cases_that_come_later_leave_the_others_whole(self, bundle):
        list_cases = "$[{'image': @bundle_root + '/data/%s.nii.gz' % i} for i in @numbers]"
        root = "system::postprocessing::predict::data_root_dir"
        overrides = {
            "cases": list_cases,
            "numbers": [0, 1],
            "system::dataloaders::predict::dataset::data": "@cases",
            root: {"_target_": "monai_lighter.find_common_folder", "data": "@cases"},
            "trainer::callbacks": [],
        }
        assert predict(bundle, **overrides) == {"0.nii.gz": "written", "1.nii.gz": "written"}
        overrides["numbers"] = [0, 1, 2]
        two = {"0.nii.gz": "skipped", "1.nii.gz": "skipped"}
        assert predict(bundle, skip_existing=True, **overrides) == {**two, "2.nii.gz": "written"}

    def test_a_bundle_may_be_moved(self, bundle, tmp_path):
        predict(bundle)
        moved = tmp_path / "elsewhere" / "bundle"
        shutil.copytree(bundle, moved)
        assert predict(moved, skip_existing=True) == WHOLE

    @pytest.mark.parametrize("what", ["altered", "cut off", "input", "code", "unfinished", "one folder", "other names"])
    def test_what_is_not_whole_is_predicted_again(self, bundle, what):
        (bundle / "scripts").mkdir()
        (bundle / "scripts" / "post.py").write_text("factor = 1\n")
        predict(bundle)
        expected, override = {**WHOLE, "1.nii.gz": "written"}, {}
        before = outputs(bundle)
        tensor = bundle / "tensors" / "1.pt"
        data = tensor.read_bytes()
        if what == "altered":
            tensor.write_bytes(data[:600] + bytes([data[600] ^ 1]) + data[601:])
            os.utime(tensor, ns=(before["1.pt"][1], before["1.pt"][1]))
        elif what == "cut off":
            tensor.write_bytes(data[:600])
        elif what == "input":
            nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6), np.float32), np.eye(4)), bundle / "data" / "1.nii.gz")
        elif what == "code":
            (bundle / "scripts" / "post.py").write_text("factor = 2\n")
            expected = ALL
        elif what == "unfinished":
            lines = (bundle / "tensors" / "manifest.csv").read_text().splitlines(keepends=True)
            text = "".join(line.replace(",written,", ",writing,") if "/1.nii.gz" in line else line for line in lines)
            (bundle / "tensors" / "manifest.csv").write_text(text)
        elif what == "one folder":
            shutil.rmtree(bundle / "tensors")
            expected = ALL
        else:
            override, expected = {"system::postprocessing::predict::output_postfix": "other"}, ALL
        assert predict(bundle, skip_existing=True, **override)["1.nii.gz"] == "written"
        states = {os.path.basename(row["case"]): row["state"] for row in read(bundle / "images")}
        assert states == expected
        after = outputs(bundle)
        if what != "input":
            assert all(after[name][0] == data for name, (data, *_) in before.items())
        assert predict(bundle, skip_existing=True, **override)["1.nii.gz"] == "skipped"

    def test_the_manifest_has_the_sha256_of_what_is_there_and_the_time_it_took(self, bundle):
        predict(bundle)
        rows = read(bundle / "images")
        assert [row["case"] for row in rows] == [f"../data/{i}.nii.gz" for i in range(4)]
        for i, row in enumerate(rows):
            assert row["outputs"] == f"{i}_pred.nii.gz"
            assert row["sha256"] == sha256((bundle / "images" / row["outputs"]).read_bytes()).hexdigest()
            assert row["case_sha256"] == sha256((bundle / "data" / f"{i}.nii.gz").read_bytes()).hexdigest()
            assert 0 < float(row["seconds"]) < 60

    @pytest.mark.parametrize(
        ("override", "told"),
        [
            ({"system::dataloaders::predict::shuffle": True}, "in the order of a RandomSampler"),
            ({"system::dataloaders::predict::dataset::_target_": "IterableDataset"}, "a IterableDataset is iterable"),
            ({"system::dataloaders::predict::dataset::data": "$[{'image': __import__('torch').ones(1, 4, 4, 4)}]",
              "system::dataloaders::predict::dataset::transform": None}, "case 0 has in its item neither a file"),
            ({"trainer::callbacks": [{"_target_": "monai_lighter.TableWriter", "path": "$@bundle_root + '/table.csv'"}]},
             "a TableWriter writes one table"),
            ({"trainer::callbacks": [], "system::postprocessing": {}}, "nothing in the config writes a file"),
            ({"skip_existing": "yes"}, "must be true or false, got 'yes'"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_gone_on_with_is_told_before_the_first_case(self, bundle, override, told):
        with pytest.raises(ConfigError, match=told) as raised:
            predict(bundle, **{"skip_existing": True, **override})
        assert str(raised.value).startswith("skip_existing: ")
        assert outputs(bundle) == {}
        assert not [*bundle.rglob("table.csv")]

    def test_a_case_listed_twice(self, bundle):
        (bundle / "data" / "same.nii.gz").symlink_to(bundle / "data" / "0.nii.gz")
        data = "$[{'image': @bundle_root + '/data/0.nii.gz', 'number': i} for i in range(2)]"
        with pytest.raises(ConfigError, match=r"two cases of the data are .*0\.nii\.gz and cannot be told apart"):
            predict(bundle, skip_existing=True, **{"system::dataloaders::predict::dataset::data": data})

    def test_several_loaders(self, bundle):
        loader = yaml.safe_load((bundle / "configs" / "predict.yaml").read_text())["system"]["dataloaders"]["predict"]
        texts = ["[:1]", "[1:]"]
        data = "$[{'image': file} for file in sorted(glob.glob(@bundle_root + '/data/*.nii.gz'))%s]"
        loaders = [{**loader, "dataset": {**loader["dataset"], "data": data % text}} for text in texts]
        assert predict(bundle, **{"system::dataloaders::predict": loaders}) == ALL
        os.remove(bundle / "tensors" / "3.pt")
        again = predict(bundle, skip_existing=True, **{"system::dataloaders::predict": loaders})
        assert again == {**WHOLE, "3.nii.gz": "written"}


@pytest.mark.parametrize(("header", "voxels"), [("a.mhd", "b.zraw"), ("a.nhdr", "a.raw"), ("a.hdr", "a.img")])
def test_voxels_beside_their_header_are_the_case_too(tmp_path, header, voxels):
    field = {".mhd": "ElementDataFile = ", ".nhdr": "data file: "}.get(os.path.splitext(header)[1], "")
    (tmp_path / header).write_bytes(b"NDims = 3\r\n" + f"{field}{voxels}\r\n".encode())
    digests = set()
    for content in (b"0", b"1"):
        (tmp_path / voxels).write_bytes(content)
        digests.add(digest_item({"image": str(tmp_path / header)}))
    assert len(digests) == 2
    assert "" not in digests


def test_a_header_whose_voxels_are_not_known_is_gone_by_by_nobody(tmp_path):
    (tmp_path / "a.mhd").write_text("ElementDataFile = LIST\nslice_1.raw\n")
    assert digest_item({"image": str(tmp_path / "a.mhd")}) == ""


def output(folder, name, case, postfix="a"):
    return Output(folder / f"{name}_{postfix}.txt", folder, case, f"case {case}", "writer", "settings")


def write(ledger, one, text="x"):
    with ledger.write(one) as path:
        path.write_text(text)


class TestCases:
    """A ledger that is given its cases by hand, as threads do."""

    def test_a_case_ends_when_nothing_holds_it(self, tmp_path):
        ledger = Ledger()
        states = []

        def late():
            write(ledger, output(tmp_path, "x", "x", "b"))
            states.append([row["state"] for row in read(tmp_path)])
            ledger.release("x")

        ledger.hold("x")
        write(ledger, output(tmp_path, "x", "x"))
        ledger.finish("x", 1.0)
        thread = threading.Thread(target=late)
        thread.start()
        thread.join()
        assert states == [["writing", "writing"]]
        last = read(tmp_path)[-1]
        assert (last["state"], last["outputs"]) == ("written", "x_a.txt;x_b.txt")

    def test_many_threads(self, tmp_path):
        ledger = Ledger()
        names = [str(i) for i in range(40)]

        def work(own):
            for name in own:
                write(ledger, output(tmp_path, name, name), name)
                write(ledger, output(tmp_path, name, name, "b"), name)
                ledger.finish(name, 1.0)

        threads = [threading.Thread(target=work, args=(names[i::4],)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name in names:
            ledger.expect(name, {}, [])
        ledger.rewrite([tmp_path])
        rows = read(tmp_path)
        assert [row["case"] for row in rows] == names
        digests = [sha256(name.encode()).hexdigest() for name in names]
        assert [row["sha256"] for row in rows] == [f"{digest};{digest}" for digest in digests]

    def test_a_case_that_failed(self, tmp_path):
        ledger = Ledger()
        ledger.open(tmp_path)
        ledger.fail("x", "ValueError: no\nimage")
        assert [(row["case"], row["state"]) for row in read(tmp_path)] == [("x", "failed: ValueError: no image")]
        later = Ledger()
        write(later, output(tmp_path, "x", "x"))
        later.finish("x", 1.0)
        later.rewrite([tmp_path])
        assert [(row["case"], row["state"]) for row in read(tmp_path)] == [("x", "written")]

    def test_nobody_goes_by_outputs_beside_some_that_have_no_name(self, tmp_path):
        ledger = Ledger()
        ledger.recipe = "1"
        ledger.expect("x", {"n": 1}, [])
        write(ledger, output(tmp_path, "x", "x"))
        assert ledger.digest_made_of("x") != ""
        write(ledger, output(tmp_path, "0", None, "b"))
        assert ledger.digest_made_of("x") == ""
