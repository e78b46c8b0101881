"""Which part of the topics `headrace find` reads."""

from argparse import Namespace

import pytest

from headrace.find import span_ms
from headrace.identity import Identity

NOW_MS = 1_767_323_045_678
HOUR_MS = 3_600_000


def _given(since: int | None = None, until: int | None = None) -> Namespace:
    return Namespace(since=since, until=until, window_s=900.0)


def test_an_id_with_a_time_is_searched_for_around_it() -> None:
    """From a minute before, because clocks differ, for the window."""
    at_ms = NOW_MS - 7 * HOUR_MS

    assert span_ms(Identity("x", at_ms=at_ms), _given(), NOW_MS) == (at_ms - 60_000, at_ms + 900_000)


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
