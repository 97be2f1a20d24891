"""What a package must not tell: absolute paths, lists of data. And what must not keep it from being written."""

import json
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch

from monai_lighter.share.layout import SharingError
from monai_lighter.share.packaging import package_bundle
from monai_lighter.share.portable import find_absolute_paths, find_leaks, make_config_portable, make_metadata_portable
from monai_lighter.share.staging import is_data_list

PRIVATE = [
    ("see /mnt/hospital/DOE_JOHN/ct.nii.gz.", "/mnt/hospital/DOE_JOHN/ct.nii.gz."),
    ("a: 1  # /data/ada/scans", "/data/ada/scans"),
    ("$'/mnt/hospital/patients' + '/x'", "/mnt/hospital/patients"),
    ("$'/mnt' + '/hospital/patients'", "/hospital/patients"),
    ("--root=/mnt/hospital/y", "/mnt/hospital/y"),
    ("<code>/gpfs/ada/x</code>", "/gpfs/ada/x"),
    ("host:/mnt/a", "/mnt/a"),
    ("in `~/alice/data`", "~/alice/data"),
    ("file:///srv/a/b", "/srv/a/b"),
    (r'"\/mnt\/hospital"', "/mnt/hospital"),
    (r"C:\Users\ada", r"C:\Users\ada"),
    (r'"D:\\scans\\ada"', r"D:\\scans\\ada"),
    ("d:/scans/ada", "d:/scans/ada"),
    (r"\\server\share\x", r"\\server\share\x"),
]
HARMLESS = [
    "$@bundle_root + '/models/model.pt'",
    "$@root + '/a' + '/b/c'",
    "    + '/a/b'",
    "f'{root}/data/images', <DIR>/a/b, $HOME/a/b, ./a/b, ../c/d, ~/x, ~/.cache/x, a~/b/c, **/a/b",
    "#!/usr/bin/env python > /dev/null 2>&1, /tmp/out/x, /path/to/data",
    "https://a.b/c/d?x=/a/b and s3://bucket/a/b",
    "mm/s, ml/min/kg, 1/2/3, and/or, N/A /mean/",
    "x.replace('/images/', '/labels/')",
    "data:image/png;base64,/9j/4AAQ/x==",
    r"'\d+\w' and 'Q:\nA:\n' and a // b/c",
]


@pytest.mark.parametrize(("line", "found"), PRIVATE)
def test_an_absolute_path_in_a_text(line, found):
    assert list(find_absolute_paths(line)) == [found]


@pytest.mark.parametrize("line", HARMLESS)
def test_what_is_no_absolute_path(line):
    assert list(find_absolute_paths(line)) == []


def test_every_file_and_line_that_names_a_path_is_told(created, tmp_path):
    root = created()
    places = {"docs/README.md": "/mnt/h/DOE_JOHN/ct.nii.gz", "scripts/dataset.py": "X = '/mnt/h/DOE_JOHN'"}
    places["configs/train.yaml"] = "more: $'/mnt/h/p' + '/x'\nname_of: --root=/mnt/h/y  # and"
    for name, line in places.items():
        (root / name).write_text((root / name).read_text() + line + "\n")
    with pytest.raises(SharingError) as raised:
        package_bundle(root, tmp_path / "out.zip", prove=False)
    found = {str(finding).partition(": ")[0] for finding in raised.value.findings}
    counts = {name: len((root / name).read_text().splitlines()) for name in places}
    last = {f"{name}:{count}" for name, count in counts.items()}
    assert found == {*last, f"configs/train.yaml:{counts['configs/train.yaml'] - 1}"}
    assert "'/mnt/h/DOE_JOHN'. Make it relative to the bundle, or take it out." in str(raised.value)
    assert not (tmp_path / "out.zip").exists()


def test_a_path_that_is_in_the_package_may_be_named_from_there(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "train.yaml").write_text("# /configs/train.yaml, /configs/no.yaml")
    assert [finding.problem for finding in find_leaks(tmp_path, Path("/elsewhere"))] == [
        "names a path of this machine, '/configs/no.yaml'"
    ]


def test_paths_in_metadata_are_left_out(created, tmp_path):
    root = created()
    file = root / "configs" / "metadata.json"
    metadata = {**json.loads(file.read_text()), "data_source": "/mnt/hospital/DOE_JOHN", "references": ["mine"]}
    metadata["references"].append("scans in /mnt/hospital/DOE JOHN")
    file.write_text(json.dumps(metadata))
    made = package_bundle(root, tmp_path / "out.zip", prove=False)
    text = zipfile.ZipFile(made.file).read("lesion/configs/metadata.json").decode()
    assert "DOE" not in text
    assert "$" not in text
    assert json.loads(text)["references"] == ["mine"]
    assert "data_source" not in json.loads(text)
    told = [str(change) for change in made.changes]
    assert any(re.match(r"metadata::data_source: names an absolute path and was left out, '/mnt/h", t) for t in told)
    assert any(text.startswith("metadata::references::1: ") for text in told)
    assert make_metadata_portable({"a": {"/mnt/x/y": 1, "b": 2}})[0] == {"a": {"b": 2}}


DECATHLON = {"name": "x", "training": [{"image": "images/DOE.nii.gz", "label": "labels/DOE.nii.gz"}], "test": []}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (DECATHLON, True),
        ({"validation": [{"image": "patients/DOE_JOHN"}]}, True),
        (["images/a.nii.gz", "images/b.png"], True),
        ([{"ct": ["a.dcm"]}], True),
        ({"training": [{"image": "a.nii.gz"}], "net": {"_target_": "UNet"}}, False),
        ({"training": [{"image": "a.nii.gz"}], "more": "$1"}, False),
        ({"large_files": [{"path": "models/model.pt", "url": "https://x.org/model.pt"}]}, False),
        ({"classes": ["liver", "spleen"]}, False),
        ({"training": []}, False),
        (None, False),
    ],
)
def test_lists_of_data(content, expected):
    assert is_data_list(content) is expected


def test_lists_of_data_stay_behind(created, tmp_path):
    root = created()
    (root / "configs" / "datalist.json").write_text(json.dumps(DECATHLON))
    (root / "scripts" / "cases.yml").write_text("- image: images/DOE.nii.gz\n")
    (root / "scripts" / "odd.json").write_text("{")
    made = package_bundle(root, tmp_path / "out.zip", prove=False)
    told = {change.id: change.problem for change in made.changes}
    assert told == dict.fromkeys(("configs/datalist.json", "scripts/cases.yml"), "names data and stays behind")
    assert not {"configs/datalist.json", "scripts/cases.yml"} & set(made.files)
    assert "scripts/odd.json" in made.files


def test_json_with_tabs(created, tmp_path):
    root = created()
    file = root / "configs" / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent="\t"))
    (root / "configs" / "more.json").write_text('{\n\t"weights":\t"/mnt/x/a.pt",\n\t"b": "c\\td"\n}')
    made = package_bundle(root, tmp_path / "out.zip", prove=False)
    text = zipfile.ZipFile(made.file).read("lesion/configs/more.json").decode()
    assert text == '{\n\t"weights":\t"$@bundle_root + \'/data/a.pt\'",\n\t"b": "c\\td"\n}'


def test_paths_of_windows_in_configs(tmp_path):
    text, findings = make_config_portable("a: C:\\scans\\ada\\ct.nii.gz\nb: '\\\\server\\share'\nc: D:/scans", tmp_path)
    assert text.splitlines() == [
        "a: \"$@bundle_root + '/data/ct.nii.gz'\"",
        "b: \"$@bundle_root + '/data'\"",
        "c: \"$@bundle_root + '/data'\"",
    ]
    assert [finding.id for finding in findings] == ["a", "b", "c"]


def test_a_checkpoint_that_cannot_be_read_costs_the_key_metric_alone(created, tmp_path):
    root = created()
    folder = root / "lightning_logs" / "version_0" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"hyper_parameters": {"root": Path("x")}}, folder / "epoch=1.ckpt")
    made = package_bundle(root, tmp_path / "out.zip", prove=False)
    (told,) = [str(change) for change in made.changes]
    assert told.startswith("metadata::eval_metrics: lack the key metric: ")
    assert "Unsupported" in told
    assert "pathlib" in told
    assert "--weights" not in told
    assert "\x1b" not in told
    (root / "models" / "model.pt").unlink()
    with pytest.raises(SharingError, match="cannot be read with weights_only=True") as raised:
        package_bundle(root, tmp_path / "out.zip", prove=False)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize("content", [None, b"broken", pickle.dumps({"a": 1})])
def test_nobody_is_told_to_read_weights_otherwise(content, created, tmp_path):
    root = created()
    if content is None:
        torch.save({"a": Path("x")}, root / "models" / "model.pt")
    else:
        (root / "models" / "model.pt").write_bytes(content)
    with pytest.raises(SharingError, match=r"^weights: .* cannot be read with weights_only=True: ") as raised:
        package_bundle(root, tmp_path / "out.zip", prove=False)
    for advice in ("False", "safe_globals", "Re-running", "file an issue"):
        assert advice not in str(raised.value)


def test_output_that_cannot_be_written(created, tmp_path):
    root = created()
    with pytest.raises(SharingError, match=r"output: must be a file, '.*' is a directory"):
        package_bundle(root, tmp_path, prove=False)
    (tmp_path / "file").write_text("x")
    with pytest.raises(SharingError, match=r"output: .*out\.zip cannot be written"):
        package_bundle(root, tmp_path / "file" / "out.zip", prove=False)


def test_an_output_is_replaced_as_a_whole_or_not_at_all(created, tmp_path, monkeypatch):
    root = created()
    (tmp_path / "out.zip").write_text("before")

    def full(source, target):
        Path(target).write_text("half")
        if Path(target).name == "out.zip":
            raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", full)
        with pytest.raises(SharingError, match=r"output: .*out\.zip cannot be written: no space left"):
            package_bundle(root, tmp_path / "out.zip", prove=False)
    assert (tmp_path / "out.zip").read_text() == "before"
    package_bundle(root, tmp_path / "out.zip", prove=False)
    assert zipfile.is_zipfile(tmp_path / "out.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lesion", "out.zip"]
