import copy
import json

import pytest

from monai_lighter.share import schema
from monai_lighter.share.create import create_bundle
from monai_lighter.share.layout import SharingError
from monai_lighter.share.packaging import package_bundle
from monai_lighter.share.schema import check_metadata

IMAGE = "metadata::network_data_format::inputs::image"
SPOILED = {
    "required": ("metadata", lambda m: m.pop("authors")),
    "type": ("metadata::version", lambda m: m.update(version=1.0)),
    "boolean is no integer": (
        f"{IMAGE}::num_channels",
        lambda m: m["network_data_format"]["inputs"]["image"].update(num_channels=True),
    ),
    "nested": (
        "metadata::network_data_format::outputs::pred::spatial_shape::0",
        lambda m: m["network_data_format"]["outputs"]["pred"].update(spatial_shape=[1.5]),
    ),
    "argument": (IMAGE, lambda m: m["network_data_format"]["inputs"].update(image=None)),
    "items": ("metadata::references::0", lambda m: m.update(references=[1])),
    "missing in a tensor": (IMAGE, lambda m: m["network_data_format"]["inputs"]["image"].pop("dtype")),
    "pattern": ("metadata::text_data_format", lambda m: m.update(text_data_format={"inputs": {}})),
    "nothing": ("", lambda m: None),
    "more": ("", lambda m: m.update(anything=[None])),
    "plain argument": ("", lambda m: m["network_data_format"]["inputs"].update(age=3)),
}


@pytest.fixture
def metadata(tmp_path):
    create_bundle(tmp_path / "b", "segmentation", 3)
    return json.loads((tmp_path / "b" / "configs" / "metadata.json").read_text())


@pytest.mark.parametrize(("id", "spoil"), SPOILED.values(), ids=SPOILED.keys())
def test_names_the_item(id, spoil, metadata):
    spoil(metadata)
    assert [finding.id for finding in check_metadata(metadata)] == ([id] if id else [])


def test_names_all_that_is_wrong(metadata):
    del metadata["network_data_format"]["inputs"]["image"]["dtype"]
    metadata["task"] = 3
    del metadata["authors"]
    found = {str(finding) for finding in check_metadata(metadata)}
    mend = "Mend configs/metadata.json."
    assert found == {
        f"metadata: 'authors' is a required property. {mend}",
        f"metadata::task: 3 is not of type 'string'. {mend}",
        f"metadata::network_data_format::inputs::image: 'dtype' is a required property. {mend}",
    }


def test_without_jsonschema_nothing_passes_as_checked(metadata, tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "has_jsonschema", False)
    with pytest.raises(SharingError, match=r"pip install 'monai_lighter\[share\]'"):
        check_metadata(metadata)
    with pytest.raises(SharingError, match="without the package jsonschema"):
        package_bundle(tmp_path / "b")


def test_older_bundles_name_optional_packages(metadata):
    older = copy.deepcopy(metadata)
    older["optional_packages_version"] = older.pop("required_packages_version")
    assert check_metadata(older)
    older["schema"] = older["schema"].replace("20240725", "20220324")
    assert check_metadata(older) == []
    assert check_metadata([]) != []
