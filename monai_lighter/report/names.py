"""What a report may say: cases by number, texts without paths and names, of a config what is harmless by its form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from monai.bundle.utils import ID_SEP_KEY

from monai_lighter.callbacks.run_report import hide_user
from monai_lighter.folders import name_below_shared_folder

__all__ = ["Names"]

LEFT_OUT = "…"
SUFFIXES = "nii|gz|nrrd|mha|mhd|dcm|npy|npz|pt|png|jpe?g|tiff?|bmp|csv|json|ya?ml|txt|ckpt|h5|zip|conf|log|pkl|py"
PATHS = re.compile(rf"\S*[\\/](?:.*(?:[\\/]\S*|\.(?:{SUFFIXES})\b)|\S*)|\S+\.(?:{SUFFIXES})\b", re.IGNORECASE)
"""From the first word with a slash to the last one of the line that has one, or that ends as the name of a file does: the names
of folders may have spaces."""
LOGGED = re.compile(r"\b(?:train|val|test)/(?:loss|metrics|optimizer)(?:/\w+)*")
QUOTED = re.compile(r"""(?<!\w)(["'])(?:(?!\1).)+\1(?!\w)""")
TARGET = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
WORD = re.compile(r"[A-Za-z][A-Za-z_]{0,23}")
FORMULA = re.compile(r"(?:[@%]|\$[\w.(\[ ]*@)[\w.:@%()\[\]+*\-, ]+")
"""References, and expressions with one, of no text and no path."""
KEY = re.compile(r"[A-Za-z_]\w{0,39}")
LARGEST = 99_999
"""Whole numbers beyond it are not shown: hospitals number people so."""
MOST_NUMBERS = 6
PRIVATE = re.compile(
    r"logger|callbacks|bundle_root|data|tags|\w*(?:name|path|dir|file|user|author|comment)\w*|ids?|\w+_ids?"
)
"""Keys in which words are names and places."""


class Names:
    """What is told of cases, paths and people.

    Args:
        shown: whether everything is.
        cases: all names of cases, in the order in which they are numbered.
    """

    def __init__(self, shown: bool, cases: Iterable[str] = ()) -> None:
        self.shown = shown
        self._numbers = {case: number for number, case in enumerate(dict.fromkeys(cases), 1)}
        self._texts = {} if shown else self._list_texts()
        longest_first = "|".join(map(re.escape, sorted(self._texts, key=len, reverse=True)))
        self._pattern = re.compile(rf"(?:\bcase )?(?<!\w)({longest_first})(?!\w)") if self._texts else None

    def _list_texts(self) -> dict[str, str]:
        """What may stand for a case in a message, to the case, or to nothing where it may be of several."""
        texts: dict[str, str] = {}
        for short, case in name_below_shared_folder(self._numbers).items():
            parts = PurePath(short.replace("\\", "/")).parts
            if len(self._numbers) == 1:  # all of its folders are those that it shares with itself
                parts = (*parts, PurePath(case).parent.name)
            for text in dict.fromkeys((case, *parts, *(part.partition(".")[0] for part in parts))):
                texts[text] = case if texts.get(text, case) == case else ""
        return {text: case for text, case in texts.items() if text and (len(text) > 3 or not text.isdecimal())}

    def case(self, name: str) -> str:
        """``case 7``, or its name where names are shown."""
        return name if self.shown else f"case {self._numbers.setdefault(name, len(self._numbers) + 1)}"

    def text(self, text: Any) -> str:
        """A message without paths, names of cases, of the user and of the machine, and what is quoted."""
        if self.shown:
            return str(text)
        lines = []
        for line in str(text).splitlines():
            logged = LOGGED.findall(line)
            line = LOGGED.sub("\0", line)
            if self._pattern is not None:
                line = self._pattern.sub(self._replace, line)
            line = PATHS.sub(LEFT_OUT, QUOTED.sub(LEFT_OUT, line))
            for name in logged if line.count("\0") == len(logged) else ():
                line = line.replace("\0", name, 1)
            lines.append(hide_user(line.replace("\0", LEFT_OUT)))
        return "\n".join(lines)

    def _replace(self, match: re.Match[str]) -> str:
        case = self._texts[match[1]]
        return self.case(case) if case else LEFT_OUT

    def config(self, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Ids and values of a config: of texts only classes, references, and words that a component is given."""
        return [*self._list(config, "", False, False)]

    def _list(self, value: Any, id: str, in_component: bool, private: bool) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping) and value:
            component = "_target_" in value
            for key, part in value.items():
                harmless = self.shown or KEY.fullmatch(str(key)) is not None
                here = f"{id}{ID_SEP_KEY if id else ''}{key if harmless else LEFT_OUT}"
                below = isinstance(part, (Mapping, list)) and bool(part)
                if self.shown or below or component or not id:
                    hidden = private or PRIVATE.fullmatch(str(key)) is not None
                    yield from self._list(part, here, component, hidden)
            return
        if isinstance(value, list) and any(isinstance(each, (Mapping, list)) for each in value):
            for i, part in enumerate(value):
                if self.shown or (isinstance(part, Mapping) and "_target_" in part):
                    yield from self._list(part, f"{id}{ID_SEP_KEY}{i}", in_component, private)
            return
        yield id, self._show(value, id, in_component, private)

    def _show(self, value: Any, id: str, in_component: bool, private: bool) -> str:
        if self.shown:
            return str(value)
        if isinstance(value, list):
            shown = [self._show(each, id, in_component, private) for each in value[:MOST_NUMBERS]]
            return f"[{', '.join(shown)}]" if len(value) <= MOST_NUMBERS else f"{len(value)} entries"
        if value is None or isinstance(value, (bool, float)):
            return str(value)
        if isinstance(value, int):
            return str(value) if abs(value) <= LARGEST else LEFT_OUT
        text = str(value)
        if id.endswith(f"{ID_SEP_KEY}_target_"):
            return text if TARGET.fullmatch(text) else LEFT_OUT
        if FORMULA.fullmatch(text):
            return text
        is_word = in_component and not private and WORD.fullmatch(text) is not None
        return text if is_word and self.text(text) == text else LEFT_OUT

    def parameter(self, id: str, value: Any) -> str:
        """The value of a parameter of a study: a number, a truth value or a word."""
        return self._show(value, id, True, False)
