"""Which part of a config was at work when an error was raised: said where it happens, and read when the run has failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Mark",
    "find_first_failure",
    "find_mark",
    "mark",
    "mark_batch",
    "passed_through",
    "walk_causes",
    "walk_frames",
]

ATTRIBUTE = "monai_lighter_mark"
HANDLES_FAILURES = ("lightning.", "pytorch_lightning.")


@dataclass
class Mark:
    """What is known of an error, from the innermost to the outermost place that knew something.

    Attributes:
        part: config id of the part that was at work, such as ``system::criterion``; empty where only the batch is known.
        given: what the part was given, by the name under which a user is told of it (``input``, ``target``, ``pred``).
        batch: the batch of the step, as the loader gave it.
        place: where the batch stands, such as ``train batch 3``.
    """

    part: str = ""
    given: dict[str, Any] = field(default_factory=dict)
    batch: Any = None
    place: str = ""


def mark(error: BaseException, part: str, **given: Any) -> None:
    """Says which part of the config raised an error; of several marks of one error the innermost stays.

    It is called where a part is called, in an ``except`` that raises the error again: a step in which nothing fails pays
    nothing for it, as ``try`` costs nothing in Python.

    Args:
        error: as caught.
        part: config id. One that begins with ``::`` is the place within an owner that does not know its own id; the next
            mark, of the owner, is put before it.
        given: tensors, or lists and dicts of them, that the part was called with.
    """
    known = find_mark(error)
    if known is None:
        setattr(error, ATTRIBUTE, Mark(part, given))
    elif not known.part or known.part.startswith("::"):
        known.part, known.given = part + known.part, known.given or given


def mark_batch(error: BaseException, batch: Any, place: str) -> None:
    """Says on which batch an error was raised; the first one to say so stays.

    Args:
        error: as caught.
        batch: as the loader gave it.
        place: where it stands, such as ``train batch 3``.
    """
    known = find_mark(error)
    if known is None:
        known = Mark()
        setattr(error, ATTRIBUTE, known)
    if not known.place:
        known.batch, known.place = batch, place


def find_mark(error: BaseException) -> Mark | None:
    """The mark of an error, or of the innermost of its causes that has one; None where none has."""
    marks = [getattr(cause, ATTRIBUTE, None) for cause in walk_causes(error)]
    return next((each for each in reversed(marks) if each is not None), None)


def walk_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised ``from``, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def walk_frames(error: BaseException) -> Iterator[Any]:
    """Frames that an error and its causes passed, from the one that caught it to the one that raised it."""
    for cause in walk_causes(error):
        trace = cause.__traceback__
        while trace is not None:
            yield trace.tb_frame
            trace = trace.tb_next


def find_owner(frame: Any) -> Any:
    """The first argument of the function of a frame: of a method its object, whatever it is called there; None without."""
    code = frame.f_code
    return frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None


def passed_through(error: BaseException, owner: Any) -> bool:
    """Whether an error was raised in a method of an object, or in what it called."""
    return any(find_owner(frame) is owner for frame in walk_frames(error))


def find_first_failure(error: BaseException) -> BaseException:
    """The error that ended a run, where another one was raised by the clean-up after it.

    Lightning tears a run down while it handles what was raised; where that fails as well, the second error is what arrives,
    with the first as its ``__context__``. Other contexts are not followed: a ``KeyError`` on the way to a fallback is no cause.
    """
    context = error.__context__
    if context is None or context.__traceback__ is None or error.__cause__ is not None or error.__suppress_context__:
        return error
    handler = context.__traceback__.tb_frame
    *_, raised = walk_frames(error)
    if raised is handler or not str(handler.f_globals.get("__name__")).startswith(HANDLES_FAILURES):
        return error
    return find_first_failure(context)
