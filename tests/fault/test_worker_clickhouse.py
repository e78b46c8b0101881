"""ClickHouse answers wrongly, late or not at all, under load with poison in it: every record ends up once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.fault.conftest import Oracle, new_topic_on
from tests.support.clickhouse import ClickHouse
from tests.support.feed import Feed
from tests.support.fleet import Fleet, Member
from tests.support.kafka import KafkaCluster
from tests.support.proxy import (
    Answer,
    BlackHole,
    CutBody,
    DelayAnswer,
    DelayRequest,
    DropAnswer,
    FaultProxy,
    Mode,
    Pass,
    Reset,
)

INSERT: Final = "INSERT+INTO+events+"
_TIMEOUT_S: Final = 2.0
_PER_SECOND: Final = 400


def refusal(status: int, code: int, name: str, text: str = "as the test wishes") -> Answer:
    """Return an answer as ClickHouse words it."""
    body = f"Code: {code}. DB::Exception: {text}. ({name}) (version 26.9.1.1)\n"
    return Answer(status, {"X-ClickHouse-Exception-Code": str(code)}, body.encode())


def page(status: int, **headers: str) -> Answer:
    """Return what some other server on the way answers."""
    body = b"<html><body><h1>Code: 27. DB::Exception: this is nobody you know</h1></body></html>"
    return Answer(status, {"Content-Type": "text/html", **headers}, body)


_EXCEPTION_BEHIND_THE_HEAD: Final = Answer(
    200,
    {"X-ClickHouse-Query-Id": "1", "X-ClickHouse-Exception-Tag": "abcdefghijklmnop"},
    b"__exception__\r\nabcdefghijklmnop\r\nCode: 241. DB::Exception: Memory. (MEMORY_LIMIT_EXCEEDED)\r\n"
    b"68 abcdefghijklmnop\r\n__exception__\r\n",
)
FAULTS: Final[dict[str, tuple[str, int, list[Mode]]]] = {
    "applied, and the answer is lost": ("unknown", 8, [DropAnswer()]),
    "applied, and the answer is late": ("unknown", 4, [DelayAnswer(_TIMEOUT_S + 0.5)]),
    "applied while the second try runs": ("unknown", 4, [DelayRequest(_TIMEOUT_S + 0.2)]),
    "applied long after the second try": ("unknown", 4, [DelayRequest(_TIMEOUT_S + 2)]),
    "cut in the middle": ("unknown", 2, [CutBody(0), CutBody(1), CutBody(1000), CutBody(9000), CutBody(-1)]),
    "reset": ("unknown", 3, [Reset()]),
    "never answered": ("unknown", 2, [BlackHole()]),
    "refused for now": (
        "busy",
        2,
        [
            refusal(500, 202, "TOO_MANY_SIMULTANEOUS_QUERIES"),
            refusal(500, 241, "MEMORY_LIMIT_EXCEEDED"),
            refusal(500, 243, "NOT_ENOUGH_SPACE"),
            refusal(500, 252, "TOO_MANY_PARTS", "Too many parts (300). Merges are behind"),
        ],
    ),
    "ended in the middle": (
        "unknown",
        2,
        [
            refusal(500, 319, "UNKNOWN_STATUS_OF_INSERT"),
            refusal(500, 242, "TABLE_IS_READ_ONLY"),
            refusal(500, 999, "KEEPER_EXCEPTION"),
            refusal(503, 98_765, "FROM_THE_FUTURE"),
        ],
    ),
    "answered by somebody between": (
        "unknown",
        1,
        [Answer(400, {}, b"Code: 27. DB::Exception: Cannot parse. (X)\n"), *map(page, (401, 404, 429, 502, 503, 504))],
    ),
    "answered with a 200 that is none": (
        "unknown",
        2,
        [page(200), Answer(200), _EXCEPTION_BEHIND_THE_HEAD, page(303, Location="/ping"), page(307, Location="/ping")],
    ),
}
"""Each kind: the cause that the metrics name, how many inserts each mode strikes, and the modes, in turn."""


@dataclass
class Rig:
    """Load on a topic, a worker, a proxy before its ClickHouse, and the oracle beside the proxy."""

    proxy: FaultProxy
    fleet: Fleet
    feed: Feed

    def start(self) -> Member:
        """Start the worker."""
        return self.fleet.start(clickhouse_url=self.proxy.url, insert_timeout_s=_TIMEOUT_S, max_poll_interval_ms=10_000)


@pytest.fixture(scope="module")
def rig(
    broker_of_session: KafkaCluster, clickhouse: ClickHouse, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """One for all tests of this module: each settles what it sends."""
    address = urlsplit(clickhouse.url)
    topic = new_topic_on(broker_of_session)
    servers = broker_of_session.bootstrap_servers
    with (
        FaultProxy(address.hostname or "", address.port or 0) as proxy,
        Fleet(tmp_path_factory.mktemp("fleet"), servers, topic, clickhouse.url) as fleet,
    ):
        yield Rig(proxy, fleet, Feed(servers, topic, poison_every=40))


@pytest.fixture
def member(rig: Rig) -> Iterator[Member]:
    """The rig's worker, started if it does not run."""
    rig.proxy.set(Pass())
    alive = [member for member in rig.fleet.members if member.is_alive]
    yield alive[0] if alive else rig.start()
    rig.proxy.set(Pass())


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_at_an_insert_costs_nothing_but_time(rig: Rig, member: Member, oracle: Oracle, kind: str) -> None:
    """It is tried again under its token, whatever became of it, and the metrics say what happened."""
    cause, times, modes = FAULTS[kind]
    retries = member.figure("headrace_consumer_retries_total", step="insert", cause=cause)
    ended = member.figure("headrace_consumer_insert_seconds_count", table="events", outcome=cause)
    with rig.feed.running(_PER_SECOND):
        for mode in modes:
            count = rig.proxy.count(type(mode)) + times
            rig.proxy.set(mode, times, only=INSERT)
            rig.proxy.await_count(type(mode), count, 30)
    found = rig.fleet.settle(rig.feed)
    retries = member.figure("headrace_consumer_retries_total", step="insert", cause=cause) - retries
    ended = member.figure("headrace_consumer_insert_seconds_count", table="events", outcome=cause) - ended
    struck = times * len(modes)
    oracle.say(struck=struck, retries=retries, rows=found.rows, letters=found.letters, missing=len(found.missing))
    found.check()
    assert retries >= struck
    assert ended >= struck
