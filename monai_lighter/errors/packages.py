"""Which command installs what an import did not find."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["find_install_command", "install_hint_of"]

OWN = "monai_lighter"
APART = ("dev", "examples")
"""Extras that are for no feature of the package."""
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "ignite": "pytorch-ignite",
    "mlflow": "mlflow-skinny",
    "nrrd": "pynrrd",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Modules whose distributions have other names."""
ABSENT = re.compile(r"No module named '([\w.]+)'|import of ([\w.]+) halted")


def find_install_command(module: str) -> str:
    """``pip install 'monai_lighter[zoo]'``: the extra that a module is in, else its distribution.

    Args:
        module: dotted name of a module that is not there.
    """
    top = module.partition(".")[0]
    name = DISTRIBUTIONS.get(top, top)
    extra = _extras().get(canonicalize_name(name))
    what = f"'{OWN}[{extra}]'" if extra else name
    return f"pip install {what}"


def install_hint_of(error: BaseException) -> str:
    """``Install it: pip install …`` for an error of an import, MONAI's of an optional one among them; empty for any other.

    Nothing is said of a module within a package that is there: another version of it, or a misspelt name.
    """
    found = ABSENT.search(str(error)) if isinstance(error, ImportError) else None
    name = found and (found[1] or found[2])
    return f"Install it: {find_install_command(name)}." if name and "." not in name and name != "scripts" else ""


@cache
def _extras() -> dict[str, str]:
    """Distribution to the extra of this package that brings it."""
    try:
        listed = [Requirement(text) for text in requires(OWN) or ()]
    except PackageNotFoundError:
        return {}
    found: dict[str, str] = {}
    for each in listed:
        extra = re.search(r"extra\s*==\s*[\"'](\w+)[\"']", str(each.marker or ""))
        if extra is not None and extra[1] not in APART:
            found.setdefault(canonicalize_name(each.name), extra[1])
    return found
