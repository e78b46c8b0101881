"""How soon an event can be selected: 1,000 events a second for 20 s, and a reader that looks every 20 ms.

An event's age counts from its Kafka timestamp, given by the producer, to the moment at which a reader first saw it in
the table; so what the reader's own query takes is in it. Each side has its own topic in each round, and no id
comes twice: of several rows under one id the table keeps the first, and a reader would never see the others.

Run `python -m bench.freshness` (5 minutes). The figures go to bench/figures.
"""

import argparse
import threading
import time
import uuid
from collections import deque
from statistics import quantiles
from typing import Final

from confluent_kafka import Producer

from bench.kept import Rounds, keep
from bench.processes import cpu_s
from bench.sample_events import bodies
from bench.sink import (
    FRAME,
    HEADRACE,
    NAIVE,
    PARTITIONS,
    TOPIC,
    Rig,
    asked_inserts,
    await_group,
    environ,
    rig,
    running,
    tables,
)
from consumer.clickhouse.client import Connection

_LOOK_S: Final = 0.02
_WARM_S: Final = 5.0
_TICK_S: Final = 0.01
_SEEN: Final = "SELECT _partition AS number, max(_offset) AS last FROM events GROUP BY number"


class Feed:
    """Fills a new topic with events at an even rate, and knows when each was sent, by partition and offset."""

    def __init__(self, servers: str, topic: str, per_s: int, seconds: float) -> None:
        self.sent: list[deque[tuple[int, float]]] = [deque() for _ in range(PARTITIONS)]
        self._producer = Producer({"bootstrap.servers": servers, "acks": "all", "linger.ms": 3})
        self._rows = [body for _, body in bodies(int(per_s * seconds), 1000)]
        self._topic, self._per_s = topic, per_s
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait until all is sent."""
        self._thread.join()
        self._producer.flush()

    def _run(self) -> None:
        began_s = time.time()
        for number, body in enumerate(self._rows):
            while (now_s := time.time()) < began_s + number / self._per_s:
                time.sleep(_TICK_S)
                self._producer.poll(0)
            partition, offset = number % PARTITIONS, number // PARTITIONS
            self._producer.produce(self._topic, FRAME + body, partition=partition, timestamp=int(now_s * 1000))
            self.sent[partition].append((offset, now_s))


def watch(database: Connection, feed: Feed, total: int, limit_s: float) -> list[float]:
    """Look at the table until all events are there; return their ages (s)."""
    ages: list[float] = []
    until_s = time.time() + limit_s
    while len(ages) < total and time.time() < until_s:
        time.sleep(_LOOK_S)
        rows, now_s = database.query(_SEEN), time.time()
        for row in rows:
            waiting = feed.sent[int(row["number"])]
            while waiting and waiting[0][0] <= int(row["last"]):
                ages.append(now_s - waiting.popleft()[1])
    return ages


def measure(side: str, servers: Rig, per_s: int, seconds: float) -> dict[str, float]:
    """Let a side follow a steady flow; return how old events were when they could be selected."""
    log, topic = servers.directory / "side.log", f"{TOPIC}-{uuid.uuid4().hex[:8]}"
    servers.make_topic(topic)
    with tables(servers) as database, running(side, environ(side, database.database, servers, topic), log) as process:
        await_group(servers.servers, database.database)
        feed = Feed(servers.servers, topic, per_s, seconds)
        time.sleep(2)
        inserts, cpu_before_s = asked_inserts(database), cpu_s(servers.clickhouse.pid) + cpu_s(process.pid)
        feed.start()
        ages = watch(database, feed, int(per_s * seconds), seconds + 60)
        used_s = cpu_s(servers.clickhouse.pid) + cpu_s(process.pid) - cpu_before_s
        feed.join()
        inserts = asked_inserts(database) - inserts
    assert len(ages) == int(per_s * seconds), f"{side}: {len(ages)} events were seen; {log.read_text()[-2000:]}"
    cuts = quantiles(ages[int(per_s * _WARM_S) :], n=100)
    return {
        "p50_s": cuts[49],
        "p99_s": cuts[98],
        "max_s": max(ages),
        "inserts_per_s": inserts / seconds,
        "cores": used_s / seconds,
    }


def main() -> None:
    """Measure, and keep the figures."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--per-s", type=int, default=1000)
    asked.add_argument("--seconds", type=float, default=20.0)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--sides", nargs="*", default=[HEADRACE, NAIVE])
    options = asked.parse_args()
    rounds: Rounds = {side: [] for side in options.sides}
    with rig(()) as servers:
        for number in range(options.rounds):
            for side in sorted(rounds, reverse=bool(number % 2)):
                rounds[side].append(measure(side, servers, options.per_s, options.seconds))
                print(side, rounds[side][-1], flush=True)
    keep("freshness", {"per_s": options.per_s, "sides": rounds})


if __name__ == "__main__":
    main()
