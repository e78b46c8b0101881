"""Offsets as runs: all are counted, the first twenty runs are named, and nothing is named that is none."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from consumer.operations.runs import NAMED_MAX, Runs, runs_of


@given(st.sets(st.integers(0, 200)))
def test_runs_are_the_offsets(offsets: set[int]) -> None:
    """Each once, in order, no two runs touching."""
    runs = list(runs_of(sorted(offsets)))

    assert [offset for first, end in runs for offset in range(first, end)] == sorted(offsets)
    assert all(end < first for (_, end), (first, _) in pairwise(runs))


def test_a_few_are_named() -> None:
    """As a line of output has them."""
    assert str(Runs([0, 1, 50, 51, 52, 90])) == "0-1, 50-52, 90"
    assert (str(Runs()), bool(Runs())) == ("", False)


def test_runs_that_touch_become_one() -> None:
    """However they come."""
    runs = Runs()
    runs.add(0, 10_000)
    runs.add(10_000, 30_000_000)

    assert (str(runs), runs.count) == ("0-29999999", 30_000_000)


def test_no_more_than_twenty_are_named_and_the_rest_is_counted() -> None:
    """Also when the next one would touch the last that has a name."""
    runs = Runs(range(0, 2 * NAMED_MAX + 10, 2))
    runs.add(100, 110)

    assert str(runs).endswith(f", {2 * NAMED_MAX - 2}, and 15 more")
    runs.add_unnamed(5)
    assert str(runs).endswith("and 20 more")


def test_behind_what_has_no_name_nothing_is_named() -> None:
    """Else those between would seem to be none."""
    runs = Runs([1])
    runs.add_unnamed(3)
    runs.add(9, 12)

    assert (str(runs), runs.count) == ("1, and 6 more", 7)


def test_bounds_reach_over_runs_that_are_not_listed() -> None:
    """From the first offset to behind the last, however many runs there are."""
    runs = Runs(range(0, 200, 2))

    assert (runs.bounds, runs.is_bounded) == ((0, 199), True)


def test_offsets_that_are_only_counted_have_no_bounds() -> None:
    """Where they are is not known."""
    runs = Runs([3])
    runs.add_unnamed(0)
    assert runs.is_bounded
    runs.add_unnamed(1)

    assert not runs.is_bounded
