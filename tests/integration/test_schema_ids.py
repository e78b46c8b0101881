"""Records of several writer schemas, and a registry that is away: real services, each record where it belongs, once."""

import json
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from consumer.errors import Reason
from schemas.codec import Encoder
from tests.support.clickhouse import ClickHouse
from tests.support.feed import Feed
from tests.support.fixtures_consumer import EVENT, SCHEMA_ID, encoded_loosely, event
from tests.support.fleet import Fleet
from tests.support.ingress import Ingress
from tests.support.kafka import Broker
from tests.support.kafka_clients import deliver
from tests.support.proxy import Answer, BlackHole, DropAnswer, FaultProxy, Pass, Refuse
from tests.support.registry import SchemaRegistry
from tests.support.release import Visitors
from tests.support.rig import INSERT

WAIT_S = 60.0
PARTITIONS = 6
PACE_S = 5.0  # what a partition may wait for others; a hanging question takes longer
ABSENT_ID = 77
OLDER = json.dumps(
    json.loads(EVENT) | {"fields": [field for field in json.loads(EVENT)["fields"] if field["name"] != "traceId"]}
)
"""What an earlier release wrote."""

Item = tuple[bytes, Reason | None]
"""A record's value, and why it must be a dead letter, if it must."""


class Writer:
    """Appends records under any schema id, and keeps book of what must become of each."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self.feed = Feed(broker.bootstrap_servers, topic)
        self._servers, self._topic, self._numbers = broker.bootstrap_servers, topic, count(1)

    def good(self, schema_id: int = SCHEMA_ID, schema: str = EVENT) -> Item:
        """Return an event."""
        return Encoder(schema, schema_id).encode(event(next(self._numbers))), None

    def unknown(self) -> Item:
        """Return an event under an id that nobody has."""
        return Encoder(EVENT, ABSENT_ID).encode(event(next(self._numbers))), Reason.UNKNOWN_SCHEMA

    def bad(self) -> Item:
        """Return an event that the table refuses, in the schema of today."""
        return encoded_loosely(next(self._numbers), eventId="no id"), Reason.BAD_VALUE

    def truncated(self, schema_id: int, schema: str) -> Item:
        """Return an event that lacks its end."""
        return self.good(schema_id, schema)[0][:-5], Reason.BAD_AVRO

    def append(self, items: list[Item], partition: int = 0) -> None:
        """Append records to a partition, together."""
        offsets = deliver(self._servers, self._topic, [value for value, _ in items], partition)
        for offset, (_, reason) in zip(offsets, items, strict=True):
            if reason is None:
                self.feed.good.add((partition, offset))
            else:
                self.feed.poison[partition, offset] = reason


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    """A registry without schemas."""
    with SchemaRegistry() as running:
        yield running


@pytest.fixture
def proxy(registry: SchemaRegistry) -> Iterator[FaultProxy]:
    """What stands before it."""
    with FaultProxy("127.0.0.1", registry.port) as running:
        yield running


@pytest.fixture
def fleet(
    kafka: Broker, clickhouse: ClickHouse, proxy: FaultProxy, tmp_path: Path, new_topic: Callable[..., str]
) -> Iterator[Fleet]:
    """Workers that use the registry."""
    topic = new_topic(partitions=PARTITIONS)
    kafka.create_topic(f"{topic}.dead")
    with Fleet(tmp_path, kafka.bootstrap_servers, topic, clickhouse.url) as made:
        made.settings["schema_registry_url"] = proxy.url
        yield made


@pytest.fixture
def writer(kafka: Broker, fleet: Fleet) -> Writer:
    """Who writes to their topic."""
    return Writer(kafka, fleet.topic)


def until(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Wait for a condition."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


def test_both_services_start_and_work_while_a_known_registry_is_away(
    fleet: Fleet, proxy: FaultProxy, registry: SchemaRegistry, kafka: Broker, tmp_path: Path
) -> None:
    """What they were told once lies on their disks; an ingress that was never told does not start."""
    visitors = Visitors()
    for _ in range(2):
        collector = Ingress(
            tmp_path,
            kafka.bootstrap_servers,
            topic=fleet.topic,
            schema_registry_url=proxy.url,
            schema_cache_dir=tmp_path / "collector",
        )
        try:
            collector.start()
            visitors.send(collector.port, 20, knows_field=False)
        finally:
            collector.end()
        worker = fleet.start()
        until(lambda: fleet.rows() == len(visitors.sent), "rows")
        assert worker.stop() == 0
        proxy.set(Refuse())
    assert "will try again" not in worker.said()
    stranger = Ingress(tmp_path, kafka.bootstrap_servers, topic=fleet.topic, schema_registry_url=proxy.url)
    with pytest.raises(AssertionError, match="the registry does not answer: ConnectError"):
        stranger.start()
    stranger.end()

    assert registry.asked == {f"/subjects/{fleet.topic}-value/versions": 1, "/schemas/ids/1": 1}
    ids = fleet.connection.query("SELECT toString(event_id) AS id FROM events ORDER BY id")
    assert [row["id"] for row in ids] == sorted(visitors.sent)


def test_an_id_in_no_cache_holds_its_own_partitions_until_the_registry_is_back(
    fleet: Fleet, proxy: FaultProxy, registry: SchemaRegistry, writer: Writer
) -> None:
    """More partitions hang than there are threads; the one that does not goes on, and nothing is a dead letter."""
    schema_id, free = registry.add(EVENT), PARTITIONS - 1
    proxy.set(Answer(503))
    for partition in range(free):
        writer.append([writer.good(schema_id) for _ in range(10)], partition)
    worker = fleet.start()
    proxy.await_count(Answer, 3, WAIT_S)
    proxy.set(BlackHole())
    proxy.await_count(BlackHole, 1, WAIT_S)
    rounds_s: list[float] = []
    while sum(rounds_s) < PACE_S + 1:
        at_s = time.monotonic()
        writer.append([writer.good() for _ in range(5)], free)
        own = {place for place in writer.feed.good if place[0] == free}
        until(lambda own=own: not own & fleet.look(writer.feed).missing, "rows of the free partition")  # type: ignore[misc]  # bound now, not late
        rounds_s.append(time.monotonic() - at_s)
    print(f"slowest round of the free partition: {max(rounds_s):.1f} s")

    assert min(rounds_s) < PACE_S  # other tests may slow down some of them
    assert worker.page("/readyz")[0] == 503
    assert '"retrying"' in worker.page("/healthz")[1]
    assert worker.page("/healthz")[0] == 200
    assert worker.figure("headrace_consumer_is_retrying") == 1
    assert worker.figure("headrace_consumer_lag_records", topic=fleet.topic) >= free * 10
    assert worker.figure("headrace_consumer_retries_total", step="prepare", cause="away") >= free
    assert fleet.look(writer.feed).letters == 0
    proxy.set(Pass())

    settled = fleet.settle(writer.feed)
    settled.check()
    assert settled.letters == 0
    until(lambda: worker.page("/readyz")[0] == 200, "ready again")
    assert registry.asked == {f"/schemas/ids/{schema_id}": 1}


def test_ids_of_files_and_of_the_registry_lie_side_by_side_and_unknown_ones_are_dead_letters(
    fleet: Fleet, registry: SchemaRegistry, writer: Writer
) -> None:
    """The registry says that it has no such id: that alone is poison, and its neighbours are rows, once each."""
    schema_id = registry.add(EVENT)
    writer.append([writer.unknown() if n % 10 == 5 else writer.good((schema_id, SCHEMA_ID)[n % 2]) for n in range(100)])
    worker = fleet.start()

    settled = fleet.settle(writer.feed)
    settled.check()
    assert (settled.rows, settled.letters) == (90, 10)
    until(lambda: worker.figure("headrace_consumer_dead_letters_total", reason="unknown_schema") == 10, "letters")


def test_poison_of_one_schema_does_not_double_the_rows_of_another(
    fleet: Fleet, registry: SchemaRegistry, writer: Writer, clickhouse: ClickHouse
) -> None:
    """Two schemas in one batch; what is refused in one makes the other's block come again, and so do lost answers."""
    older_id = registry.add(OLDER)
    host, _, port = clickhouse.url.removeprefix("http://").rpartition(":")
    with FaultProxy(host, int(port)) as network:
        fleet.settings |= {"clickhouse_url": network.url, "batch_age_s_max": 1.5}
        worker = fleet.start()
        until(lambda: worker.partitions() == PARTITIONS + 1, "the group forms")
        # Twice as often as inserts are under way at once: the driver itself sends an insert again, once.
        network.set(DropAnswer(), times=6, only=INSERT)
        for partition in range(3):
            items = [writer.good(older_id, OLDER) if n % 2 else writer.good() for n in range(60)]
            items += [writer.bad()] if partition != 1 else []
            items += [writer.truncated(older_id, OLDER)] if partition != 0 else []
            writer.append([*items, writer.good(), writer.good(older_id, OLDER)], partition)

        settled = fleet.settle(writer.feed)
        settled.check()
        assert (settled.rows, settled.letters) == (3 * 62, 4)
        until(lambda: worker.figure("headrace_consumer_batch_rows_count", topic=fleet.topic) >= 3, "committed")
        assert worker.figure("headrace_consumer_retries_total", step="insert", cause="unknown") >= 1
        assert network.count(DropAnswer) == 6
