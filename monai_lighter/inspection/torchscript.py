"""Code in a model file: of TorchScript, and of torch.package."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from monai_lighter.inspection.report import Entry, Level

__all__ = ["code_entries"]

SCRIPTED = re.compile(r"\b(?:torch|ops\.aten|ops\.prim)\.(save|from_file|load|open|write\w*|_save\w*|_load\w*)\(")
CUSTOM = re.compile(r"\bops\.(?!aten\b|prim\b|quantized\b|torchvision\b|image\b)(\w+)\.(\w+)\(")


def code_entries(name: str, code: list[tuple[str, bytes]], is_script: bool) -> Iterator[Entry]:
    """Of the Python files in one archive, by name.

    Args:
        name: of the archive.
        code: name and content of each.
        is_script: whether it is TorchScript, which is no Python.
    """
    digest = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for _, data in sorted(code))).hexdigest()
    files = ", ".join(file for file, _ in code[:3]) + (", …" if len(code) > 3 else "")
    if not is_script:
        yield Entry(
            Level.DANGER, "script", name, f"{len(code)} Python files", f"code that torch.package would run: {files}"
        )
        return
    yield Entry(Level.LOOK, "torchscript", name, f"{len(code)} code files, sha256 {digest}", f"a program: {files}")
    for file, data in code:
        text = data.decode("utf-8", "replace")
        for operator in sorted(set(SCRIPTED.findall(text))):
            yield Entry(Level.DANGER, "torchscript", f"{name}!{file}", operator, "reads or writes a file")
        for space, operator in sorted(set(CUSTOM.findall(text))):
            yield Entry(
                Level.LOOK, "torchscript", f"{name}!{file}", f"{space}.{operator}", "an operator of another library"
            )
