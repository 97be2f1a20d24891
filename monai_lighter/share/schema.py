"""The rules of MONAI's bundle metadata, checked with ``jsonschema`` and no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai.utils import optional_import

from monai_lighter.errors import Finding
from monai_lighter.share.layout import SharingError

__all__ = ["SCHEMA_URL", "check_metadata", "require_jsonschema"]

SCHEMA_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
FILE = Path(__file__).parent / "meta_schema_20240725.json"
OLDER = {"required_packages_version": "optional_packages_version"}
"""Names in ``meta_schema_20240725`` and in the schemas before it, which most bundles of the model zoo follow."""

jsonschema, has_jsonschema = optional_import("jsonschema")


def require_jsonschema() -> None:
    """Raises SharingError where jsonschema is not installed."""
    if not has_jsonschema:
        hint = "pip install 'monai_lighter[share]', or package with --prove False, which leaves its metadata unchecked."
        raise SharingError(Finding("metadata", "cannot be checked without the package jsonschema", hint))


def check_metadata(metadata: Any) -> list[Finding]:
    """What in a bundle's metadata breaks the rules of ``meta_schema_20240725``, or of the schema before where it names that.

    Args:
        metadata: the content of ``configs/metadata.json``.

    Raises:
        SharingError: jsonschema is not installed.
    """
    require_jsonschema()
    schema = json.loads(FILE.read_text("utf-8"))
    if isinstance(metadata, dict) and not str(metadata.get("schema", "")).endswith(FILE.name):
        schema["required"] = [name for name in schema["required"] if OLDER.get(name) not in metadata]
    errors = jsonschema.Draft201909Validator(schema).iter_errors(metadata)
    innermost = [jsonschema.exceptions.best_match([error]) for error in errors]
    hint = "Mend configs/metadata.json."
    found = [Finding("::".join(["metadata", *map(str, e.absolute_path)]), e.message, hint) for e in innermost]
    return list(dict.fromkeys(found))  # one for each of several rules that an item breaks alike
