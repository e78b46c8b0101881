"""A replica that lags holds up what it must, and nothing else: before a batch is repeated, outside its fence."""

import math

import pytest

from consumer.clickhouse.client import Connection
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.layout import Layout
from consumer.clickhouse.replication import Replicas
from consumer.delivery.balance import balance
from consumer.delivery.ports import CommittedOffset
from consumer.delivery.reading import Intake
from consumer.delivery.task import Stage
from consumer.errors import Denied, HaltCode
from consumer.health import HealthMonitor
from tests.support.consumer_fakes import PLACE, Around, Process, get_on, until_begun
from tests.support.fake_group import FakeBroker
from tests.support.fake_table import FakeTable, InsertFault, value
from tests.support.states import feed, opened

PLAIN = Connection("http://nobody:8123", "", "", "d", 60.0, layout=Layout("c"))  # plain tables are not asked
ONCE = dict.fromkeys(range(4), 1)


class Waiting(Process):
    """A worker whose waits for replicas run apart."""

    replicas_wait = True


@pytest.fixture
def around() -> Around:
    """One partition."""
    return Around()


def inherited(around: Around, kind: type[Process] = Process) -> Process:
    """Let a worker die in an insert; return its successor, which has read the range."""
    around.produce(*[value()] * 4)
    first = around.process()
    around.table.faults.append(InsertFault.ANSWER_LOST)
    until_begun(first)
    first.pool.finish_all()
    around.broker.remove(first.log)
    return around.process(kind)


def until_awaiting(process: Process) -> None:
    """Make turns until replicas are being waited for."""
    for _ in range(10):
        process.worker.turn()
        if any(task.stage is Stage.AWAITING for state in process.worker.states.values() for task in state.tasks):
            return
        process.pool.finish_all()
    raise AssertionError("no wait began")


def test_a_batch_that_was_never_sent_waits_for_no_replica(around: Around) -> None:
    """It costs nothing on the way of an event."""
    around.produce(*[value()] * 4)
    get_on(around, around.process())

    assert around.rows_of() == ONCE
    assert not around.table.waits


def test_replicas_are_waited_for_before_the_intent_is_committed_again(around: Around) -> None:
    """However long that takes: the intent's time begins behind it."""
    process = inherited(around, Waiting)
    until_awaiting(process)
    commits: list[CommittedOffset] = []
    around.broker.watchers.append(lambda _, mark: commits.append(mark))
    for _ in range(5):
        around.clock.now_s += 40
        process.worker.turn()
    assert not commits
    assert not process.pool.jobs

    process.waiters.finish_all()
    get_on(around, process)
    assert around.rows_of() == ONCE
    assert process.metrics.counts["retries/insert/busy"] == 0


def test_what_replicas_had_long_ago_is_not_enough(around: Around) -> None:
    """The brokers were away after the wait: what another worker has inserted meanwhile may be on one replica."""
    process = inherited(around, Waiting)
    until_awaiting(process)
    process.waiters.finish_all()
    around.broker.is_away = True
    for _ in range(3):
        process.worker.turn()
    around.clock.now_s += around.table.known_s + 10
    around.broker.is_away = False
    process.worker.turn()
    around.clock.now_s += 1
    until_awaiting(process)

    assert len(around.table.waits) == 1
    process.waiters.finish_all()
    assert len(around.table.waits) == 2


def with_slow_commits(around: Around, process: Process, turns: int = 40) -> None:
    """Let a worker take turns; the broker answers each commit after 40 s."""
    for _ in range(turns):
        process.step()
        around.clock.now_s += 40 if process.log.sent else 0.5


@pytest.mark.parametrize("timeout_s", [60.0, 20.0])
def test_a_repeated_batch_gets_on_though_every_commit_takes_long(around: Around, timeout_s: float) -> None:
    """What replicas may lack by then has a token that tables know for much longer."""
    pace = InsertPace(partitions=1, age_s=1.0, timeout_s=timeout_s, session_s=30.0)
    process = inherited(around)
    around.table.known_s = Replicas(PLAIN, "events", remembered_s=pace.late_s, now_s=lambda: 0.0).wait(-1.0)
    with_slow_commits(around, process)

    assert around.rows_of() == ONCE
    assert around.mark.offset == 4
    assert process.metrics.counts["retries/await/busy"] == 0


def test_a_commit_that_comes_too_late_is_told(around: Around, caplog: pytest.LogCaptureFixture) -> None:
    """By the log, the metrics and the health page; the batch goes on once the broker is quicker."""
    process = inherited(around)
    monitor = HealthMonitor(1e9, around.clock)
    with_slow_commits(around, process)
    assert around.rows_of() == ONCE  # the predecessor's
    assert around.mark.offset == 0
    monitor.turned(process.worker.owned, lambda _: 4)
    assert monitor.verdict().name == "retrying"
    assert f"{PLACE.topic}/0: the broker took so long to commit its intent" in monitor.verdict().detail
    assert process.metrics.counts["retries/await/busy"] > 1
    assert "will try again" in caplog.messages

    get_on(around, process, 60)
    assert around.rows_of() == ONCE
    assert around.mark.offset == 4
    monitor.turned(process.worker.owned, lambda _: 4)
    assert monitor.verdict().name == "idle"


def test_a_replica_that_lags_is_named_and_waited_for_until_it_has_caught_up(around: Around) -> None:
    """By the log, the metrics and the health page; the partition goes on by itself."""
    around.table.is_stuck = True
    process = inherited(around)
    monitor = HealthMonitor(1e9, around.clock)
    get_on(around, process)
    monitor.turned(process.worker.owned, lambda _: 4)
    assert monitor.verdict().name == "retrying"
    assert f"{PLACE.topic}/0: replica r2 lags" in monitor.verdict().detail
    assert process.metrics.counts["retries/await/replica"] > 1

    around.table.is_stuck = False
    get_on(around, process)
    assert around.rows_of() == ONCE
    monitor.turned(process.worker.owned, lambda _: 4)
    assert monitor.verdict().name == "idle"


@pytest.mark.parametrize("kind", [Waiting, Process])
def test_a_batch_that_is_repeated_slowly_is_no_reason_to_restart(around: Around, kind: type[Process]) -> None:
    """Nothing has failed yet; a restart would begin from the start, and so would the next one."""
    process = inherited(around, kind)
    until_awaiting(process) if kind is Waiting else until_begun(process)
    monitor = HealthMonitor(180, around.clock)
    for _ in range(10):
        monitor.turned(process.worker.owned, lambda _: 4)
        around.clock.now_s += 40
        process.worker.turn()

    assert monitor.verdict().name == "retrying"
    assert f"{PLACE.topic}/0: what an earlier try may have inserted is looked for" in monitor.verdict().detail


def test_a_batch_that_waits_for_replicas_holds_up_no_memory(around: Around) -> None:
    """Others need not wait until it is inserted: that may take minutes."""
    process = inherited(around, Waiting)
    until_awaiting(process)
    (waiting,) = process.worker.states.values()
    other = opened()
    feed(other, *range(8))
    other.intake = Intake.PAUSED

    assert balance([waiting, other], 1).squeezed is other


def test_other_partitions_go_on_meanwhile() -> None:
    """Also new batches of them."""
    around = Around()
    around.broker = FakeBroker(2)
    process = inherited(around, Waiting)
    until_awaiting(process)
    around.broker.produce(1, [value()] * 5)
    for _ in range(20):
        process.worker.turn()
        process.pool.finish_all()
        around.clock.now_s += 0.5

    assert sum(around.table.rows.values()) == 4 + 5
    assert process.waiters.jobs


def test_an_account_that_may_not_wait_halts_its_partition(around: Around) -> None:
    """With the right that it lacks; it goes on once it is given."""

    class Forbidding(FakeTable):
        denies = True

        def await_replicas(self, *_: object, **__: object) -> float:
            if self.denies:
                raise Denied("SYSTEM SYNC REPLICA")
            return math.inf

    around.table = table = Forbidding(100)
    process = inherited(around)
    get_on(around, process)
    halt = process.worker.states[PLACE].halt
    assert halt is not None
    assert (halt.code, halt.why) == (HaltCode.DENIED, "SYSTEM SYNC REPLICA")

    table.denies = False
    around.clock.now_s += 100
    get_on(around, process)
    assert process.worker.states[PLACE].halt is None
    assert around.rows_of() == ONCE


def test_rows_that_no_replica_shows_are_looked_for_once_more_and_not_sent_again(around: Around) -> None:
    """They are acknowledged: replicas are waited for, whatever the rows' age, and what is missing then is put back."""
    process = inherited(around)
    around.table.is_unseen = True
    around.table.rows.clear()  # a disk is lost, the token is not
    get_on(around, process)

    assert around.table.waits == [False, True]
    assert around.rows_of() == ONCE
    assert process.metrics.counts["retries/insert/replica"] == 1
    assert around.broker.marks[PLACE].offset == 4
