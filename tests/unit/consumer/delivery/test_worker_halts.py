"""What only an operator can repair halts one partition: the others go on, and it resumes by itself once repaired."""

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from consumer.delivery.ports import Block, CommittedOffset, Polled
from consumer.errors import Fatal, Halt, HaltCode
from tests.support.consumer_fakes import PLACE, Around, Process, get_on
from tests.support.fake_group import FakeBroker, FakeLog
from tests.support.fake_table import FakeTable, value


class TroubledTable(FakeTable):
    """Refuses all inserts of partition 0 with an error, until it is told otherwise."""

    def __init__(self, trouble: Callable[[], Exception]) -> None:
        super().__init__(100)
        self.trouble: Callable[[], Exception] | None = trouble
        self.tries = 0

    def insert(self, block: Block) -> None:
        """Insert, or raise."""
        if self.trouble is not None and block.token.split("/")[3] == "0":
            self.tries += 1
            raise self.trouble()
        super().insert(block)


def table_is_gone() -> Exception:
    """Return what an insert hears whose table is gone."""
    return Halt("ClickHouse 60 UNKNOWN_TABLE; run `python -m consumer migrate`", HaltCode.TABLE)


def started(trouble: Callable[[], Exception]) -> tuple[Around, TroubledTable, Process]:
    """Start a worker of two partitions whose table is troubled; each has four records."""
    around, table = Around(), TroubledTable(trouble)
    around.broker, around.table = FakeBroker(2), table
    for number in (0, 1):
        around.broker.produce(number, [value()] * 4)
    return around, table, around.process()


def partitions_in(table: FakeTable) -> set[str]:
    """Return the partitions that have rows."""
    return {key.split("/")[1] for key in table.rows}


@pytest.mark.parametrize("trouble", [table_is_gone, lambda: RecursionError("deep"), lambda: KeyError("x"), MemoryError])
def test_a_step_that_cannot_succeed_halts_its_partition_alone(trouble: Callable[[], Exception]) -> None:
    """Foreseen or not: the process works on, and the partition goes on when the cause is gone."""
    around, table, process = started(trouble)
    get_on(around, process, 40)
    halts = [state.halt for state in process.worker.owned.values() if state.halt]

    assert partitions_in(table) == {"1"}
    assert [(halt.partition.number, halt.offset) for halt in halts] == [(0, 0)]
    assert process.metrics.levels["partitions/halted"] == 1
    table.trouble = None
    get_on(around, process, 200)
    assert around.rows_of() == dict.fromkeys(range(4), 2)  # of both partitions
    assert process.metrics.levels["partitions/halted"] == 0


def test_a_halted_partition_is_tried_seldom_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """An operator repairs it, so the log has one line with what to do and where, and one more each ten minutes."""
    around, table, process = started(table_is_gone)
    with caplog.at_level(logging.ERROR):
        get_on(around, process, 800)
    lines = [record for record in caplog.records if "halted" in record.message]

    assert [record.message for record in lines] == [
        "partition halted: ClickHouse 60 UNKNOWN_TABLE; run `python -m consumer migrate`"
    ]
    assert (lines[0].__dict__["topic"], lines[0].__dict__["partition"], lines[0].__dict__["offset"]) == ("events", 0, 0)
    assert 5 < table.tries < 30
    with caplog.at_level(logging.ERROR):
        get_on(around, process, 800)
    assert [record.message.partition(":")[0] for record in caplog.records if "halted" in record.message] == [
        "partition halted",
        "partition still halted",
    ]


def test_what_concerns_the_whole_process_ends_it() -> None:
    """A password that is wrong is wrong for all partitions, and a restart reads its file again."""
    around, table, process = started(lambda: Fatal("ClickHouse 516 AUTHENTICATION_FAILED"))
    with pytest.raises(Fatal, match="516"):
        get_on(around, process, 40)
    assert table.tries


def test_a_mark_that_the_group_refuses_halts_its_partition() -> None:
    """A right that was taken away, or metadata that is too long: the others commit on."""
    around = Around()
    around.broker = FakeBroker(2)
    process = around.process()
    commit, is_denied = around.broker.commit, True

    def deny_the_first(member: FakeLog, place: object, mark: CommittedOffset) -> object:
        if is_denied and getattr(place, "number", None) == 0:
            return Halt("TOPIC_AUTHORIZATION_FAILED", HaltCode.DENIED)
        return commit(member, place, mark)  # type: ignore[arg-type]  # a Partition

    around.broker.commit = deny_the_first  # type: ignore[method-assign,assignment]  # the broker's fault, not a mock of ours
    for number in (0, 1):
        around.broker.produce(number, [value()] * 4)
    get_on(around, process, 20)

    assert partitions_in(around.table) == {"1"}
    assert process.metrics.counts["halts/denied"] > 0
    is_denied = False
    get_on(around, process, 200)
    assert around.rows_of() == dict.fromkeys(range(4), 2)
    assert not any(state.halt for state in process.worker.owned.values())


def test_a_stop_does_not_wait_for_a_halted_partition() -> None:
    """Its intent covers what it took; the others are drained."""
    around, table, process = started(table_is_gone)
    get_on(around, process, 10)
    around.broker.produce(1, [value()] * 4)
    process.step()
    process.pool.is_immediate = True
    around.clock.tick_s = 0.01
    began_s = around.clock.now_s

    assert not process.worker.drain(began_s + 100)
    assert around.clock.now_s < began_s + 20
    assert len(table.rows) == process.metrics.counts["records/events/1/read"] > 4


def test_bytes_that_no_client_can_read_halt_their_partition(caplog: pytest.LogCaptureFixture) -> None:
    """A batch that can't be decompressed comes again and again: said once, with its offset; others go on."""
    around = Around()
    around.broker = FakeBroker(2)
    process = around.process()
    process.log.unreadable = {PLACE: "offset 17: _BAD_COMPRESSION: Local: Invalid compressed data"}
    for number in (0, 1):
        around.broker.produce(number, [value()] * 4)
    get_on(around, process, 40)

    assert partitions_in(around.table) == {"1"}
    assert process.metrics.levels["partitions/halted"] == 1
    (line,) = [record.message for record in caplog.records if "halted" in record.message]
    assert "offset 17: _BAD_COMPRESSION" in line
    assert "set the group's offset" in line
    process.log.unreadable = {}
    get_on(around, process, 20)
    assert around.rows_of() == dict.fromkeys(range(4), 2)
    assert process.metrics.levels["partitions/halted"] == 0


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_partition_that_may_not_be_read_halts_alone_and_goes_on_by_itself(is_idle: bool) -> None:  # noqa: FBT001  (a case)
    """The client says once that the right is gone, and nothing when it is back and no record has come."""
    around = Around()
    around.broker = FakeBroker(2)
    process = around.process()
    for number in (0, 1):
        around.broker.produce(number, [value()] * 4)
    get_on(around, process)
    process.log.denied = {PLACE}
    around.broker.produce(1, [value()] * 4)
    get_on(around, process)
    halts = [state.halt for state in process.worker.owned.values() if state.halt]
    assert [(halt.partition, halt.code, halt.why) for halt in halts] == [(PLACE, "denied", "may not be read")]
    assert sum(around.rows_of().values()) == 12

    process.log.denied = set()
    around.broker.produce(0, [] if is_idle else [value()])
    get_on(around, process, 60)
    assert not any(state.halt for state in process.worker.owned.values())
    assert sum(around.rows_of().values()) == 12 + (not is_idle)


def test_a_denial_holds_though_the_records_before_it_came_in_the_same_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last fetch brought records and the log's end, the next one is refused; a client says so once."""
    around = Around()
    process = around.process()
    around.produce(value())
    poll, denials = process.log.poll, [{PLACE: "may not be read"}]

    def with_denial(timeout_s: float) -> Polled:
        polled = poll(timeout_s)
        if not polled.ends or not denials:
            return polled
        process.log.denied = {PLACE}
        process.log._told[PLACE]["denied"] = 1  # noqa: SLF001  (it says so here)
        return replace(polled, denied=denials.pop())

    monkeypatch.setattr(process.log, "poll", with_denial)
    get_on(around, process, 4)
    assert [state.halt.why for state in process.worker.owned.values() if state.halt] == ["may not be read"]
    process.log.denied = set()
    around.produce(value())
    get_on(around, process, 40)

    assert around.rows_of() == {0: 1, 1: 1}
    assert not [state.halt for state in process.worker.owned.values() if state.halt]
