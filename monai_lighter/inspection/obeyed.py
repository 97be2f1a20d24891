"""Files that other programs run or obey: by their name, or by how they begin."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

__all__ = ["started_by_itself", "why_obeyed"]

SHELLS = (
    *(".sh", ".bash", ".zsh", ".bat", ".cmd", ".ps1", ".js", ".pl", ".rb", ".r", ".ipynb", ".desktop", ".exe", ".msi"),
    *(".mk", ".command", ".vbs", ".lua", ".jar"),
)
STARTED = {".pdbrc", ".pythonrc", ".envrc", "pip.conf", ".condarc", "autorun.inf"}
"""Names of files that some program runs or obeys without being asked to."""
STARTED_MODULE = re.compile(r"(^|/)(sitecustomize|usercustomize)(/__init__)?\.\w[\w.-]*$")
RECIPES = {
    *("makefile", "gnumakefile", "cmakelists.txt", "dockerfile", "jenkinsfile", "justfile", "rakefile", "tox.ini"),
    *(".env", ".gitlab-ci.yml", ".pre-commit-config.yaml", "package.json", "docker-compose.yml", "compose.yml"),
}
TOOLS = {".vscode", ".idea", ".devcontainer", ".github", ".circleci"}
"""Directories of editors and of servers that build and test."""
PAGES = (".html", ".htm", ".xhtml", ".svg")
ACTIVE = re.compile(rb"<\s*(script|iframe|object|embed)\b|javascript:|\bon[a-z]+\s*=", re.IGNORECASE)


def started_by_itself(name: str) -> bool:
    """Whether some program runs the file without being asked to."""
    return posixpath.basename(name) in STARTED or STARTED_MODULE.search(name) is not None


def why_obeyed(name: str, read: Callable[..., bytes]) -> str:
    """Why a file is to be read before the program is started that runs or obeys it; empty where there is none.

    Args:
        name: of the file, in the bundle.
        read: gives its content, or so many bytes of it.
    """
    *folders, file = name.lower().split("/")
    if file in RECIPES or not TOOLS.isdisjoint(folders):
        return "obeyed by a program that builds, starts or edits what is beside it"
    if file.endswith(SHELLS):
        return "a script: read it before you run it"
    if file == "pyproject.toml":
        return "an installer runs what it names" if b"build-" in read() else ""
    if file.endswith(PAGES):
        return "a page that runs code in a browser" if ACTIVE.search(read()) else ""
    is_source = file.endswith((".py", ".pyw", ".pyi", ".sample"))
    return "a script, by its first line: read it before you run it" if not is_source and read(2) == b"#!" else ""
