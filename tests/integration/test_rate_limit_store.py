"""The rate limit over a real store: exact for many processes, and never in the way when the store is."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import redis

from ingest.ports import NoMeter
from ingest.ratelimit import Window
from ingest.redis import SharedLimiter, open_store
from schemas.access import Access
from tests.support.collector import Answer, Collector, collector
from tests.support.kafka import EmbeddedKafka
from tests.support.redis_server import RedisServer

WAIT_S: Final = 20.0
# A few milliseconds to connect and a few to ask, and a machine that is busy with other tests.
SOON_S: Final = 0.15
VIEW: Final = {"eventType": "VIEW"}
FAILURES: Final = "headrace_ingest_rate_limit_store_failures_total"


class Count(NoMeter):
    """Counts what it is told to count."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count."""
        assert not labels
        self.counts[name] += int(amount)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A store of the test's own."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def failures() -> Count:
    """What the limiter counts when the store fails."""
    return Count()


@pytest.fixture
def limiter(server: RedisServer, failures: Count) -> SharedLimiter:
    """A limiter over the store, with windows of two seconds and patience with a busy machine."""
    return SharedLimiter(open_store(Access(server.url), 0.2), "test:", 2, failures)


def await_window(ask: Callable[[], Window], wanted: Callable[[Window], bool]) -> Window:
    """Ask until the window is as wanted."""
    deadline_s = time.monotonic() + WAIT_S
    while not wanted(window := ask()):
        assert time.monotonic() < deadline_s, window
        time.sleep(0.05)
    return window


def test_a_window_counts_to_its_limit_and_ends_when_it_says(limiter: SharedLimiter) -> None:
    """Like the one in memory: the limit passes, one more does not, and at the reset it begins anew."""
    windows = [limiter.hit("a", 3, time.time()) for _ in range(4)]

    assert [window.used for window in windows] == [1, 2, 3, 4]
    assert [window.is_exceeded for window in windows] == [False, False, False, True]
    (reset_s,) = {window.resets_at_s for window in windows}
    assert 2 <= reset_s - time.time() + 0.5 <= 3.5
    await_window(lambda: limiter.hit("a", 10**6, time.time()), lambda window: window.used == 1)
    assert reset_s - 0.1 <= time.time() <= reset_s + 1.0


def test_clients_have_windows_of_their_own(limiter: SharedLimiter, failures: Count) -> None:
    """Names are kept apart, and nothing failed meanwhile."""
    assert [limiter.hit(name, 1, 0).used for name in "aba"] == [1, 1, 2]
    assert failures.counts == {}


def test_a_counter_without_an_end_gets_one(server: RedisServer, limiter: SharedLimiter) -> None:
    """Somebody's PERSIST in the store must not lock a client out for ever."""
    store = redis.Redis.from_url(server.url)
    store.set("test:a", 100)

    assert limiter.hit("a", 5, 0).used == 101
    assert 0 < int(store.ttl("test:a")) <= 3
    store.close()


def test_a_store_that_lost_its_scripts_counts_on(server: RedisServer, limiter: SharedLimiter, failures: Count) -> None:
    """A failover or SCRIPT FLUSH empties the script cache; the next request fills it."""
    store = redis.Redis.from_url(server.url)
    limiter.hit("a", 5, 0)
    store.script_flush()

    assert limiter.hit("a", 5, 0).used == 2
    assert failures.counts == {}
    store.close()


def test_while_the_store_is_away_everything_passes_and_is_counted(
    server: RedisServer, limiter: SharedLimiter, failures: Count
) -> None:
    """A stopped store costs no time worth the name, and when it is back it counts again."""
    limiter.hit("a", 1, time.time())
    server.stop()
    begin_s = time.monotonic()
    windows = [limiter.hit("a", 1, 1000.5) for _ in range(200)]
    took_s = time.monotonic() - begin_s

    assert {(window.limit, window.used, window.resets_at_s) for window in windows} == {(1, 0, 1003)}
    assert failures.counts == {"rate_limit_store_failures_total": 200}
    assert took_s < SOON_S
    server.start()
    assert await_window(lambda: limiter.hit("a", 1, time.time()), lambda window: window.used > 0).used == 1


def test_a_frozen_store_costs_one_request_a_few_milliseconds(server: RedisServer, failures: Count) -> None:
    """It takes connections and answers nothing; the timeout is paid once in a while, not by every request."""
    limiter = SharedLimiter(open_store(Access(server.url), 0.005), "test:", 2, failures)
    await_window(lambda: limiter.hit("a", 1, time.time()), lambda window: window.used > 0)
    failures.counts.clear()
    server.pause()
    try:
        begin_s = time.monotonic()
        first = limiter.hit("a", 1, time.time())
        first_s = time.monotonic() - begin_s
        rest = [limiter.hit("a", 1, time.time()) for _ in range(200)]
        rest_s = time.monotonic() - begin_s - first_s
    finally:
        server.resume()

    assert not any(window.is_exceeded for window in (first, *rest))
    assert failures.counts["rate_limit_store_failures_total"] == 201
    assert 0.005 <= first_s < SOON_S
    assert rest_s < SOON_S
    await_window(lambda: limiter.hit("a", 1, time.time()), lambda window: window.used > 0)


def test_a_password_comes_from_a_file(tmp_path: Path, failures: Count) -> None:
    """The right one counts; a wrong one is a store that does not answer."""
    path = tmp_path / "password"
    with RedisServer("correct horse") as server:
        path.write_text("correct horse\n")
        assert (
            SharedLimiter(open_store(Access(server.url, password_file=str(path)), 0.05), "", 60, failures)
            .hit("a", 5, 0)
            .used
            == 1
        )
        path.write_text("wrong")
        assert (
            SharedLimiter(open_store(Access(server.url, password_file=str(path)), 0.05), "", 60, failures)
            .hit("a", 5, 0)
            .used
            == 0
        )

    assert failures.counts == {"rate_limit_store_failures_total": 1}


@pytest.fixture
def two(embedded_broker: EmbeddedKafka, server: RedisServer) -> Iterator[tuple[Collector, Collector]]:
    """Two collectors of two workers each, which take a hundred requests an hour between them."""
    settings = {
        "workers": 2,
        "rate_limit_requests": 100,
        "rate_limit_window_s": 3600,
        "rate_limit_store_url": server.url,
        # The store must not fail here because the machine is busy.
        "rate_limit_store_timeout_ms": 2000,
    }
    with (
        collector(embedded_broker.bootstrap_servers, **settings) as one,
        collector(embedded_broker.bootstrap_servers, **settings) as other,
    ):
        yield one, other


def test_the_limit_is_exact_over_processes_and_workers(two: tuple[Collector, Collector]) -> None:
    """Of 300 requests from many threads to four workers exactly 100 pass, and each saw its own remainder."""
    answers: list[Answer] = []

    def send(running: Collector) -> None:
        answers.extend(running.post([VIEW]) for _ in range(30))

    threads = [threading.Thread(target=send, args=(two[number % 2],)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    taken = [answer for answer in answers if answer.status == 201]
    limited = [answer for answer in answers if answer.status == 429]
    assert (len(taken), len(limited)) == (100, 200)
    assert sorted(int(answer.headers["x-ratelimit-remaining"]) for answer in taken) == list(range(100))
    assert {answer.headers["x-ratelimit-remaining"] for answer in limited} == {"0"}
    assert len({answer.headers["x-ratelimit-reset"] for answer in answers}) == 1
    assert {len(running.worker_pids) for running in two} == {2}


def test_a_collector_serves_on_without_its_store(embedded_broker: EmbeddedKafka, server: RedisServer) -> None:
    """At the limit, the store goes away: requests pass again, are counted as such, and the log says it once."""
    settings = {"rate_limit_requests": 1, "rate_limit_window_s": 3600, "rate_limit_store_url": server.url}
    with collector(embedded_broker.bootstrap_servers, **settings) as running:
        deadline_s = time.monotonic() + WAIT_S
        while running.post([VIEW]).status != 429:
            assert time.monotonic() < deadline_s
        before = running.figures().get(FAILURES, 0)
        server.stop()

        answers = [running.post([VIEW]) for _ in range(20)]

        assert {answer.status for answer in answers} == {201}
        assert {answer.headers["x-ratelimit-limit"] for answer in answers} == {"1"}
        assert running.figures()[FAILURES] - before == 20
        assert any("does not answer" in line["message"] for line in running.log_lines())
