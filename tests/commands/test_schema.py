import copy
import json

import jsonschema
import pytest

from monai_lighter.share.create import create_bundle
from monai_lighter.share.schema import FILE, metadata_findings

SPOILED = {
    "required": lambda m: m.pop("authors"),
    "type": lambda m: m.update(version=1.0),
    "boolean is no integer": lambda m: m["network_data_format"]["inputs"]["image"].update(num_channels=True),
    "nested": lambda m: m["network_data_format"]["outputs"]["pred"].update(spatial_shape=[1.5]),
    "argument": lambda m: m["network_data_format"]["inputs"].update(image=None),
    "items": lambda m: m.update(references=[1]),
    "missing in a tensor": lambda m: m["network_data_format"]["inputs"]["image"].pop("dtype"),
    "pattern": lambda m: m.update(text_data_format={"inputs": {}}),
    "nothing": lambda m: None,
    "more": lambda m: m.update(anything=[None]),
    "plain argument": lambda m: m["network_data_format"]["inputs"].update(age=3),
}


@pytest.fixture
def metadata(tmp_path):
    create_bundle(tmp_path / "b", "segmentation", 3)
    return json.loads((tmp_path / "b" / "configs" / "metadata.json").read_text())


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
def test_agrees_with_jsonschema(spoil, metadata):
    spoil(metadata)
    errors = list(jsonschema.Draft201909Validator(json.loads(FILE.read_text())).iter_errors(metadata))
    assert bool(metadata_findings(metadata)) == bool(errors)


def test_names_the_item(metadata):
    del metadata["network_data_format"]["inputs"]["image"]["dtype"]
    metadata["task"] = 3
    found = {finding.id for finding in metadata_findings(metadata)}
    assert found == {"metadata::task", "metadata::network_data_format::inputs::image::dtype"}


def test_older_bundles_name_optional_packages(metadata):
    older = copy.deepcopy(metadata)
    older["optional_packages_version"] = older.pop("required_packages_version")
    assert metadata_findings(older)
    older["schema"] = older["schema"].replace("20240725", "20220324")
    assert metadata_findings(older) == []
    assert metadata_findings([]) != []
