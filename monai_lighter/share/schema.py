"""The rules of MONAI's bundle metadata, checked with no network and no JSON Schema library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai_lighter.errors import Finding

__all__ = ["SCHEMA_URL", "metadata_findings"]

SCHEMA_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
FILE = Path(__file__).parent / "meta_schema_20240725.json"
TYPES: dict[str, type | tuple[type, ...]] = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "string": str,
}
OLDER = {"required_packages_version": "optional_packages_version"}
"""Names in ``meta_schema_20240725`` and in the schemas before it, which most bundles of the model zoo follow."""


def metadata_findings(metadata: Any) -> list[Finding]:
    """What in a bundle's metadata breaks the rules of ``meta_schema_20240725``, or of the schema before where it names that."""
    schema = json.loads(FILE.read_text("utf-8"))
    if isinstance(metadata, dict) and not str(metadata.get("schema", "")).endswith(FILE.name):
        schema["required"] = [name for name in schema["required"] if OLDER.get(name) not in metadata]
    return list(_findings("metadata", metadata, schema, schema["$defs"]))


def _findings(id: str, value: Any, rule: dict, definitions: dict) -> Iterator[Finding]:
    """The keywords that the schema uses: ``$ref anyOf type properties patternProperties required items``."""
    if "$ref" in rule:
        yield from _findings(id, value, definitions[rule["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in rule:
        options = [list(_findings(id, value, option, definitions)) for option in rule["anyOf"]]
        if all(options):
            yield from max(
                options, key=lambda findings: isinstance(value, dict) and "must be" not in findings[0].problem
            )
    if "type" in rule and not _is(value, rule["type"]):
        yield Finding(id, f"must be {_named(rule['type'])}, got {value!r:.80}", "Mend configs/metadata.json.")
        return
    if isinstance(value, dict):
        for name in rule.get("required", ()):
            if name not in value:
                yield Finding(f"{id}::{name}", "is required, got none", "Add it to configs/metadata.json.")
        for name, item in value.items():
            patterns = [sub for pattern, sub in rule.get("patternProperties", {}).items() if re.search(pattern, name)]
            known = rule.get("properties", {})
            for sub in ([known[name]] if name in known else []) + patterns:
                yield from _findings(f"{id}::{name}", item, sub, definitions)
    if isinstance(value, list) and "items" in rule:
        for i, item in enumerate(value):
            yield from _findings(f"{id}::{i}", item, rule["items"], definitions)


def _is(value: Any, types: str | list[str]) -> bool:
    names = [types] if isinstance(types, str) else types
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, TYPES[name]) for name in names)


def _named(types: str | list[str]) -> str:
    return types if isinstance(types, str) else " or ".join(types)
