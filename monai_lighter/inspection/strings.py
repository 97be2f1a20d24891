"""Texts in a config or a script that say where something is read from or written to."""

from __future__ import annotations

import ntpath
import posixpath
import re
from collections.abc import Iterator

from monai_lighter.inspection.report import Level, Verdict

__all__ = ["is_written", "leaves_bundle", "path_verdict", "urls"]

WRITTEN_FOR = re.compile(
    "out|save|saving|log|ckpt|checkpoint|cache|summary|result|tensorboard|mlruns|eval|export|mapping"
)
WRITTEN_TO = ("dir", "path", "folder", "root", "file", "filename")
WRITTEN = re.compile(
    "default_root_dir|dirpath|dirname|output|dst|destination|path|filename|filepath|key_metric_filename|final_filename|"
    "tracking_uri|artifact_location|store|value_store|count_store|name|version"
)
"""Names of arguments and items that something is written to, beside those put together of `WRITTEN_FOR` and `WRITTEN_TO`."""
SENSITIVE = re.compile(
    r"(^|[/\\])\.(ssh|aws|gnupg|kube|docker|netrc|bashrc|bash_profile|bash_login|profile|zshrc|zshenv|pdbrc|pythonrc|gitconfig|"
    r"config[/\\](autostart|systemd))\b|(^|[/\\])(authorized_keys|id_rsa|id_ed25519|crontab|cron\.\w+|sudoers|passwd|shadow)\b"
    r"|site-packages|dist-packages|sitecustomize|usercustomize|^/(etc|proc|sys|dev|boot|bin|sbin|lib|usr|root|var/spool)(/|$)"
    r"|\\(Windows|System32|Startup)\\",
    re.IGNORECASE,
)
"""Places that hold secrets, or from which something is started by itself."""
SAFE_DEVICES = ("/dev/null", "/dev/stdout", "/dev/stderr")
URL = re.compile(
    r"\b(?:https?|ftps?|s3|gs|file|git|ssh|sftp|wss?|tcp|ldap|smb|hf|azure|abfss?)://[^\s'\"<>)\]}]+", re.IGNORECASE
)


def is_written(name: str) -> bool:
    """Whether an argument or item of that name says where something is written to."""
    purpose = WRITTEN_FOR.search(name)
    put_together = purpose is not None and name[purpose.end() :].endswith(WRITTEN_TO) and name.isidentifier()
    return put_together or WRITTEN.fullmatch(name) is not None


def urls(text: str) -> Iterator[str]:
    """All URLs in a text."""
    yield from (url.rstrip(".,;:") for url in URL.findall(text))


def leaves_bundle(path: str) -> str:
    """How a path leads out of the bundle: ``absolute``, ``home`` or ``parent``; empty where it does not."""
    text = path.replace("\\", "/")
    if posixpath.isabs(text) or ntpath.splitdrive(path)[0]:
        return "absolute"
    if text.startswith("~"):
        return "home"
    return "parent" if posixpath.normpath(text).split("/")[0] == ".." else ""


def path_verdict(text: str, written: bool, joined: bool = False) -> Verdict | None:
    """The verdict on a text, if it is a path that matters.

    Args:
        text: any text.
        written: whether it stands where something writes to.
        joined: whether something stands before it, so that a ``/`` at its beginning is no root.
    """
    if len(text) > 4096 or "\n" in text or URL.match(text) or text in SAFE_DEVICES:
        return None
    if joined:
        text = text.lstrip("/\\")
    if SENSITIVE.search(text) and ("/" in text or "\\" in text or text.startswith(".")):
        return Verdict(Level.DANGER, "a place that holds secrets, or from which things are started")
    way = leaves_bundle(text) if "/" in text or "\\" in text or text.startswith(("~", "..")) else ""
    if way and written:
        return Verdict(Level.LOOK, f"written outside of the bundle ({way})")
    if "/.." in text.replace("\\", "/"):
        return Verdict(Level.LOOK, "leads out of a directory")
    return Verdict(Level.OK, f"read outside of the bundle ({way})") if way else None
