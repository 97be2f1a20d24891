"""Links in a bundle, followed by name to files that the bundle has, and never on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from monai_lighter.inspection.source import Member

__all__ = ["linked_files"]

MAX_HOPS = 40
MAX_FILES = 10_000


def linked_files(members: Iterable[Member]) -> Iterator[Member]:
    """Files under the names that links give them: of a link to a file that one, of one to a directory all below it.

    A link that leads out of the bundle, or nowhere, gives none.
    """
    links = {member.name: member.link for member in members if member.kind == "link"}
    files = {member.name: member for member in members if member.kind == "file"} if links else {}
    count = 0
    for name in links:
        target = _target(name, links)
        if target in files:
            yield replace(files[target], name=name)
            continue
        for file, member in files.items():
            if target is not None and file.startswith(f"{target}/" if target else "") and count < MAX_FILES:
                count += 1
                yield replace(member, name=f"{name}/{file[len(target) :].lstrip('/')}")


def _target(name: str, links: dict[str, str]) -> str | None:
    """Where a name leads by way of all links; None for out of the bundle or in a circle."""
    waiting, at, hops = name.split("/")[::-1], list[str](), 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            if not at:
                return None
            at.pop()
        elif part not in ("", "."):
            at.append(part)
            link = links.get("/".join(at))
            if link is not None:
                hops += 1
                if hops > MAX_HOPS or link.startswith("/"):
                    return None
                at.pop()
                waiting += link.split("/")[::-1]
    return "/".join(at)
