"""What can be seen to be wrong in a config of MONAI's engines before it is run."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from lightning.pytorch import Trainer
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.config.overrides import items
from monai_lighter.errors import Finding, did_you_mean

__all__ = ["engine_findings", "missing_packages"]

SECTION = "lightning"
OWN_KEYWORDS = ("ckpt_path",)
ENGINES = ("Trainer", "Evaluator")
DISTRIBUTIONS = {"pytorch-ignite": "ignite", "scikit-image": "skimage", "scikit-learn": "sklearn", "pillow": "PIL"}
"""Names of packages, and of the modules they bring, where the two differ."""


def engine_findings(config: dict) -> Iterator[Finding]:
    """Unknown keywords of the ``lightning`` section, and engines where pytorch-ignite is not installed."""
    section = config.get(SECTION)
    if isinstance(section, dict):
        yield from _keywords(SECTION, section, config)
    elif section is not None and not isinstance(section, str):
        yield Finding(SECTION, f"must be a section, got {section!r}", "Give it keywords of lightning.pytorch.Trainer.")
    if find_spec("ignite") is None:
        for id, value in items(config):
            target = value.get("_target_") if isinstance(value, dict) else None
            if isinstance(target, str) and target.endswith(ENGINES):
                yield Finding(f"{id}::_target_", f"{target} needs pytorch-ignite", "pip install 'monai_lighter[zoo]'.")


def _keywords(id: str, section: dict, config: dict) -> Iterator[Finding]:
    known = [*inspect.signature(Trainer).parameters, *OWN_KEYWORDS]
    engines = {ReferenceResolver.normalize_id(item) for item, value in items(config) if _is_engine(value)}
    for key, value in section.items():
        name = ReferenceResolver.normalize_id(key)
        if name in engines and isinstance(value, dict):
            yield from _keywords(f"{id}{ID_SEP_KEY}{key}", value, {})
        elif name not in known and not name.startswith("_"):
            hint = did_you_mean(name, [*known, *engines])
            yield Finding(
                f"{id}{ID_SEP_KEY}{key}", f"lightning.pytorch.Trainer has no argument {key!r}, got {value!r:.80}", hint
            )


def _is_engine(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


def missing_packages(meta: dict) -> Iterator[Finding]:
    """Packages that a bundle's metadata asks for and that are not installed."""
    for name in ("required_packages_version", "optional_packages_version"):
        for package, version in (meta.get(name) or {}).items():
            module = DISTRIBUTIONS.get(package.lower(), package.replace("-", "_"))
            if find_spec(module.split(".", maxsplit=1)[0]) is None:
                hint = f"If the run needs it: pip install {package}=={version}."
                yield Finding(
                    f"_meta_{ID_SEP_KEY}{name}",
                    f"the bundle asks for {package} {version}, which is not installed",
                    hint,
                )
