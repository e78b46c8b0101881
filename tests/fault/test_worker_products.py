"""ClickHouse is killed while workers insert and views fill: every product then says what a slow count of them says."""

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from bench.readers import DAY_MS, Plan, traffic
from consumer.clickhouse.products import make_products
from consumer.errors import ConsumerError
from tests.conftest import SOAK_ONLY
from tests.fault.conftest import Oracle, new_topic_on
from tests.support.clickhouse import EmbeddedClickHouse
from tests.support.fleet import Fleet, until
from tests.support.kafka import KafkaCluster
from tests.support.kafka_clients import producer
from tests.support.known_networks import know_countries
from tests.support.slow_products import WANTED, ZONE, each_once, records, shown

START_MS: Final = 1_767_225_600_000
_QUICK: Final[dict[str, object]] = {"batch_rows_max": 100, "batch_age_s_max": 0.1, "insert_timeout_s": 10}
_PATIENT: Final[dict[str, object]] = {"batch_rows_max": 5000, "insert_timeout_s": 20}
_COUNTED: Final = """
SELECT sum(n) AS n FROM
(
    SELECT bitmapCardinality(groupBitmapMergeState(present)) AS n FROM offsets WHERE topic = {topic:String}
    GROUP BY partition, million
)
"""


def plan(visits_per_day: float) -> Plan:
    """Return three days with copies, late events, bad ones and bots."""
    end_ms = START_MS + 3 * DAY_MS
    shares = {"copied": 0.1, "late": 0.1, "bad": 0.02, "bots": 0.05}
    return Plan(START_MS, end_ms, readers=int(visits_per_day), visits_per_day=visits_per_day, **shares)  # type: ignore[arg-type]  # all shares


def publish(servers: str, topic: str, values: Sequence[tuple[str, bytes]]) -> None:
    """Send records as the ingress does, each visitor's to one partition."""
    room = {"queue_buffering_max_messages": 2_000_000, "queue_buffering_max_kbytes": 2_000_000}
    sender = producer(servers, partitioner="murmur2_random", **room)
    for key, value in values:
        sender.produce(topic, value, key)
        sender.poll(0)
    assert sender.flush(60) == 0


class Feeding:
    """Sends records to workers whose ClickHouse is killed meanwhile."""

    def __init__(self, fleet: Fleet, clickhouse: EmbeddedClickHouse, values: Sequence[tuple[str, bytes]]) -> None:
        self._fleet, self._clickhouse, self._values = fleet, clickhouse, values

    def counted(self) -> int:
        """Return how many offsets are counted as inserted."""
        with suppress(ConsumerError):  # the connections of before the kill
            return int(self._fleet.connection.query(_COUNTED, {"topic": self._fleet.topic})[0]["n"])
        return 0

    def run(self, kills: int, chance: random.Random) -> None:
        """Send all records in so many parts and one, and kill the server while the workers insert each but the last."""
        bounds = [len(self._values) * part // (kills + 1) for part in range(kills + 2)]
        servers = str(self._fleet.settings["bootstrap_servers"])
        for start, end in pairwise(bounds):
            publish(servers, self._fleet.topic, self._values[start:end])
            if end < len(self._values):
                least = start + chance.randrange((end - start) // 2)
                until(lambda least=least: self.counted() > least, "rows", 120)  # type: ignore[misc]  # bound now
                self._clickhouse.kill()
                self._clickhouse.start()
        until(lambda: self.counted() == len(self._values), "all rows", 600)


@SOAK_ONLY
@pytest.mark.parametrize(
    ("visits_per_day", "kills", "settings"),
    [
        pytest.param(60, 1, _QUICK, id="some thousands"),
        pytest.param(34_000, 8, _PATIENT, id="a million"),
    ],
)
def test_products_are_right_after_clickhouse_was_killed(  # noqa: PLR0913, PLR0917  (fixtures, and what is varied)
    visits_per_day: float,
    kills: int,
    settings: dict[str, object],
    broker: KafkaCluster,
    tmp_path: Path,
    oracle: Oracle,
) -> None:
    """With copies, late events and a third of all records once more, in another order."""
    chance, topic, sent = random.Random(kills), new_topic_on(broker, partitions=4), list(traffic(plan(visits_per_day)))
    values = list(records(sent))
    again = values[: len(values) // 3]
    chance.shuffle(again)
    with EmbeddedClickHouse() as own, Fleet(tmp_path, broker.bootstrap_servers, topic, own.url) as fleet:
        fleet.connection.command("SYSTEM START MERGES events")  # as in life: they remove copies meanwhile
        know_countries(fleet.connection)
        make_products(fleet.connection, ZONE, time.sleep)
        fleet.settings |= settings
        members = [fleet.start() for _ in range(2)]
        Feeding(fleet, own, [*values, *again]).run(kills, chance)
        assert [member.stop() for member in members] == [0, 0]
        said = each_once(sent)
        for view, (_, count) in WANTED.items():
            found, wanted = shown(fleet.connection, view), count(said)
            lacking, odd = list((wanted - found).items()), list((found - wanted).items())
            assert found == wanted, f"{view}: {len(lacking)} rows, such as {lacking[:3]}, but {odd[:3]}"
        (quality,) = fleet.connection.query("SELECT sum(records) AS records, sum(events) AS events FROM data_quality")
        repaired = sum(member.said().count("rows or counts were missing") for member in members)
        oracle.say(events=len(said), records=len(values) + len(again), repaired=repaired, counted=quality["records"])
        assert quality["events"] == len(said)
