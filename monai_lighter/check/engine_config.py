"""What can be seen to be wrong in a config of MONAI's engines before it is run."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

from lightning.pytorch import Trainer
from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent
from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.check.former import suggest_former
from monai_lighter.config.items import items, locate, mentions, normalize
from monai_lighter.errors import Finding, Note, did_you_mean

__all__ = ["check_engines", "find_missing_packages"]

SECTION = "lightning"
OWN_KEYWORDS = ("ckpt_path",)
ENGINES = ("Trainer", "Evaluator")


def check_engines(config: dict) -> Iterator[Finding]:
    """Unknown keywords of the ``lightning`` section and of engines of ours, and engines where pytorch-ignite is not installed."""
    id = locate(config, SECTION) or SECTION
    section = ConfigParser(config).get(id)
    if isinstance(section, dict):
        components = [item for item, value in items(config) if isinstance(value, dict) and "_target_" in value]
        yield from _keywords(id, "", section, [normalize(component) for component in components])
    elif section is not None and not isinstance(section, str):
        yield Finding(id, f"must be a section, got {section!r}", "Give it keywords of lightning.pytorch.Trainer.")
    if config.get("skip_existing") is True and not _is_used(config, "skip_existing"):
        hint = "Leave it out, or take the cases that are done out of its list."
        yield Finding("skip_existing", "is for native configs, this one is of MONAI's engines", hint)
    for id, value in items(config):
        target = value.get("_target_") if isinstance(value, dict) else None
        if isinstance(target, str) and target.endswith(ENGINES):
            own = value.get(SECTION) if target.startswith("monai_lighter.") else None
            yield from _keywords(f"{id}{ID_SEP_KEY}{SECTION}", "", own if isinstance(own, dict) else {}, ())
            if find_spec("ignite") is None:
                yield Finding(f"{id}::_target_", f"{target} needs pytorch-ignite", "pip install 'monai_lighter[zoo]'.")


def _is_used(config: dict, id: str) -> bool:
    return any(mentions(value, id) for _, value in items(config) if isinstance(value, str))


def _keywords(id: str, engine: str, section: dict, components: Sequence[str]) -> Iterator[Finding]:
    """Unknown keywords in a section, and in those for one engine within it.

    Args:
        id: of the section.
        engine: the config id, or its beginning, that the section is for; empty for all engines.
        section: its entries.
        components: ids of everything in the config that may be an engine.
    """
    known = () if engine and engine not in components else (*inspect.signature(Trainer).parameters, *OWN_KEYWORDS)
    for key, value in section.items():
        name = f"{engine}{ID_SEP_KEY if engine else ''}{normalize(key)}"
        leads = any(f"{component}{ID_SEP_KEY}".startswith(f"{name}{ID_SEP_KEY}") for component in components)
        if key in known or (key in ConfigComponent.non_arg_keys and key != "_target_"):
            continue
        if leads and isinstance(value, dict):
            yield from _keywords(f"{id}{ID_SEP_KEY}{key}", name, value, components)
            continue
        hint = suggest_former(Trainer, key, value) or did_you_mean(normalize(key), [*known, *components])
        problem = f"lightning.pytorch.Trainer has no argument {key!r}, got {value!r:.80}"
        yield Finding(f"{id}{ID_SEP_KEY}{key}", problem, hint)


def find_missing_packages(meta: dict) -> Iterator[Note]:
    """Packages that a bundle's metadata asks for and that are not installed."""
    for name in ("required_packages_version", "optional_packages_version"):
        asked = meta.get(name)
        for package, version in asked.items() if isinstance(asked, dict) else ():
            if not _is_installed(package):
                problem = f"the bundle asks for {package} {version}, which is not installed"
                hint = f"If the run needs it: pip install {package}=={version}."
                yield Note(f"_meta_{ID_SEP_KEY}{name}", problem, hint)


def _is_installed(package: str) -> bool:
    """Whether there is a distribution or, as some bundles name it, a module of that name."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return find_spec(package.replace("-", "_").split(".", maxsplit=1)[0]) is not None
    return True
