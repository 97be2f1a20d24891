"""Marks of errors, and which of several errors is the first."""

import pytest
from lightning.pytorch.utilities import move_data_to_device

from monai_lighter.errors.marks import find_first_failure, find_mark, mark, mark_batch, passed_through


def raise_marked(*marks, kind=ValueError):
    """An error that went through an ``except`` for each mark, innermost first."""
    error = kind("no")
    for part, given in marks:
        mark(error, part, **given)
    return error


def test_the_innermost_mark_stays():
    known = find_mark(raise_marked(("system::metrics::val::dice", {"pred": 1}), ("system::metrics::val", {"pred": 2})))
    assert (known.part, known.given) == ("system::metrics::val::dice", {"pred": 1})


def test_a_place_within_an_owner_is_completed():
    known = find_mark(raise_marked(("::dice", {}), ("system::metrics::val", {"pred": 2}), ("system", {"pred": 3})))
    assert (known.part, known.given) == ("system::metrics::val::dice", {"pred": 2})


def test_marks_of_causes_count():
    outer = RuntimeError("applying transform")
    outer.__cause__ = raise_marked(("system::criterion", {}))
    mark(outer, "system::postprocessing::val")
    assert find_mark(outer).part == "system::criterion"
    assert find_mark(RuntimeError()) is None


def test_the_first_batch_stays_and_a_part_may_come_later():
    error = ValueError("no")
    mark_batch(error, [1], "train batch 0")
    mark_batch(error, [2], "train batch 1")
    mark(error, "system::model", input=3)
    known = find_mark(error)
    assert (known.part, known.given, known.batch, known.place) == ("system::model", {"input": 3}, [1], "train batch 0")


def test_a_cycle_of_causes_ends():
    a, b = ValueError("a"), ValueError("b")
    a.__cause__, b.__cause__ = b, a
    assert find_mark(a) is None


class Odd:
    """Whose methods call their object something else."""

    def fails(this):
        known = lambda: this  # noqa: E731
        return known().nothing


def test_the_object_of_a_method_is_known_whatever_it_is_called():
    odd = Odd()
    with pytest.raises(AttributeError) as caught:
        odd.fails()
    assert passed_through(caught.value, odd)
    assert not passed_through(caught.value, Odd())


class Unmovable:
    def to(self, device):
        try:
            raise KeyError("fast way")
        except KeyError:
            return self.slow()

    def slow(self):
        raise OSError("no slow way either")


def test_a_fallback_that_fails_is_not_explained_by_what_it_was_for():
    with pytest.raises(OSError, match="no slow way") as caught:
        move_data_to_device(Unmovable(), "cpu")
    assert isinstance(caught.value.__context__, KeyError)
    assert find_first_failure(caught.value) is caught.value
