"""How old a backlog is, whatever producers' clocks say."""

from consumer.delivery.freshness import Arrivals

DAY_S = 24 * 3600.0


def test_what_came_while_somebody_watched_is_as_old_as_the_look_that_saw_it() -> None:
    """A producer's clock may say 1970, or tomorrow, or nothing: none of it counts."""
    arrivals = Arrivals()
    for now_s, end in ((100.0, 10), (101.0, 10), (102.0, 12), (103.0, 15)):
        arrivals.note(now_s, end, 10)

    for claimed_s in (None, -1.8e9, 0.0, 101.0, 102.5, 1e6):
        assert arrivals.since_s(10, claimed_s) == 102.0
    arrivals.note(103.0, 15, 12)
    assert arrivals.since_s(12, 101.0) == 103.0
    arrivals.note(104.0, 15, 15)
    assert arrivals.since_s(15, 101.0) is None


def test_what_was_there_before_is_as_old_as_it_says_where_that_can_be() -> None:
    """A worker that comes back after an hour says an hour; a wrong clock makes no 57 years of it, nor a future."""
    arrivals = Arrivals()
    arrivals.note(1e6, 10, 4)

    assert arrivals.since_s(4, 1e6 - 3600) == 1e6 - 3600
    assert arrivals.since_s(4, 1e6 - 6 * DAY_S) == 1e6 - 6 * DAY_S
    for claimed_s in (None, 1e6 - 8 * DAY_S, 1e6 - 1.8e9, 1e6 + 0.1, 1e6 + DAY_S):
        assert arrivals.since_s(4, claimed_s) == 1e6


def test_what_is_finished_is_forgotten_and_a_long_backlog_is_thinned_out() -> None:
    """A partition costs a few looks, however long it is behind; an age is hardly smaller for it."""
    arrivals = Arrivals()
    for second in range(10_000):
        arrivals.note(float(second), second + 1, 5000)
    assert len(arrivals.looks) <= 64
    assert arrivals.since_s(5000, None) == 5000.0
    for position in (5000, 6000, 9000, 9999):
        arrivals.note(10_000.0, 10_000, position)
        since_s = arrivals.since_s(position, None)
        assert since_s is not None
        assert position <= since_s <= position + 1 + (10_000 - position) * 0.1

    arrivals.note(10_001.0, 10_000, 10_000)
    assert len(arrivals.looks) == 1


def test_after_a_quiet_time_each_look_counts_again() -> None:
    """What came last says nothing of what comes next."""
    arrivals = Arrivals()
    arrivals.note(0.0, 5, 5)
    arrivals.note(3600.0, 6, 5)
    arrivals.note(3601.0, 7, 6)

    assert arrivals.since_s(6, None) == 3601.0
