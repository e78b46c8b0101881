"""Threads of the slow steps: what one topic waits for holds up no other one."""

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from consumer.delivery.backoff import Backoff
from consumer.delivery.batch import Awaited, Prepared
from consumer.delivery.buffer import BufferLimits
from consumer.delivery.executor import Pools, StepExecutor, WorkerConfig
from consumer.delivery.intent import Intent
from consumer.delivery.partition import PartitionState
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import Block, CommittedOffset, Partition, Poison, Record
from consumer.delivery.task import Stage
from tests.support.consumer_fakes import Tally
from tests.support.fake_group import FakeBroker
from tests.support.fake_table import FakeLetters, FakeRows, FakeTable

EVENTS, LETTERS = "events", "events.dead"
BEHIND_S = 30.0  # a failed test takes so long


class Replicas(FakeTable):
    """A table whose replicas catch up when told."""

    def __init__(self) -> None:
        super().__init__(10)
        self.waiting, self.caught_up = threading.Semaphore(0), threading.Event()

    def await_replicas(self, *_: object, **__: object) -> float:
        """Wait, in real seconds."""
        self.waiting.release()
        assert self.caught_up.wait(BEHIND_S)
        return 60.0


def repeated(topic: str, number: int) -> PartitionState:
    """Return a partition whose head is a predecessor's range, and prepared."""
    place = Partition(topic, number)
    intent = Intent("id", 0, 1)
    state = PartitionState(place, "id", 0, CommittedOffset(0, intent.encode()), replay=intent)
    state.add(Record(place, 0, 1000, b"", b"v", (), -1), 0.0)
    state.read_to = 1
    task = state.seal(BufferLimits(1, 1000, 1.0, 1000), 0.0)
    assert task is not None
    state.prepared(task, Prepared(task.batch, (Block(1, intent.origin, "token", (0,), b""),), ()))
    return state


@pytest.fixture
def tables() -> Iterator[dict[str, Replicas]]:
    """A table for each topic; in the end their replicas have caught up."""
    found = {topic: Replicas() for topic in (EVENTS, LETTERS)}
    yield found
    for table in found.values():
        table.caught_up.set()


def test_replicas_of_one_table_hold_up_no_batch_of_the_other(tables: dict[str, Replicas]) -> None:
    """However many of its partitions wait for them."""
    pipelines = {
        topic: Pipeline(FakeRows({1}), table, FakeLetters(), FakeBroker(1), table, table)
        for topic, table in tables.items()
    }
    pools = Pools.of_threads(1, pipelines)
    executor = StepExecutor(
        pipelines, pools, WorkerConfig(BufferLimits(1, 1000, 1.0, 1000), "cluster", 0.0, Backoff()), Tally()
    )
    events = [repeated(EVENTS, number) for number in range(5)]
    for state in events:
        executor.await_replicas(state, 1.0)
    assert tables[EVENTS].waiting.acquire(timeout=BEHIND_S)

    dead = repeated(LETTERS, 0)
    tables[LETTERS].caught_up.set()
    executor.await_replicas(dead, 1.0)

    job = dead.tasks[0].job
    assert job is not None
    assert job.result(5.0) == Awaited(60.0)
    assert all(state.tasks[0].stage is Stage.AWAITING for state in events)
    pools.shutdown()


def test_young_rows_of_a_topic_stand_in_no_line_behind_its_old_ones(tables: dict[str, Replicas]) -> None:
    """Their token is known to all replicas: one that lags holds up only what it must."""
    table = tables[EVENTS]
    pipeline = Pipeline(FakeRows({1}), table, FakeLetters(), FakeBroker(1), table, table)
    pools = Pools.of_threads(1, [EVENTS])
    terms = WorkerConfig(BufferLimits(1, 1000, 1.0, 1000), "cluster", 0.0, Backoff())
    executor = StepExecutor({EVENTS: pipeline}, pools, terms, Tally())
    old, young, unseen = (repeated(EVENTS, number) for number in range(3))
    executor.await_replicas(old, 1.0)
    assert table.waiting.acquire(timeout=BEHIND_S)
    table.is_young, table.known_s = True, 540.0
    unseen.tasks[0].is_unseen = True  # whatever its age: what was acknowledged is on no replica that answers
    for state in (young, unseen):
        executor.await_replicas(state, 2.0)

    assert [state.tasks[0].stage for state in (old, young, unseen)] == [Stage.AWAITING, Stage.PREPARED, Stage.AWAITING]
    assert young.tasks[0].is_ready(542.0)
    assert young.tasks[0].must_await(542.1)
    pools.shutdown()


class SlowRows(FakeRows):
    """Rows that are prepared when told."""

    def __init__(self) -> None:
        super().__init__({1})
        self.begun, self.may_end = threading.Event(), threading.Event()

    def screen(self, records: Sequence[Record]) -> list[Poison]:
        """Wait, in real seconds."""
        self.begun.set()
        assert self.may_end.wait(BEHIND_S)
        return super().screen(records)


def test_reading_waits_for_a_batch_that_is_being_prepared() -> None:
    """For one of them, as long as it may; not for those that take long, and so wait for a server."""
    rows, table = SlowRows(), FakeTable(10)
    pools = Pools.of_threads(1, [EVENTS])
    terms = WorkerConfig(BufferLimits(1, 1000, 1.0, 1000), "cluster", 0.0, Backoff(), await_s=BEHIND_S)
    pipeline = Pipeline(rows, table, FakeLetters(), FakeBroker(1), table, table)
    executor = StepExecutor({EVENTS: pipeline}, pools, terms, Tally())
    states = [PartitionState(Partition(EVENTS, number), "id-1", 0, None) for number in range(2)]
    for state in states:
        state.add(Record(state.partition, 0, 1000, b"", b"v", (), -1), 0.0)
        assert state.seal(terms.limits, 0.0) is not None
        executor.prepare(state, 0.0)
    assert rows.begun.wait(BEHIND_S)

    began_s = time.monotonic()
    assert not executor.await_prepared(states, 1.0)
    assert not executor.await_prepared((), 0.0)
    assert time.monotonic() - began_s < BEHIND_S / 2
    threading.Timer(0.05, rows.may_end.set).start()
    assert executor.await_prepared(states, 0.1)
    job = states[0].tasks[0].job
    assert job is not None
    assert job.done()
    pools.shutdown()


def test_no_wait_begins_once_a_worker_stops(tables: dict[str, Replicas]) -> None:
    """What has not begun is cancelled, what runs is not waited for."""
    pools = Pools.of_threads(1, tables)
    jobs = [pools.waits[EVENTS].submit(tables[EVENTS].await_replicas) for _ in range(3)]
    assert tables[EVENTS].waiting.acquire(timeout=BEHIND_S)

    began_s = time.monotonic()
    pools.shutdown()

    assert time.monotonic() - began_s < BEHIND_S / 2
    assert [job.cancelled() for job in jobs] == [False, True, True]
