"""Replicas are waited for where rows could otherwise look lost, and nowhere else."""

import itertools
import time
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from typing import Any, Self, cast

import pytest

from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import SINGLE, Layout
from consumer.clickhouse.offsets import OffsetsTable
from consumer.clickhouse.replication import Replicas, synced
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block, Partition, Record
from consumer.delivery.repeats import Held
from consumer.errors import Cause, Denied, Transient
from consumer.operations.audit import Auditor
from consumer.operations.runs import Runs
from consumer.operations.spans import Finding, Span

PLACE = Partition("events", 0)
BLOCK = Block(1, Origin("id"), "token", (3, 4), b"")
CLUSTER = Layout("c", is_replicated=True)
SYNC = "SYSTEM SYNC REPLICA {}d.{} LIGHTWEIGHT"


class Replica:
    """A server whose tables may be Replicated; it has rows once it was waited for."""

    database, timeout_s = "d", 60.0

    def __init__(self, layout: Layout = SINGLE, engine: str = "Replicated", fault: Exception | None = None) -> None:
        self.layout, self.is_replicated, self.fault = layout, engine == "Replicated", fault
        self.waited: list[str] = []
        self.settings: list[dict[str, Any]] = []
        self.is_pinned = False

    def sticky(self) -> Self:
        """Stay at one server."""
        self.is_pinned = True
        return self

    def command(self, statement: str, *, settings: dict[str, Any]) -> None:
        """Wait for a replica."""
        if self.fault is not None:
            raise self.fault
        assert self.is_pinned or self.layout.cluster
        self.waited.append(statement)
        self.settings.append(settings)

    def query(self, query: str, parameters: dict[str, Any], **_: object) -> list[dict[str, Any]]:
        """Answer as a table that has got its rows just now, or never."""
        if "absolute_delay" in query:
            return [{"host": "r2", "port": 9000, "delay_s": 11, "entries": 3}]
        if "startsWith(engine" in query:
            return [{"name": name} for name in sorted(parameters["tables"]) if self.is_replicated]
        if "is_old" in query:
            return [{"offset": 3, "is_old": 1}] if self.waited else []
        return []


def held(replica: Replica, timestamp_ms: int) -> Held:
    """Wait for replicas if need be, and ask what is there of a block of this age."""
    table = OffsetsTable(cast("Connection", replica), {"events": "events"}, 570)
    records = [Record(PLACE, offset, timestamp_ms, b"", b"") for offset in (3, 4)]
    table.await_replicas(records, time.monotonic(), always=False)
    return table.held(PLACE, BLOCK, records)


@pytest.mark.parametrize(("layout", "where"), [(SINGLE, ""), (CLUSTER, "ON CLUSTER 'c' ")])
def test_before_old_rows_are_inserted_again_their_replicas_are_waited_for(layout: Layout, where: str) -> None:
    """The token may be forgotten, and a replica that lags would look empty."""
    replica = Replica(layout)

    assert held(replica, 1_700_000_000_000) == Held(frozenset({3}), is_remembered=False)
    assert sorted(replica.waited) == [SYNC.format(where, table) for table in ("erased_rows", "events", "offsets")]


def test_young_rows_wait_for_no_replica() -> None:
    """Their token is known: whatever a replica lacks, the repeat is dropped."""
    replica = Replica()

    assert held(replica, time.time_ns() // 1_000_000) == Held()
    assert not replica.waited


@pytest.mark.parametrize("layout", [SINGLE, Layout("c")])
def test_plain_tables_are_not_waited_for(layout: Layout) -> None:
    """There is nothing to wait for, and ClickHouse would refuse the statement."""
    replica = Replica(layout, engine="MergeTree")

    assert synced(cast("Connection", replica), "events") is None
    assert held(replica, -1) == Held()
    assert not replica.waited


def test_a_replica_that_does_not_catch_up_is_told_and_waited_for_again() -> None:
    """Which one and where to look is in the sentence; a right that is missing is another matter."""
    says = r"a replica of d.events does not have yet .*\(r2:9000 is 11 s behind, with 3 .*replication_queue.*: code 159"
    with pytest.raises(Transient, match=says) as late:
        synced(cast("Connection", Replica(fault=Transient("code 159", Cause.UNKNOWN))), "events")
    assert late.value.cause is Cause.REPLICA
    with pytest.raises(Denied):
        synced(cast("Connection", Replica(fault=Denied("no right"))), "events")


def test_the_server_gives_up_waiting_before_its_client_does() -> None:
    """Of a cluster only replicas that run are waited for: nobody reads the others."""
    alone, cluster = Replica(), Replica(CLUSTER)
    for replica in (alone, cluster):
        synced(cast("Connection", replica), "events")

    assert alone.settings == [{"receive_timeout": 54}]
    mode = {"distributed_ddl_output_mode": "none_only_active", "distributed_ddl_task_timeout": 54}
    assert cluster.settings == [{"receive_timeout": 54} | mode]


class Behind(Replica):
    """A replica that is always so far behind that it catches up only in so much time."""

    def __init__(self, needs_s: float) -> None:
        super().__init__()
        self.needs_s, self.timeouts = needs_s, list[float]()

    def patient(self, timeout_s: float) -> Self:
        """Wait for longer."""
        other = copy(self)
        other.timeout_s = timeout_s
        return other

    def close(self) -> None:
        """End."""

    def command(self, statement: str, *, settings: dict[str, Any]) -> None:
        """Wait for as long as asked."""
        self.timeouts.append(self.timeout_s)
        if settings["receive_timeout"] < self.needs_s:
            raise Transient("code 159", Cause.UNKNOWN)
        super().command(statement, settings=settings)


def replicas(replica: Replica, clock: Iterator[float]) -> Replicas:
    """Return the replicas of one table, over a server."""
    return Replicas(cast("Connection", replica), "events", now_s=clock.__next__)


def test_one_wait_serves_all_who_asked_before_it_began() -> None:
    """As many partitions as are repeated; who asks while it goes on may miss rows, and waits for another one."""
    replica = Replica()
    waiting = replicas(replica, iter([10.0, 20.0]))
    for asked_s in (8.0, 9.0, 7.0):
        waiting.wait(asked_s)
    assert len(replica.waited) == 1

    waiting.wait(11.0)
    waiting.wait(10.5)
    assert len(replica.waited) == 2


def test_a_failed_wait_is_told_to_all_who_asked_before_it_began() -> None:
    """Else a partition after the other would spend the whole time with it."""
    replica = Behind(70)
    waiting = replicas(replica, iter([10.0, 20.0]))
    for _ in range(3):
        with pytest.raises(Transient, match="r2:9000 is 11 s behind"):
            waiting.wait(9.0)
    assert replica.timeouts == [60.0]


@pytest.mark.parametrize("needs_s", [1, 70, 200, 400])
def test_a_replica_that_is_always_as_far_behind_is_caught_up_with(needs_s: float) -> None:
    """A wait of a fixed length would never end: what came meanwhile takes the same time."""
    replica = Behind(needs_s)
    waiting = replicas(replica, itertools.count(10.0))
    for tries in range(1, 6):
        with suppress(Transient):
            waiting.wait(10.0 * tries)
            break

    assert waiting.reader is cast("Connection", replica)
    assert replica.timeouts == [60.0 * 2**number for number in range(tries)]


class Slow(Behind):
    """A replica that takes as long for each of its tables as it is given, and then has what was waited for."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__(0)
        self.clock = clock

    def command(self, statement: str, *, settings: dict[str, Any]) -> None:
        """Let the time pass."""
        super().command(statement, settings=settings)
        self.clock[0] += settings["receive_timeout"]


def test_a_wait_ends_while_what_it_waited_for_is_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """All tables together: else it would begin again for ever, however quick the commit behind it."""
    clock = [1000.0]
    monkeypatch.setattr("consumer.clickhouse.replication.monotonic", lambda: clock[0])
    replica = Slow(clock)
    waiting = Replicas(cast("Connection", replica), "a", "b", "c", remembered_s=570, now_s=lambda: clock[0])
    waiting._growth = 8  # noqa: SLF001  (as after some tries that were too short)
    until_s = waiting.wait(999.0)

    assert len(replica.waited) == 3
    assert until_s == 1000 + 540
    assert clock[0] <= until_s - 30


def test_rows_that_grow_old_are_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were young when they were asked about, and their intent is committed only when tokens may be forgotten."""
    now_s = 1_800_000_000
    replica = Replica()
    table = OffsetsTable(cast("Connection", replica), {"events": "events"}, 570)
    records = [Record(PLACE, offset, now_s * 1000, b"", b"") for offset in (3, 4)]
    for age_s, left_s in ((0, 540), (500, 40), (539, 1)):
        monkeypatch.setattr(time, "time_ns", lambda: (now_s + age_s) * 10**9)  # noqa: B023  (called at once)
        assert table.known_until_s(records, 5.0) == table.await_replicas(records, 5.0, always=False) == 5.0 + left_s
        assert not replica.waited

    monkeypatch.setattr(time, "time_ns", lambda: (now_s + 541) * 10**9)
    assert table.known_until_s(records, 5.0) is None
    table.await_replicas(records, time.monotonic(), always=False)
    assert len(replica.waited) == 3


def test_nothing_is_read_of_replicas_that_were_not_waited_for() -> None:
    """Rows whose token may be forgotten could be there twice."""
    table = OffsetsTable(cast("Connection", Replica()), {"events": "events"}, 570)
    with pytest.raises(Transient, match="not waited for yet") as failure:
        table.held(PLACE, BLOCK, [Record(PLACE, offset, -1, b"", b"") for offset in (3, 4)])
    assert failure.value.cause is Cause.REPLICA


class Ledger(Replica):
    """The same; an audit finds an offset missing until it was waited for."""

    def query(self, query: str, parameters: dict[str, Any], **_: object) -> list[dict[str, Any]]:
        """Answer the audit's queries."""
        if "AS offset ORDER BY offset" in query:
            return [{"offset": 3}]
        if "covered FROM" in query:
            counts = dict.fromkeys(("million", "letters", "both"), 0)
            there = 4 if self.waited else 3
            return [counts | {"rows": there, "offsets": there, "covered": there}]
        return super().query(query, parameters)


@pytest.mark.parametrize(("engine", "missing"), [("Replicated", 0), ("MergeTree", 1)])
def test_an_audit_waits_for_replicas_before_it_says_that_something_is_missing(engine: str, missing: int) -> None:
    """A replica that lagged has it; of plain tables there is no other one."""
    ledger = Ledger(engine=engine)
    auditor = Auditor(cast("Connection", ledger), {"events": "events", "dead": "dead_letters"}, None)

    assert auditor.audit(Span(PLACE, "id", 0, 4)).missing.count == missing
    names = ("dead_letter_origins", "dead_letters", "events", "offsets")
    assert sorted(ledger.waited) == [SYNC.format("", name) for name in names] * (not missing)


def test_an_audit_without_faults_waits_for_nobody() -> None:
    """It costs nothing where all is there."""
    ledger = Ledger()
    auditor = Auditor(cast("Connection", ledger), {"events": "events"}, None)

    assert auditor.audit(Span(PLACE, "id", 0, 3)).is_clean
    assert not ledger.waited


class Uncounted(Ledger):
    """The same; what it lacks are counts, and the rows are there."""

    def query(self, query: str, parameters: dict[str, Any], **_: object) -> list[dict[str, Any]]:
        """Show the row that no view has counted."""
        if "AS uncounted" in query:
            return [] if self.waited else [{"million": 0, "uncounted": 1}]
        return super().query(query, parameters)


def test_counts_that_a_replica_lacks_are_not_uncounted() -> None:
    """To count them again would count them twice."""
    auditor = Auditor(cast("Connection", Uncounted()), {"events": "events"}, None)

    assert auditor.audit(Span(PLACE, "id", 0, 4)).is_clean


class Recounted(Uncounted):
    """The same, and nobody else counts."""

    def query(self, query: str, parameters: dict[str, Any], **_: object) -> list[dict[str, Any]]:
        """Tell that no other run is there."""
        return [{"n": 0}] if "system.processes" in query else super().query(query, parameters)

    def command(self, statement: str, *_: object, settings: dict[str, Any]) -> None:
        """Note the first word."""
        super().command(statement.split(maxsplit=1)[0], settings=settings)


def test_what_is_counted_again_is_looked_for_where_replicas_have_caught_up() -> None:
    """One that has fetched rows, but not their counts, would add them a second time."""
    replica = Recounted()
    auditor = Auditor(cast("Connection", replica), {"events": "events"}, None)
    finding = Finding(Span(PLACE, "id", 0, 4), 3, 3, 0, uncounted=Runs([3]))

    assert auditor.recount(finding, lambda _: None).is_clean
    assert replica.waited == ["SYSTEM"] * 3 + ["INSERT"]
