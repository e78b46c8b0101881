"""Which part of the topics `headrace find` reads."""

from argparse import Namespace

import pytest

from headrace.identity import Identity
from headrace.reach import Part, reach_of, span_ms

NOW_MS = 1_767_323_045_678
HOUR_MS = 3_600_000


def _given(since: int | None = None, until: int | None = None, window_s: float | None = None) -> Namespace:
    return Namespace(since=since, until=until, window_s=window_s)


def test_an_id_with_a_time_is_searched_for_from_then_on() -> None:
    """From a minute before, because clocks differ, up to now: it may have been sent late; or for a window."""
    at_ms = NOW_MS - 7 * HOUR_MS
    identity = Identity("x", at_ms=at_ms)

    assert span_ms(identity, _given(), NOW_MS) == (at_ms - 60_000, NOW_MS + HOUR_MS)
    assert span_ms(identity, _given(window_s=900.0), NOW_MS) == (at_ms - 60_000, at_ms + 900_000)


def test_an_id_without_a_time_is_searched_for_in_the_last_hour() -> None:
    """And records of a clock that is ahead."""
    assert span_ms(Identity("x"), _given(), NOW_MS) == (NOW_MS - HOUR_MS, NOW_MS + HOUR_MS)


@pytest.mark.parametrize("at_ms", [None, NOW_MS - 7 * HOUR_MS])
def test_what_is_given_counts(at_ms: int | None) -> None:
    """Whatever the id says; without an end, up to now."""
    identity = Identity("x", at_ms=at_ms)

    assert span_ms(identity, _given(5, 9), NOW_MS) == (5, 9)
    assert span_ms(identity, _given(since=5), NOW_MS) == (5, NOW_MS + HOUR_MS)


def test_an_end_before_the_beginning_is_a_mistake() -> None:
    """It would find nothing, and that would look like an answer."""
    with pytest.raises(ValueError, match="--since: must be before --until"):
        span_ms(Identity("x"), _given(9, 9), NOW_MS)


def test_an_id_of_a_clock_that_is_ahead_says_no_time() -> None:
    """Its record is older than the id."""
    assert span_ms(Identity("x", at_ms=NOW_MS + HOUR_MS), _given(), NOW_MS) == (NOW_MS - HOUR_MS, NOW_MS + HOUR_MS)


TIMED = Identity("x", at_ms=NOW_MS - 7 * HOUR_MS)
WHOLE, WITHOUT_END, WITHOUT_START = Part(3, 3, 9, 9), Part(3, 3, 8, 9), Part(3, 5, 9, 9)


@pytest.mark.parametrize(
    ("identity", "given", "part", "says"),
    [
        (TIMED, _given(), WHOLE, ""),
        (TIMED, _given(), WITHOUT_START, ""),
        (TIMED, _given(window_s=900.0), WITHOUT_END, "--until"),
        (Identity("x"), _given(), WHOLE, ""),
        (Identity("x"), _given(), WITHOUT_START, "--since"),
        (Identity("x"), _given(since=5), WITHOUT_START, ""),
        (Identity("x"), _given(since=5, until=9), WITHOUT_END, "--until"),
        (Identity("x", at_ms=NOW_MS + 1), _given(), WITHOUT_START, "--since"),
    ],
)
def test_what_is_left_out_is_told(identity: Identity, given: Namespace, part: Part, says: str) -> None:
    """A record may be written late, and an id without a time may be of any time: that is never "not there"."""
    told = reach_of(identity, given, NOW_MS).left_out([WHOLE, part])

    assert says in told
    assert bool(told) is bool(says)
