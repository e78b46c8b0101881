"""A long time under load, with a fault every few seconds; the audit and SQL agree that every record is there once."""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import SOAK_ONLY
from tests.fault.conftest import Oracle, new_topic_on
from tests.support.clickhouse import EmbeddedClickHouse
from tests.support.command import Command, environ_of
from tests.support.feed import Feed
from tests.support.fleet import Fleet, Member
from tests.support.kafka import KafkaCluster
from tests.support.proxy import Answer, CutBody, DelayAnswer, DropAnswer, FaultProxy, Mode, Pass, Refuse, Reset

EVENTS: Final = 1_000_000
RATE: Final = 4000
_SEED: Final = int(os.environ.get("HEADRACE_SOAK_SEED", "1"))
_WORKERS: Final = 3
_BETWEEN_S: Final = 1.5
_OUTAGE_S: Final = 3.0
_ZOMBIE_S: Final = 5.0  # past the session of 2 s
_LONG_S: Final = EVENTS / RATE * 3 + 240
_INSERT_S: Final = 6
_STRIKES: Final[tuple[tuple[Mode, int], ...]] = (
    (DropAnswer(), 3),
    (DelayAnswer(_INSERT_S + 1.0), 2),
    (CutBody(20_000), 3),
    (Reset(), 3),
    (Answer(500, {"X-ClickHouse-Exception-Code": "252"}, b"Code: 252. DB::Exception: Too many parts"), 3),
    (Answer(503, {}, b"<html>no backend</html>"), 3),
)


KINDS: Final = (
    "kill_worker",
    "freeze_worker",
    "stop_worker",
    "refuse_connections",
    "kill_clickhouse",
    "freeze_clickhouse",
    "kill_broker",
    "strike_inserts",
)


class Storm:
    """Hurts one part after the other, and heals it."""

    def __init__(self, fleet: Fleet, cluster: KafkaCluster, clickhouse: EmbeddedClickHouse, proxy: FaultProxy) -> None:
        """Start the workers."""
        self.random = random.Random(_SEED)
        self.struck: Counter[str] = Counter()
        self._fleet, self._cluster, self._clickhouse, self._proxy = fleet, cluster, clickhouse, proxy
        self.members = [self._start() for _ in range(_WORKERS)]

    def faults(self) -> Iterator[Callable[[], None]]:
        """Yield faults for ever, each kind once before any comes again."""
        kinds: list[Callable[[], None]] = [getattr(self, name) for name in KINDS]
        kinds += [self.strike_inserts] * (len(_STRIKES) - 1)
        while True:
            yield from self.random.sample(kinds, len(kinds))

    def kill_worker(self) -> None:
        """SIGKILL, and another one."""
        number = self.random.randrange(_WORKERS)
        self.members[number].kill()
        self.members[number] = self._start()

    def freeze_worker(self) -> None:
        """SIGSTOP past the session: a zombie."""
        member = self.random.choice(self.members)
        member.pause()
        time.sleep(_ZOMBIE_S)
        member.resume()

    def stop_worker(self) -> None:
        """SIGTERM, and another one."""
        number = self.random.randrange(_WORKERS)
        while not self.members[number].page("/healthz")[0]:  # a process that still loads its modules just ends
            time.sleep(0.05)
        assert self.members[number].stop() == 0
        self.members[number] = self._start()

    def refuse_connections(self) -> None:
        """No way to ClickHouse."""
        self._proxy.set(Refuse())
        time.sleep(_OUTAGE_S)
        self._proxy.set(Pass())

    def strike_inserts(self) -> None:
        """The next requests to ClickHouse go wrong."""
        mode, times = _STRIKES[self.struck["strike_inserts"] % len(_STRIKES)]
        self._proxy.set(mode, times=times)

    def kill_clickhouse(self) -> None:
        """SIGKILL, and start again on the same data."""
        self._clickhouse.kill()
        time.sleep(_OUTAGE_S)
        self._clickhouse.start()

    def freeze_clickhouse(self) -> None:
        """SIGSTOP."""
        self._clickhouse.pause()
        time.sleep(_OUTAGE_S)
        self._clickhouse.resume()

    def kill_broker(self) -> None:
        """SIGKILL the leader of a partition, and bring it back."""
        node = self._cluster.leader(self._fleet.topic, self.random.randrange(4))
        node.kill()
        time.sleep(_OUTAGE_S)
        self._cluster.heal()

    def _start(self) -> Member:
        url = f"http://127.0.0.1:{self._proxy.port}"
        # An insert must end within its timeout on a busy machine, or it is repeated for ever.
        return self._fleet.start(
            clickhouse_url=url, insert_timeout_s=_INSERT_S, batch_rows_max=10_000, session_timeout_ms=3000
        )


def audit(fleet: Fleet) -> list[dict[str, int]]:
    """Run the audit command and return a line for each partition."""
    command = Command(["audit", "--json"], environ_of("CONSUMER_", **fleet.settings))
    try:
        output, said = command.communicate(120)
    finally:
        command.kill()
    assert command.returncode == 0, output + said
    return [json.loads(line) for line in output.splitlines()]


@SOAK_ONLY
@pytest.mark.timeout(_LONG_S)
def test_a_storm(kafka_cluster: KafkaCluster, tmp_path: Path, oracle: Oracle) -> None:
    """Workers, ClickHouse, brokers and the network fail in turn: 0 missing, 0 doubled, no good event a dead letter."""
    topic = new_topic_on(kafka_cluster, partitions=4)
    feed = Feed(kafka_cluster.bootstrap_servers, topic, poison_every=997)
    with (
        EmbeddedClickHouse() as clickhouse,
        FaultProxy("127.0.0.1", clickhouse.port) as proxy,
        Fleet(tmp_path, kafka_cluster.bootstrap_servers, topic, clickhouse.url) as fleet,
    ):
        storm = Storm(fleet, kafka_cluster, clickhouse, proxy)
        faults, began_s = storm.faults(), time.monotonic()
        with feed.running(RATE):
            while len(feed.good) < EVENTS or len(storm.struck) < len(KINDS):
                fault = next(faults)
                fault()
                storm.struck[fault.__name__] += 1
                time.sleep(_BETWEEN_S)
        proxy.set(Pass())
        sent_s = time.monotonic() - began_s
        found = fleet.settle(feed, 120)
        took_s = time.monotonic() - began_s
        assert all(member.stop() == 0 for member in storm.members)
        oracle.say(
            events=len(feed.good), poison=len(feed.poison), missing=len(found.missing), doubled=len(found.doubled),
            wrong=len(found.wrong), sent_s=sent_s, took_s=took_s, faults=storm.struck.total(), **storm.struck,
        )  # fmt: skip
        found.check()
        lines = audit(fleet)
        oracle.say(audited=len(lines), missing=sum(line["missing"] for line in lines),
                   duplicates=sum(line["duplicates"] for line in lines))  # fmt: skip
        assert {(line["missing"], line["duplicates"]) for line in lines} == {(0, 0)}
