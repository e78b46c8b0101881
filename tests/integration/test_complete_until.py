"""The view complete_until: never later than what is true, whatever happens to partitions, workers and logs."""

import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.clickhouse.client import Connection
from consumer.clickhouse.migrations import create_database, migrate, migrations
from consumer.clickhouse.notes import write_heartbeats
from consumer.clickhouse.products import make_products
from consumer.delivery.halting import Halted, Step
from consumer.delivery.ports import Partition
from consumer.errors import HaltCode
from consumer.health import PartitionProgress
from consumer.kafka.admin import Topic
from consumer.operations.completeness import Completeness, Heartbeat, Look
from tests.support.clickhouse import ClickHouse
from tests.support.fixtures_consumer import open_database

START_S = 1_700_000_000
VIEW = "SELECT toUnixTimestamp64Milli(complete_until) AS at_ms FROM complete_until WHERE topic = {topic:String}"


@pytest.fixture(scope="module")
def tables(clickhouse: ClickHouse) -> Iterator[Connection]:
    """One database for all: each example has another topic."""
    name = f"test_{uuid.uuid4().hex}"
    first = open_database(clickhouse, "")
    create_database(first, name, time.sleep)
    ours = open_database(clickhouse, name)
    migrate(ours, migrations(), time.sleep)
    make_products(ours, "UTC", time.sleep)
    yield ours
    ours.close()
    first.command(f"DROP DATABASE {name}")
    first.close()


def beat_of(topic: str, partition: int, *, complete_s: int = 0, many: int = 1, counted_s: int = 0) -> Heartbeat:
    """Return a heartbeat, with moments in seconds after the start; 0: not known."""
    complete_ms, counted_ms = ((START_S + at_s) * 1000 if at_s else 0 for at_s in (complete_s, counted_s))
    return Heartbeat(Partition(topic, partition), "id-1", many, counted_ms, 5, 7, complete_ms, "")


def until_s(tables: Connection, topic: str) -> int | None:
    """Return what the view says, in seconds after the start; None when it does not know."""
    (row,) = tables.query(VIEW, {"topic": topic}) or [{"at_ms": None}]
    return None if row["at_ms"] is None else row["at_ms"] // 1000 - START_S


def write(tables: Connection, *beats: Heartbeat) -> None:
    """Write heartbeats."""
    write_heartbeats(tables, [beat.row() for beat in beats])


def test_the_partition_that_is_furthest_behind_decides(tables: Connection) -> None:
    """And one that nobody has claimed anything of leaves all unknown."""
    topic = uuid.uuid4().hex
    assert until_s(tables, topic) is None
    write(tables, beat_of(topic, 0, complete_s=50, many=2))
    assert until_s(tables, topic) is None
    write(tables, beat_of(topic, 1, complete_s=30, many=2))
    write(tables, beat_of(topic, 0, complete_s=60, many=2))
    assert until_s(tables, topic) == 30
    write(tables, beat_of(topic, 1, many=2))  # another worker, which does not know yet what its predecessor claimed
    assert until_s(tables, topic) == 30

    (row,) = tables.query("SELECT * FROM complete_until WHERE topic = {topic:String}", {"topic": topic})
    assert (row["partitions"], row["last_partition"], row["halted"], row["behind"]) == (2, 1, [], 4)


def test_a_partition_that_was_added_is_complete_until_it_was_not_there(tables: Connection) -> None:
    """Its records may be on the topic before any worker has heard of it."""
    topic = uuid.uuid4().hex
    write(tables, beat_of(topic, 0, complete_s=50, counted_s=50))
    assert until_s(tables, topic) == 50
    write(tables, beat_of(topic, 0, complete_s=60, counted_s=60, many=2))
    assert until_s(tables, topic) == 50
    write(tables, beat_of(topic, 1, complete_s=58, counted_s=60, many=2))
    assert until_s(tables, topic) == 58


def test_a_topic_that_was_recreated_begins_from_nothing(tables: Connection) -> None:
    """Its partitions have the numbers of the earlier one's."""
    topic = uuid.uuid4().hex
    write(tables, beat_of(topic, 0, complete_s=50))
    time.sleep(0.01)
    write(tables, Heartbeat(Partition(topic, 0), "id-2", 1, 0, 0, 3, 0, "deleted"))

    assert until_s(tables, topic) is None
    (row,) = tables.query("SELECT halted, behind FROM complete_until WHERE topic = {topic:String}", {"topic": topic})
    assert row == {"halted": ["deleted"], "behind": 3}


def test_a_worker_whose_clock_is_ahead_claims_no_later_than_clickhouses_clock(tables: Connection) -> None:
    """ClickHouse's clock bounds it."""
    topic, ahead_ms = uuid.uuid4().hex, int(time.time() * 1000) + 3_600_000
    write(tables, Heartbeat(Partition(topic, 0), "id-1", 1, ahead_ms, 7, 7, ahead_ms, ""))

    (row,) = tables.query(
        "SELECT complete_until AS at FROM complete_until WHERE topic = {topic:String}", {"topic": topic}
    )
    assert row["at"].replace(tzinfo=row["at"].tzinfo or UTC) <= datetime.now(UTC)


@dataclass
class World:
    """A topic with its log, workers who own partitions, and when each record came."""

    tables: Connection
    arrival_s: int = 3
    topic: str = field(default_factory=lambda: uuid.uuid4().hex)
    now_s: int = 100
    logs: list[list[int]] = field(default_factory=lambda: [[], []])
    done: list[int] = field(default_factory=lambda: [0, 0])
    halted: set[int] = field(default_factory=set)
    workers: list[Completeness] = field(default_factory=list)
    owners: list[int] = field(default_factory=lambda: [0, 0])
    unheard: int = 0

    def __post_init__(self) -> None:
        self.workers = [Completeness(self.arrival_s), Completeness(self.arrival_s)]

    def append(self, number: int, age_s: int) -> None:
        """Bring an event into the log, some time after its receipt."""
        self.logs[number % len(self.logs)].append(self.now_s - age_s)

    def insert(self, number: int, count: int) -> None:
        """Insert some records of a partition, if it is not halted and its owner has heard of it."""
        number %= len(self.logs) - self.unheard
        if number not in self.halted:
            self.done[number] = min(len(self.logs[number]), self.done[number] + count)

    def halt(self, number: int) -> None:
        """Halt a partition, or end its halt."""
        self.halted ^= {number % len(self.logs)}

    def move(self, number: int) -> None:
        """Give a partition to another worker, which begins without memory."""
        number %= len(self.logs)
        self.owners[number] = (self.owners[number] + 1) % 3  # the third is a worker that is down

    def restart(self, number: int) -> None:
        """Replace a worker."""
        self.workers[number % 2] = Completeness(self.arrival_s)

    def add(self) -> None:
        """Add a partition; no worker owns it yet."""
        if len(self.logs) < 5:
            self.logs.append([])
            self.done.append(0)
            self.owners.append(2)
            self.unheard += 1

    def assign(self) -> None:
        """Let workers hear of all partitions."""
        self.unheard = 0
        self.owners = [owner if owner != 2 else random.Random(self.now_s).randrange(2) for owner in self.owners]

    def beat(self, number: int, *, does_arrive: bool) -> None:
        """Let a worker beat; a record may come between the look at its progress and the answer of the brokers."""
        mine = [place for place, owner in enumerate(self.owners) if owner == number % 2]
        progress = {
            Partition(self.topic, place): PartitionProgress(
                self.done[place],
                None,
                0.0,
                halt=Halted(Partition(self.topic, place), 0, HaltCode.TABLE, "", Step.INSERT)
                if place in self.halted
                else None,
                topic_id="id-1",
            )
            for place in mine
        }
        ends = {Partition(self.topic, place): len(self.logs[place]) for place in mine}
        look = Look((START_S + self.now_s) * 1000, ends, {self.topic: Topic("id-1", len(self.logs))})
        made = self.workers[number % 2].beat(look, progress)
        if made and does_arrive:
            write(self.tables, *made)

    def check(self) -> None:
        """Everything that was received before is inserted."""
        if (complete_s := until_s(self.tables, self.topic)) is None:
            return
        waiting = [at_s for log, done in zip(self.logs, self.done, strict=True) for at_s in log[done:]]
        assert all(at_s >= complete_s for at_s in waiting), (complete_s, sorted(waiting)[:3])


STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 4), st.integers(0, 2)),
    st.tuples(st.just("insert"), st.integers(0, 4), st.integers(1, 5)),
    st.tuples(st.just("beat"), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("wait"), st.integers(1, 10), st.none()),
    st.tuples(st.sampled_from(["halt", "move", "restart"]), st.integers(0, 4), st.none()),
    st.tuples(st.sampled_from(["add", "assign"]), st.none(), st.none()),
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEPS, min_size=10, max_size=60))
def test_whatever_happens_no_claim_is_false(tables: Connection, steps: list[tuple[str, int, int]]) -> None:
    """Workers that stop, move and forget, partitions that halt and are added, beats that get lost, late events."""
    world = World(tables)
    for name, first, second in steps:
        if name == "wait":
            world.now_s += first
        elif name in ("append", "insert"):
            getattr(world, name)(first, second)
        elif name == "beat":
            world.beat(first, does_arrive=bool(second))
            world.check()
        elif name in ("add", "assign"):
            getattr(world, name)()
        else:
            getattr(world, name)(first)
    world.check()
    world.halted.clear()
    world.assign()
    world.done = [len(log) for log in world.logs]
    for _ in range(2):
        world.now_s += 10
        for number in range(2):
            world.beat(number, does_arrive=True)
    assert until_s(tables, world.topic) == world.now_s - 10 - world.arrival_s
