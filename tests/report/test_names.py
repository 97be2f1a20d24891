import getpass
import socket

import pytest

from monai_lighter.report.names import Names

CASES = [
    "/data/hospital/MUELLER^HANS/ct.nii.gz",
    "/data/hospital/P-4711/ct.nii.gz",
    "/data/hospital/Jane Doe 1970/ct.nii.gz",
]
SECRETS = ("MUELLER", "HANS", "4711", "Jane", "Doe", "1970", "hospital", "ct.nii")


@pytest.mark.parametrize(
    "text",
    [
        "trainer::callbacks (FileWriter): case /data/hospital/MUELLER^HANS/ct.nii.gz: a prediction must be a tensor",
        "MUELLER^HANS has no label, P-4711 has two",
        "cannot read /data/hospital/Jane Doe 1970/ct.nii.gz: it is cut off",
        "cannot read C:\\hospital\\Jane Doe 1970\\ct.nii.gz",
        "the value 'Jane Doe 1970' of \"MUELLER\" is no number",
        "Jane_Doe_1970.nrrd and hospital/x.csv are gone",
        "first line\n/home/Hans/P-4711",
    ],
)
def test_texts_tell_no_case_and_no_path(text):
    told = Names(False, CASES).text(text)
    assert [secret for secret in SECRETS if secret.lower() in told.lower()] == []
    assert Names(True, CASES).text(text) == text


def test_what_a_text_says_stays():
    names = Names(False, CASES)
    assert names.text("case P-4711: val/metrics/dice/epoch is NaN") == "case 2: val/metrics/dice/epoch is NaN"
    text = "set system::dataloaders::train::num_workers to 4: batches are made while no step runs"
    assert names.text(text) == text


def test_what_several_cases_have_in_common_is_said_of_none_of_them():
    names = Names(False, [f"/data/P{i}/image.nii.gz" for i in range(3)])
    assert names.text("the image of P1 is odd") == "the … of case 2 is odd"


def test_user_and_machine_are_left_out():
    told = Names(False).text(f"{getpass.getuser()}@{socket.gethostname()} and bundle_{getpass.getuser()}")
    assert told == f"…@… and bundle_{getpass.getuser()}"


CONFIG = {
    "bundle_root": "/home/hans/mueller",
    "patient": "MUELLER",
    "mrn": 12345678,
    "max_epochs": 6,
    "spacing": [1.5, 1.5, 1.5],
    "ids": [1, 2, 3, 4, 5, 6, 7],
    "test_data": [{"image": "/data/mueller.nii.gz"}],
    "weights_by_case": {"mueller": 2.0},
    "<script>alert(1)</script>": 1,
    "label": "$@bundle_root + '/mueller'",
    "doubled": "$@max_epochs * 2",
    "comment": "$@max_epochs # mueller",
    "network_def": {"_target_": "UNet", "channels": [4, 8], "norm": "batch", "name": "mueller", "file": "mueller"},
    "dataset": {"_target_": "Dataset", "data": ["mueller", "meier"], "transform": "@network_def"},
    "trainer": {
        "_target_": "lightning.pytorch.Trainer",
        "logger": {"_target_": "MLFlowLogger", "experiment_name": "mueller", "tags": {"who": "mueller"}},
        "callbacks": [{"_target_": "project.Mueller/../../x", "who": "mueller"}],
        "accelerator": "cpu",
    },
}


def test_a_config_tells_what_is_harmless_by_its_form():
    rows = dict(Names(False).config(CONFIG))
    told = str(rows).lower()
    assert [secret for secret in ("mueller", "meier", "12345678", "hans", "script") if secret in told] == []
    assert rows["max_epochs"] == "6"
    assert rows["spacing"] == "[1.5, 1.5, 1.5]"
    assert rows["doubled"] == "$@max_epochs * 2"
    assert rows["network_def::_target_"] == "UNet"
    assert rows["network_def::norm"] == "batch"
    assert rows["network_def::channels"] == "[4, 8]"
    assert rows["dataset::transform"] == "@network_def"
    assert rows["trainer::accelerator"] == "cpu"
    assert rows["trainer::logger::_target_"] == "MLFlowLogger"


def test_a_config_with_names_is_whole():
    rows = dict(Names(True).config(CONFIG))
    assert rows["patient"] == "MUELLER"
    assert rows["test_data::0::image"] == "/data/mueller.nii.gz"
