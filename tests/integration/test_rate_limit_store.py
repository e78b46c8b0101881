"""The rate limit over a real store: exact for many processes, and never in the way when the store is."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import redis
from redis.asyncio import Redis

from ingest.access.rate_limit import Allowance, Claim, Window
from ingest.access.rate_limit_redis import SharedLimiter, open_store
from ingest.errors import ErrorCode
from ingest.http.wsgi import run_on_loop
from ingest.ports import NoMetrics
from schemas.transport.access import Access
from tests.support.collector import Answer, Collector, collector
from tests.support.kafka import EmbeddedKafka
from tests.support.redis_server import RedisServer

WAIT_S: Final = 60.0
# A few milliseconds to connect and a few to ask, and a machine that is busy with other tests.
_PATIENCE_S: Final = 20.0
SOON_S: Final = 8.0  # a store that is asked each time would take 200 timeouts, ten seconds
VIEW: Final = {"eventType": "VIEW"}
FAILURES: Final = "headrace_ingest_rate_limit_store_failures_total"


class Count(NoMetrics):
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
    """A limiter over the store, with windows of a minute and patience with a busy machine."""
    return limiter_of(Access(server.url), _PATIENCE_S, "test:", 60, failures)


_opened: Final[list[Redis]] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close the clients that a test has opened, in their loop."""
    yield
    while _opened:
        run_on_loop(_opened.pop().aclose())


def limiter_of(access: Access, timeout_s: float, prefix: str, window_s: int, failures: Count) -> SharedLimiter:
    """Return a limiter over a store; one loop uses all of them."""
    store, options = open_store(access, timeout_s)
    _opened.append(store)
    return SharedLimiter(store, prefix, window_s, failures, options)


def hit(limiter: SharedLimiter, requests: int, at_s: float, name: str = "a") -> Window:
    """Count one request in one window."""
    (window,) = run_on_loop(limiter.hit([Claim(name, Allowance(requests))], at_s))
    return window


def await_window(ask: Callable[[], Window], wanted: Callable[[Window], bool]) -> Window:
    """Ask until the window is as wanted."""
    deadline_s = time.monotonic() + WAIT_S
    while not wanted(window := ask()):
        assert time.monotonic() < deadline_s, window
        time.sleep(0.05)
    return window


def test_a_window_counts_to_its_limit_and_ends_when_it_says(server: RedisServer, failures: Count) -> None:
    """Like the one in memory: the limit passes, one more does not, and at the reset a new window begins."""
    limiter = limiter_of(Access(server.url), _PATIENCE_S, "test:", 2, failures)
    for name in "abcdefgh":  # until four requests are made within one window
        began_s = time.time()
        windows = [hit(limiter, 3, time.time(), name) for _ in range(4)]
        if len({window.resets_at_s for window in windows}) == 1:
            break

    assert [window.requests for window in windows] == [1, 2, 3, 4]
    assert [window.spent for window in windows] == [None, None, None, ErrorCode.RATE_LIMIT]
    (reset_s,) = {window.resets_at_s for window in windows}
    assert began_s + 1.5 <= reset_s <= time.time() + 3
    await_window(lambda: hit(limiter, 10**6, time.time(), name), lambda window: window.requests == 1)
    assert reset_s - 0.1 <= time.time()


def test_clients_have_windows_of_their_own(limiter: SharedLimiter, failures: Count) -> None:
    """Names are kept apart, and nothing failed meanwhile."""
    assert [hit(limiter, 1, 0, name).requests for name in "aba"] == [1, 1, 2]
    assert failures.counts == {}


def test_what_requests_held_is_counted_with_the_next_one(server: RedisServer, limiter: SharedLimiter) -> None:
    """Events and bytes of one and of several are told in one round trip, once, and refuse the next when spent."""
    asked = Claim("a", Allowance(100, events=10, size_bytes=1000))
    run_on_loop(limiter.hit([asked], 0))
    limiter.spend([asked], 4, 300)
    limiter.spend([asked], 5, 300)
    windows = [run_on_loop(limiter.hit([asked], 0))[0] for _ in range(2)]
    limiter.spend([asked], 1, 0)

    assert [(window.events, window.size_bytes, window.spent) for window in windows] == [(9, 600, None)] * 2
    assert run_on_loop(limiter.hit([asked], 0))[0].spent is ErrorCode.EVENT_LIMIT
    limiter.spend([asked], -10, 400)
    assert run_on_loop(limiter.hit([asked], 0))[0].spent is ErrorCode.BYTE_LIMIT
    with redis.Redis.from_url(server.url) as store:
        assert store.hgetall("test:a") == {b"requests": b"5", b"events": b"0", b"bytes": b"1000"}


def test_a_visitor_beyond_his_share_costs_his_client_no_request(limiter: SharedLimiter) -> None:
    """In one script: what the narrow window refuses is not counted in the wide one; what it held before is."""
    visitor, client = Claim("visitor", Allowance(2)), Claim("client", Allowance(100))
    run_on_loop(limiter.hit([visitor, client], 0))
    run_on_loop(limiter.hit([visitor, client], 0))
    limiter.spend([visitor, client], 7, 70)

    refused = [run_on_loop(limiter.hit([visitor, client], 0)) for _ in range(20)]
    other = run_on_loop(limiter.hit([Claim("other", Allowance(2)), client], 0))

    assert {tuple(window.spent for window in windows) for windows in refused} == {(ErrorCode.RATE_LIMIT,)}
    assert (other[1].requests, other[1].events, other[1].size_bytes) == (3, 7, 70)


def test_each_request_is_one_round_trip(server: RedisServer, limiter: SharedLimiter) -> None:
    """Whatever it counts in, and whatever is told of those before."""
    asked = [Claim("visitor", Allowance(100, 10, 10)), Claim("client", Allowance(100, 10, 10))]
    run_on_loop(limiter.hit(asked, 0))
    with redis.Redis.from_url(server.url) as store:
        calls_before = int(store.info("commandstats")["cmdstat_evalsha"]["calls"])
        for _ in range(5):
            run_on_loop(limiter.hit(asked, 0))
            limiter.spend(asked, 1, 1)
        calls = int(store.info("commandstats")["cmdstat_evalsha"]["calls"])
        assert calls - calls_before == 5


def test_a_counter_without_an_end_gets_one(server: RedisServer, limiter: SharedLimiter) -> None:
    """Somebody's PERSIST in the store must not lock a client out for ever."""
    store = redis.Redis.from_url(server.url)
    store.hset("test:a", "requests", "100")

    assert hit(limiter, 5, 0).requests == 101
    assert 0 < int(store.ttl("test:a")) <= 61
    store.close()


def test_a_store_that_lost_its_scripts_counts_on(server: RedisServer, limiter: SharedLimiter, failures: Count) -> None:
    """A failover or SCRIPT FLUSH empties the script cache; the next request fills it."""
    store = redis.Redis.from_url(server.url)
    hit(limiter, 5, 0)
    store.script_flush()

    assert hit(limiter, 5, 0).requests == 2
    assert failures.counts == {}
    store.close()


def test_while_the_store_is_away_everything_passes_and_is_counted(
    server: RedisServer, limiter: SharedLimiter, failures: Count
) -> None:
    """A stopped store costs no time worth the name, and when it is back it counts again."""
    hit(limiter, 1, time.time())
    server.stop()
    begin_s = time.monotonic()
    windows = [hit(limiter, 1, 1000.5) for _ in range(200)]
    took_s = time.monotonic() - begin_s

    assert {(window.claim.allowance.requests, window.requests, window.resets_at_s) for window in windows} == {
        (1, 0, 1061)
    }
    assert failures.counts == {"rate_limit_store_failures_total": 200}
    assert took_s < SOON_S
    server.start()
    assert await_window(lambda: hit(limiter, 1, time.time()), lambda window: window.requests > 0).requests == 1


def test_a_frozen_store_costs_one_request_a_few_milliseconds(server: RedisServer, failures: Count) -> None:
    """It takes connections and answers nothing; the timeout is paid once in a while, not by every request."""
    limiter = limiter_of(Access(server.url), 0.05, "test:", 2, failures)
    await_window(lambda: hit(limiter, 1, time.time()), lambda window: window.requests > 0)
    failures.counts.clear()
    server.pause()
    try:
        begin_s = time.monotonic()
        first = hit(limiter, 1, time.time())
        first_s = time.monotonic() - begin_s
        rest = [hit(limiter, 1, time.time()) for _ in range(200)]
        rest_s = time.monotonic() - begin_s - first_s
    finally:
        server.resume()

    assert not any(window.spent for window in (first, *rest))
    assert failures.counts["rate_limit_store_failures_total"] == 201
    assert 0.05 <= first_s < SOON_S
    assert rest_s < SOON_S
    await_window(lambda: hit(limiter, 1, time.time()), lambda window: window.requests > 0)


def test_a_password_comes_from_a_file(tmp_path: Path, failures: Count) -> None:
    """The right one counts; a wrong one is a store that does not answer."""
    path = tmp_path / "password"
    with RedisServer("correct horse") as server:
        path.write_text("correct horse\n")
        store = Access(server.url, password_file=str(path))
        assert hit(limiter_of(store, _PATIENCE_S, "", 60, failures), 5, 0).requests == 1
        path.write_text("wrong")
        assert hit(limiter_of(store, _PATIENCE_S, "", 60, failures), 5, 0).requests == 0

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
