"""The breaker: when requests stop going to the broker, and when they try again."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ingest.publishing.circuit_breaker import Breaker, Policy, State


def opened(at_s: float = 100.0) -> Breaker:
    """Return a breaker that three failures have opened."""
    breaker = Breaker()
    for _ in range(3):
        breaker.failed(at_s)
    return breaker


def test_two_failures_are_no_outage() -> None:
    """A slow answer or two leave it closed."""
    breaker = Breaker()

    assert [breaker.failed(1), breaker.failed(2)] == [False, False]
    assert breaker.permits(2)


def test_the_third_failure_in_a_row_opens_it_once() -> None:
    """The report of the failure that opens it says so, and nobody else."""
    breaker = Breaker()

    assert [breaker.failed(1), breaker.failed(2), breaker.failed(3), breaker.failed(3)] == [False, False, True, False]
    assert breaker.state is State.OPEN
    assert not breaker.permits(3.5)


def test_a_few_failures_among_many_good_outcomes_do_not_open_it() -> None:
    """One partition of many may be away: a share below a half is no outage."""
    breaker = Breaker()

    for second in range(100):
        breaker.succeeded(second / 100)
        breaker.succeeded(second / 100)
        breaker.failed(second / 100)

    assert breaker.state is State.CLOSED


def test_a_silent_broker_opens_it_whatever_the_traffic_was_before() -> None:
    """Thousands of good outcomes of the last seconds don't hide that nobody is answered now."""
    breaker = Breaker()
    for number in range(5000):
        breaker.succeeded(10 + number / 1000)

    opened_by = [breaker.failed(16) for _ in range(32)]

    assert opened_by.count(True) == 1
    assert opened_by.index(True) < 20


def test_old_outcomes_do_not_count() -> None:
    """Failures further apart than the window never add up."""
    breaker = Breaker()

    assert not any(breaker.failed(6.0 * number) for number in range(50))


def test_after_the_cooldown_one_probes_and_the_others_wait() -> None:
    """Half open, the first to ask may go, and nobody else until it has said how it went."""
    breaker = opened(100)

    assert not breaker.permits(100.9)
    assert [breaker.permits(101.1), breaker.permits(101.1), breaker.permits(110)] == [True, False, False]


def test_a_good_probe_closes_it() -> None:
    """One prompt acknowledgement and everybody may go."""
    breaker = opened(100)
    breaker.permits(102)

    assert breaker.succeeded(102.1)
    assert [breaker.permits(102.2), breaker.permits(102.2)] == [True, True]
    assert not breaker.succeeded(102.3)


def test_an_acknowledgement_closes_it_before_the_cooldown_is_over() -> None:
    """What the drainer finds out is as good as a probe."""
    breaker = opened(100)

    assert breaker.succeeded(100.1)
    assert breaker.permits(100.1)


def test_bad_probes_come_less_and_less_often() -> None:
    """Each failed probe doubles the wait, up to a bound, so a long outage costs few slow answers."""
    breaker = opened(0)
    now_s, probes = 0.0, []

    while now_s < 120:
        now_s += 0.1
        if breaker.permits(now_s):
            probes.append(now_s)
            assert breaker.failed(now_s)

    waits = [round(later - earlier) for earlier, later in pairwise(probes)]
    assert waits[:4] == [2, 4, 8, 15]
    assert set(waits[4:]) == {15}


def test_a_quiet_time_makes_the_next_outage_new() -> None:
    """Trouble long after the last is asked about soon again; trouble right after it is the old trouble."""
    long_after, right_after = opened(0), opened(0)
    long_after.succeeded(1)
    right_after.succeeded(1)

    for _ in range(3):
        right_after.failed(3)
        long_after.failed(100)

    assert long_after.permits(101.1)
    assert not right_after.permits(4.1)
    assert right_after.permits(5.1)


def test_a_probe_that_never_reports_frees_its_place() -> None:
    """A request that died in half open does not keep the broker unasked for ever."""
    breaker = opened(100)
    assert breaker.permits(102)

    assert not breaker.permits(131)
    assert breaker.permits(133)


def test_it_can_begin_open() -> None:
    """Nobody answered at the start: the first request does not find out by waiting."""
    breaker = Breaker()

    breaker.open(50)

    assert not breaker.permits(50.5)
    assert breaker.permits(51.5)


@given(st.lists(st.tuples(st.sampled_from(["permits", "succeeded", "failed"]), st.floats(0, 3)), max_size=200))
def test_it_is_never_stuck(moves: list[tuple[str, float]]) -> None:
    """Whatever happened, a broker that is well again is found so within the longest cooldown or a probe's life."""
    breaker, now_s = Breaker(), 0.0
    for name, step_s in moves:
        now_s += step_s
        getattr(breaker, name)(now_s)

    policy = Policy()
    now_s += max(policy.cooldown_s_max, policy.probe_s_max) + 0.001  # more than a float loses on the way
    assert breaker.permits(now_s)
    breaker.succeeded(now_s)
    assert breaker.state is State.CLOSED


@given(st.lists(st.tuples(st.sampled_from(["permits", "failed"]), st.floats(0, 1)), min_size=10, max_size=300))
def test_while_everything_fails_few_requests_go(moves: list[tuple[str, float]]) -> None:
    """Once open and without a success, it lets one request go per cooldown at most."""
    breaker, now_s, permitted = opened(0), 0.0, 0
    for name, step_s in moves:
        now_s += step_s
        if name == "permits":
            permitted += breaker.permits(now_s)
        else:
            breaker.failed(now_s)

    assert permitted <= now_s / Policy().cooldown_s + 1


def test_one_that_is_hurried_probes_once_and_waits_as_before() -> None:
    """Its next probe may go at once; if that fails, the cooldown is what it would have been."""
    breaker = opened(100)
    for probe_s in (101.1, 103.2):
        assert breaker.permits(probe_s)
        breaker.failed(probe_s)
    assert not breaker.permits(104)
    breaker.hurry()

    assert [breaker.permits(104), breaker.permits(104)] == [True, False]
    breaker.failed(104)
    assert not breaker.permits(111.9)
    assert breaker.permits(112.1)


def test_hurrying_frees_no_probe_and_opens_nothing() -> None:
    """While a probe is under way, or all is well, it changes nothing."""
    closed, probing = Breaker(), opened(100)
    probing.permits(102)
    closed.hurry()
    probing.hurry()

    assert closed.state is State.CLOSED
    assert not probing.permits(103)
