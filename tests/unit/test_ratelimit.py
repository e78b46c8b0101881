"""Fixed windows in one process's memory."""

import threading

from ingest.ratelimit import LocalLimiter, Window, name_of_address


def test_a_window_begins_with_the_first_request_and_counts_to_its_limit() -> None:
    """The limit itself still passes; one more does not."""
    limiter = LocalLimiter(60)

    windows = [limiter.hit("a", 3, 1000.5) for _ in range(4)]

    assert [window.used for window in windows] == [1, 2, 3, 4]
    assert [window.is_exceeded for window in windows] == [False, False, False, True]
    assert {window.resets_at_s for window in windows} == {1061}


def test_a_window_ends_when_its_header_says() -> None:
    """A client that waits until the reset is let in; a moment before, it is not."""
    limiter = LocalLimiter(60)
    reset_s = limiter.hit("a", 1, 1000.5).resets_at_s

    assert limiter.hit("a", 1, reset_s - 0.01).is_exceeded
    assert not limiter.hit("a", 1, reset_s).is_exceeded


def test_clients_do_not_share_a_window() -> None:
    """One client's haste is not another's."""
    limiter = LocalLimiter(60)
    limiter.hit("a", 1, 0)

    assert limiter.hit("a", 1, 0).is_exceeded
    assert not limiter.hit("b", 1, 0).is_exceeded


def test_the_headers_tell_where_the_client_stands() -> None:
    """What remains never goes below zero."""
    assert Window(10, 4, 1060).headers == (
        ("X-RateLimit-Limit", "10"),
        ("X-RateLimit-Remaining", "6"),
        ("X-RateLimit-Reset", "1060"),
    )
    assert dict(Window(10, 12, 1060).headers)["X-RateLimit-Remaining"] == "0"


def test_the_wait_is_whole_seconds_and_long_enough() -> None:
    """Rounded up, and never zero: zero would say that now is good."""
    window = Window(1, 2, 1060)

    assert [window.retry_after_s(at_s) for at_s in (1000.0, 1000.4, 1059.9, 1060.0, 1061.0)] == [60, 60, 1, 1, 1]


def test_every_request_of_many_threads_is_counted() -> None:
    """Exactly the limit passes, whatever the threads do."""
    limiter = LocalLimiter(60)
    passed: list[int] = []

    def ask() -> None:
        passed.extend(1 for _ in range(500) if not limiter.hit("a", 1000, 0).is_exceeded)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(passed) == 1000


def test_windows_that_are_over_are_forgotten() -> None:
    """A million addresses in an hour do not stay."""
    limiter = LocalLimiter(60)
    for client in range(1000):
        limiter.hit(str(client), 1, client)

    assert len(limiter) <= 62


def test_the_number_of_windows_is_bounded() -> None:
    """Beyond the bound the oldest window goes: its client starts anew, the others are counted on."""
    limiter = LocalLimiter(60, clients_max=3)
    for client in "abcd":
        limiter.hit(client, 1, 0)

    assert len(limiter) == 3
    assert limiter.hit("d", 1, 0).is_exceeded
    assert not limiter.hit("a", 1, 0).is_exceeded


def test_an_ipv6_subscriber_is_one_client() -> None:
    """Whoever has a /64 has 2**64 addresses; an IPv4 address is one client."""
    assert name_of_address("2001:db8:1:2:a:b:c:d") == name_of_address("2001:db8:1:2::1") == "2001:db8:1:2::"
    assert name_of_address("2001:db8:1:3::1") != name_of_address("2001:db8:1:2::1")
    assert name_of_address("192.0.2.1") == "192.0.2.1"
    assert name_of_address("") == ""
