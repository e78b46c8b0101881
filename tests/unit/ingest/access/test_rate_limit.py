"""Fixed windows in one process's memory."""

import asyncio
import threading

import pytest

from ingest.access.rate_limit import Allowance, Claim, LocalLimiter, Window, name_of_address
from ingest.errors import ErrorCode
from tests.support.fake_broker import Clock

UNIX_S = 1_800_000_000.5


def claim(name: str = "a", requests: int = 3, events: int = 0, size_bytes: int = 0) -> Claim:
    """Claim a window."""
    return Claim(name, Allowance(requests, events, size_bytes))


@pytest.fixture
def clock() -> Clock:
    """Monotonic seconds, which the tests move."""
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> LocalLimiter:
    """Windows of a minute."""
    return LocalLimiter(60, now_s=clock)


def hit(limiter: LocalLimiter, asked: Claim, at_s: float = UNIX_S) -> Window:
    """Count a request in one window."""
    (window,) = asyncio.run(limiter.hit([asked], at_s))
    return window


def test_a_window_begins_with_the_first_request_and_counts_to_its_limit(limiter: LocalLimiter) -> None:
    """The limit itself still passes; one more does not."""
    windows = [hit(limiter, claim()) for _ in range(4)]

    assert [window.requests for window in windows] == [1, 2, 3, 4]
    assert [window.spent for window in windows] == [None, None, None, ErrorCode.RATE_LIMIT]
    assert {window.resets_at_s for window in windows} == {1_800_000_061}


def test_a_window_ends_when_its_header_says(limiter: LocalLimiter, clock: Clock) -> None:
    """A client that waits until the reset is let in; a moment before, it is not."""
    hit(limiter, claim(requests=1))
    clock.now_s += 60.25
    assert hit(limiter, claim(requests=1), UNIX_S + 60.25).spent
    clock.now_s += 0.25

    assert not hit(limiter, claim(requests=1), UNIX_S + 60.5).spent


def test_setting_the_clock_moves_no_window(limiter: LocalLimiter, clock: Clock) -> None:
    """An hour back or ahead, it ends a minute after it began; the header tells it by the clock as it is now."""
    hit(limiter, claim(requests=1))
    clock.now_s += 20.5
    resets = [hit(limiter, claim(), UNIX_S + 20.5 + set_s).resets_at_s for set_s in (-3600, 0, 3600)]
    clock.now_s += 40

    assert resets == [1_800_000_061 - 3600, 1_800_000_061, 1_800_000_061 + 3600]
    assert not hit(limiter, claim(requests=1), UNIX_S - 3600).spent


def test_clients_do_not_share_a_window(limiter: LocalLimiter) -> None:
    """One client's haste is not another's."""
    hit(limiter, claim("a", 1))

    assert hit(limiter, claim("a", 1)).spent
    assert not hit(limiter, claim("b", 1)).spent


@pytest.mark.parametrize(
    ("held", "spent"),
    [
        ((9, 999), None),
        ((10, 999), ErrorCode.EVENT_LIMIT),
        ((11, 999), ErrorCode.EVENT_LIMIT),
        ((9, 1000), ErrorCode.BYTE_LIMIT),
        ((10, 1000), ErrorCode.EVENT_LIMIT),
    ],
)
def test_events_and_bytes_are_spent_by_what_came_before(
    limiter: LocalLimiter, held: tuple[int, int], spent: ErrorCode | None
) -> None:
    """The request that uses the last of them up passes; the next one is refused, until the window ends."""
    asked = claim(requests=100, events=10, size_bytes=1000)
    assert not hit(limiter, asked).spent
    limiter.spend([asked], *held)

    assert hit(limiter, asked).spent is spent


def test_without_a_limit_of_events_and_bytes_nobody_spends_them(limiter: LocalLimiter) -> None:
    """0 is no limit."""
    hit(limiter, claim())
    limiter.spend([claim()], 10**9, 10**12)

    assert not hit(limiter, claim()).spent


def test_a_new_window_has_spent_nothing(limiter: LocalLimiter, clock: Clock) -> None:
    """Nor does what is told of a window that is over count in the next."""
    asked = claim(events=10)
    hit(limiter, asked)
    limiter.spend([asked], 20, 0)
    clock.now_s += 61
    assert not hit(limiter, asked, UNIX_S + 61).spent
    limiter.spend([claim("nobody")], 20, 0)

    assert not hit(limiter, claim("nobody", events=1)).spent


def test_what_one_window_refuses_uses_nothing_up_of_the_next(limiter: LocalLimiter) -> None:
    """One visitor beyond his share does not cost his client a request."""
    visitor, client = claim("visitor", 2), claim("client", 1000)

    answers = [asyncio.run(limiter.hit([visitor, client], UNIX_S)) for _ in range(50)]

    assert [len(windows) for windows in answers] == [2, 2] + [1] * 48
    assert asyncio.run(limiter.hit([claim("other"), client], UNIX_S))[1].requests == 3


def test_the_headers_tell_where_the_client_stands() -> None:
    """What remains never goes below zero."""
    assert Window(claim(requests=10), 4, 0, 0, 1060).headers == (
        ("X-RateLimit-Limit", "10"),
        ("X-RateLimit-Remaining", "6"),
        ("X-RateLimit-Reset", "1060"),
    )
    assert dict(Window(claim(requests=10), 12, 0, 0, 1060).headers)["X-RateLimit-Remaining"] == "0"


def test_the_wait_is_whole_seconds_and_long_enough() -> None:
    """Rounded up, and never zero: zero would say that now is good."""
    window = Window(claim(), 2, 0, 0, 1060)

    assert [window.retry_after_s(at_s) for at_s in (1000.0, 1000.4, 1059.9, 1060.0, 1061.0)] == [60, 60, 1, 1, 1]


def test_every_request_of_many_threads_is_counted() -> None:
    """Exactly the limit passes, whatever the threads do."""
    limiter = LocalLimiter(60)
    passed: list[int] = []

    def ask() -> None:
        passed.extend(1 for _ in range(500) if not hit(limiter, claim(requests=1000)).spent)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(passed) == 1000


def test_windows_that_are_over_are_forgotten(limiter: LocalLimiter, clock: Clock) -> None:
    """A million addresses in an hour do not stay."""
    for client in range(1000):
        clock.now_s += 1
        hit(limiter, claim(str(client)), UNIX_S + client)

    assert len(limiter) <= 62


def test_beyond_the_bound_who_has_not_come_for_longest_is_forgotten(clock: Clock) -> None:
    """A sender from many addresses makes it forget others' windows, and never the one that he goes on using."""
    limiter = LocalLimiter(60, clients_max=10, now_s=clock)
    hit(limiter, claim("busy", 1))
    hit(limiter, claim("idle", 1))
    for number in range(300):
        hit(limiter, claim(f"address {number}", 1))
        assert number % 3 or hit(limiter, claim("busy", 1)).spent

    assert len(limiter) == 10
    assert not hit(limiter, claim("idle", 1)).spent


def test_a_share_is_a_part_of_each_limit_and_never_none() -> None:
    """Rounded up; what is not limited is not limited for a part either."""
    assert Allowance(1000, 20, 5).share(0.1) == Allowance(100, 2, 1)
    assert Allowance(1, 0, 0).share(0.1) == Allowance(1, 0, 0)


def test_an_ipv6_subscriber_is_one_client() -> None:
    """The owner of a /64 has 2**64 addresses; an IPv4 address is one client."""
    assert name_of_address("2001:db8:1:2:a:b:c:d") == name_of_address("2001:db8:1:2::1") == "2001:db8:1:2::"
    assert name_of_address("2001:db8:1:3::1") != name_of_address("2001:db8:1:2::1")
    assert name_of_address("192.0.2.1") == "192.0.2.1"
    assert name_of_address("") == ""
