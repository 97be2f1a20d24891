"""Pages of documentation: their blocks, links and headings, and their commands run as a reader would run them.

A page is read from top to bottom. An indented block is a terminal: lines that begin with a known program are commands, the
others what the command above them prints (``…`` for anything). A command must succeed, unless it says `# exit code N`. A fenced
``yaml`` or ``python`` block whose first line is a comment with a path is that file; other ``python`` blocks are run.
"""

import inspect
import io
import os
import re
import runpy
import shlex
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from importlib.metadata import metadata
from pathlib import Path
from typing import NamedTuple

from monai_lighter.autoload import autoload
from monai_lighter.errors import in_terms_of_config
from monai_lighter.workflow.screen import Screen

ROOT = Path(__file__).parents[2]
PROGRAMS = ("bash", "cd", "mkdir", "monai-lighter", "pip", "python", "unzip")
FILE = re.compile(r"# ([\w./-]+\.(?:yaml|py))\n")
QUIET = {"enable_progress_bar": "False", "enable_model_summary": "False", "accelerator": "cpu", "max_epochs": "2"}
STAGES = ("fit", "validate", "test", "predict")


class Block(NamedTuple):
    """A block of a page: ``language`` (``terminal`` for an indented one), text, and the number of its first line."""

    language: str
    text: str
    line: int


def blocks(path):
    """Blocks of a page in order."""
    language, found = "", []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("```"):
            language = "" if language else line[3:].strip() or "text"
            if language:
                found.append(Block(language, "", number + 1))
        elif language:
            found[-1] = found[-1]._replace(text=f"{found[-1].text}{line}\n")
        elif line.startswith("    "):
            if not found or found[-1].language != "terminal" or found[-1].line + found[-1].text.count("\n") != number:
                found.append(Block("terminal", "", number))
            found[-1] = found[-1]._replace(text=f"{found[-1].text}{line[4:]}\n")
    return found


def prose(path):
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(path):
    """Names of a page's headings, as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path):
    """Links of a page to files, pages and headings that are not there."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        missing = not target.exists() or (anchor and anchor not in anchors(target))
        if not link.startswith(("http:", "https:")) and missing:
            broken.append(link)
    return broken


class Reader:
    """Follows a page in the working directory, every command in this process.

    Args:
        monkeypatch: of pytest.
        unnamed: file that a ``yaml`` block with no path is.
    """

    def __init__(self, monkeypatch, unnamed=None):
        self.monkeypatch, self.unnamed = monkeypatch, unnamed
        monkeypatch.setattr(Screen, "keep", lambda screen: None)  # for the rest of the process, which goes on here
        monkeypatch.setattr(
            inspect, "stack", partial(inspect.stack, 0)
        )  # of Fire: half a second for the source of pytest's frames
        self.names, self.reports = {"__name__": "page"}, False

    def follow(self, path):
        self.reports = path.name in ("quickstart.md", "report.md")
        for block in blocks(path):
            where = f"{path.name}:{block.line}"
            if block.language == "terminal":
                self._terminal(block.text, where)
            elif block.language in ("yaml", "python"):
                self._fenced(block, where)
            else:
                raise AssertionError(f"{where}: nothing runs a block of {block.language!r}")

    def _fenced(self, block, where):
        named = FILE.match(block.text)
        if named or block.language == "yaml":
            assert named or self.unnamed, f"{where}: the first line must be a comment with the path of the file"
            file = Path(named[1] if named else self.unnamed)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
        else:
            self._alone(lambda: exec(compile(block.text, where, "exec"), self.names), where)

    def _terminal(self, text, where):
        printed = ""
        for line in text.replace("\\\n", " ").splitlines():
            if line.split(" ")[0] in PROGRAMS:
                expected = re.search(r"# exit code (\d)", line)
                code, printed = self._command(shlex.split(line, comments=True), where)
                assert code == int(expected[1] if expected else 0), f"{where}: {line}\nexit code {code}\n{printed}"
            elif printed and line.strip():
                pattern = r"\s+".join(re.escape(word).replace("…", ".*") for word in line.split())
                assert re.search(pattern, printed), f"{where}: not printed: {line}\n{printed}"

    def _command(self, words, where):
        program, *arguments = words
        if program == "cd":
            os.chdir(arguments[0])
        elif program == "mkdir":
            Path(arguments[-1]).mkdir(parents="-p" in arguments)
        elif program == "unzip":
            zipfile.ZipFile(arguments[0]).extractall(arguments[2] if arguments[1:2] == ["-d"] else ".")
        elif program == "pip":
            self._installs(arguments[1], where)
        elif program == "monai-lighter":
            return self._alone(lambda: self._module("monai_lighter", self._cheap(arguments)), where)
        elif arguments[0] == "-m":
            return self._alone(lambda: self._module(arguments[1], self._cheap(arguments[2:])), where)
        else:  # a script of the repository, with options that it has
            script = (ROOT / arguments[0]).read_text()
            assert all(word in script for word in arguments if word.startswith("--")), where
        return 0, ""

    @staticmethod
    def _installs(requirement, where):
        name, _, extra = requirement.strip("\"'").partition("[")
        known = metadata("monai_lighter")
        assert name in (known["Name"], "."), where
        assert not extra or extra.rstrip("]") in known.get_all("Provides-Extra"), where

    def _cheap(self, arguments):
        """Two epochs on the CPU in stages of native configs; no report, which takes as long, but where the page is about it."""
        if arguments[0] in STAGES or (arguments[0] == "run" and arguments[1] in STAGES):
            settings = (f"--trainer::{name}={value}" for name, value in QUIET.items())
            return [*arguments, *settings, f"--report={self.reports}"]
        return arguments

    def _module(self, name, arguments):
        self.monkeypatch.setattr(sys, "argv", ["-m", *arguments])
        self.monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-m", name, *arguments])
        autoload()
        sys.argv[0] = name
        runpy.run_module(name, run_name="__main__", alter_sys=True)

    def _alone(self, call, where):
        """Exit code and output of a call that leaves nothing behind in this process."""
        before, path, hook, output = dict(os.environ), [*sys.path], sys.excepthook, io.StringIO()
        code = 0
        try:
            with redirect_stdout(output), redirect_stderr(output):
                call()
        except SystemExit as stop:
            code = stop.code or 0
        except Exception as error:
            message = in_terms_of_config(error)
            if message is None:
                raise AssertionError(f"{where}: {error!r}\n{output.getvalue()[-3000:]}") from error
            print(message, file=output)
            code = getattr(error, "exit_code", 1)
        finally:
            sys.path[:], sys.excepthook = path, hook
            os.environ.clear()
            os.environ.update(before)
            for module in [module for module in sys.modules if module.partition(".")[0] in ("project", "scripts")]:
                del sys.modules[module]
        return code, output.getvalue()
