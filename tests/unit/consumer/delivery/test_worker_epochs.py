"""Logs that are cut, groups that lose their offsets, and second readings: halts that say so, and how it goes on."""

import pytest

from consumer.delivery.halting import Halted
from consumer.delivery.intent import Intent, Origin, decode
from consumer.delivery.ports import CommittedOffset, Record
from consumer.errors import HaltCode
from tests.support.consumer_fakes import PLACE, Around, Process, until_begun
from tests.support.consumer_fakes import get_on as get_on_for
from tests.support.fake_group import FakeBroker, PartitionLog
from tests.support.fake_operator import reprocessed, resumed
from tests.support.fake_table import InsertFault, value


def get_on(around: Around, process: Process) -> None:
    """Let a worker take turns until nothing is left to do."""
    get_on_for(around, process, 60)


@pytest.fixture
def around() -> Around:
    """One partition with thirty records, all of which a worker has inserted and committed."""
    made = Around()
    made.produce(*[value()] * 30)
    get_on(made, process := made.process())
    stop(made, process)
    return made


def stop(around: Around, process: Process) -> None:
    """Stop a worker in order."""
    process.pool.is_immediate = True
    process.worker.drain(around.clock.now_s + 5)
    process.log.leave()


def halt_of(process: Process) -> Halted | None:
    """Return why the partition stands."""
    return process.worker.owned[PLACE].halt


def rows_of(around: Around, epoch: int = 0, reading: int = 0) -> set[int]:
    """Return the offsets whose records of an epoch are rows of a reading; each must be there once."""
    found = set()
    for key, count in around.table.rows.items():
        assert count == 1, key
        record, _, number = key.partition("#")
        place, _, its = record.partition("@")
        if (int(its or 0), int(number or 0)) == (epoch, reading):
            found.add(int(place.rpartition("/")[2]))
    return found


def test_a_log_that_was_cut_and_grew_again_halts_and_goes_on_with_all_that_is_new(around: Around) -> None:
    """The case that lost ten of fifteen events: the log ends at 20 again, and then fifteen come."""
    around.broker.cut(0, 20)
    around.produce(*[value()] * 15)
    get_on(around, process := around.process())

    halt = halt_of(process)
    assert halt is not None
    assert halt.code is HaltCode.TRUNCATED
    assert "events/0 is halted at offset 30: the log was cut" in halt.sentence
    assert around.mark.offset == 30
    stop(around, process)
    plan = resumed(around.broker, around.table)
    assert "rows up to offset 29 stay, from offset 20 on the log has other records now" in plan.why
    get_on(around, process := around.process())

    assert halt_of(process) is None
    assert rows_of(around) == set(range(30))
    assert rows_of(around, epoch=1, reading=1) == set(range(20, 35))
    assert around.mark.offset == 35


def test_a_log_that_was_cut_and_did_not_grow_halts_too(around: Around) -> None:
    """Later records would come under offsets that were read."""
    around.broker.cut(0, 20)
    get_on(around, process := around.process())

    halt = halt_of(process)
    assert halt is not None
    assert "cut at or below offset 20" in halt.why
    stop(around, process)
    resumed(around.broker, around.table)
    get_on(around, process := around.process())
    around.produce(*[value()] * 5)
    get_on(around, process)
    assert rows_of(around, epoch=1, reading=1) == set(range(20, 25))


def test_a_cut_under_a_working_worker_halts_its_partition_alone() -> None:
    """What it has taken is inserted and committed; the other partition goes on."""
    around = Around()
    around.broker = FakeBroker(2)
    process = around.process()
    for number in (0, 1):
        around.broker.produce(number, [value()] * 10)
    get_on(around, process)
    around.broker.cut(0, 6)
    for number in (0, 1):
        around.broker.produce(number, [value()] * 10)
    get_on(around, process)

    assert halt_of(process) is not None
    assert process.metrics.levels["partitions/halted"] == 1
    assert around.mark.offset == 10
    assert sum("/1/" in key for key in around.table.rows) == 20


def test_a_replica_with_a_tail_of_its_own_is_found_out_though_it_is_as_long() -> None:
    """Behind two unclean elections lengths agree, and records do not: comparing epochs by their ends finds nothing."""
    around = Around()
    around.produce(*[value()] * 10)
    former = PartitionLog(dict(around.broker.logs[PLACE].records), end=10)
    away = FakeBroker(1)
    away.logs[PLACE] = former
    away.incarnation = around.broker.incarnation
    away.produce(0, [value()] * 20)  # what the former leader took alone
    around.broker.elect(0)
    around.produce(*[value()] * 20)
    process = around.process()
    get_on(around, process)
    assert rows_of(around, epoch=1) == set(range(10, 30))

    around.broker.swap(0, former)
    around.produce(*[value()] * 5)
    get_on(around, process)
    assert halt_of(process) is not None
    stop(around, process)
    resumed(around.broker, around.table)
    get_on(around, around.process())

    assert rows_of(around, epoch=0) == set(range(10))
    assert rows_of(around, epoch=0, reading=1) == set(range(10, 30))
    assert rows_of(around, epoch=2, reading=1) == set(range(30, 35))


def test_elections_that_lose_nothing_halt_nothing(around: Around) -> None:
    """Before, while and after it works."""
    around.broker.elect(0)
    process = around.process()
    for _ in range(3):
        around.produce(*[value()] * 5)
        around.broker.refuses_seeks = True
        get_on_for(around, process, 3)
        around.broker.refuses_seeks = False
        get_on(around, process)
        around.broker.elect(0)
    stop(around, process)
    get_on(around, process := around.process())

    assert halt_of(process) is None
    assert sum(around.table.rows.values()) == 45


def test_a_promised_range_that_was_cut_is_neither_repeated_nor_lost() -> None:
    """Four of its records are gone from the log; the other two are inserted, with all that is new."""
    around = Around()
    around.produce(*[value()] * 4)
    until_begun(around.process())  # the intent is out, the insert never begins
    around.broker.remove(around.broker.members[0])
    around.broker.cut(0, 2)
    around.produce(*[value()] * 6)
    get_on(around, process := around.process())
    halt = halt_of(process)
    assert halt is not None
    assert not around.table.rows
    stop(around, process)
    resumed(around.broker, around.table)
    get_on(around, around.process())

    assert rows_of(around, epoch=0, reading=1) == {0, 1}
    assert rows_of(around, epoch=1, reading=1) == set(range(2, 8))


def test_a_promised_range_that_is_in_the_tables_is_not_inserted_again() -> None:
    """The worker died before it heard, and then the log was cut."""
    around = Around()
    around.produce(*[value()] * 4)
    dead = around.process()
    until_begun(dead)
    dead.pool.finish_all()
    around.broker.remove(around.broker.members[0])
    around.broker.cut(0, 2)
    around.produce(*[value()] * 6)
    resumed(around.broker, around.table)
    get_on(around, around.process())

    assert rows_of(around) == set(range(4))
    assert rows_of(around, epoch=1, reading=1) == set(range(2, 8))


@pytest.mark.parametrize("lost", [None, CommittedOffset(0, ""), CommittedOffset(12, "")])
def test_a_group_that_lost_its_offset_doubles_nothing(around: Around, lost: CommittedOffset | None) -> None:
    """They expired, or a person set them back: nothing is inserted before somebody says what is meant."""
    if lost is None:
        around.broker.marks.clear()
    else:
        around.broker.marks[PLACE] = lost
    get_on(around, process := around.process())

    halt = halt_of(process)
    assert halt is not None
    assert halt.code is HaltCode.ALREADY_READ
    assert "the tables hold its offsets up to 29" in halt.why
    assert rows_of(around) == set(range(30))
    stop(around, process)
    around.produce(*[value()] * 3)
    resumed(around.broker, around.table)
    get_on(around, around.process())
    assert rows_of(around) == set(range(30))
    assert rows_of(around, reading=1) == {30, 31, 32}


def test_a_group_that_lost_its_offset_may_read_again_on_purpose(around: Around) -> None:
    """All rows come, under other tokens."""
    around.broker.marks.clear()
    reprocessed(around.broker, around.table, 0)
    get_on(around, around.process())

    assert rows_of(around, reading=1) == set(range(30))


def test_a_second_reading_of_a_range_goes_back_to_where_the_group_was(around: Around) -> None:
    """Rows of the range come again; what is new comes once, as of the first reading."""
    around.produce(*[value()] * 3)
    reprocessed(around.broker, around.table, 5, 15)
    process = around.process()
    get_on(around, process)
    around.produce(*[value()] * 2)
    get_on(around, process)

    assert rows_of(around, reading=1) == set(range(5, 15))
    assert rows_of(around) == set(range(35))
    intent = decode(around.mark.metadata)
    assert (around.mark.offset, intent) == (35, Intent("id-1", 35, 35, leader_epoch=0, cluster_id="cluster"))


def test_a_second_reading_survives_its_worker(around: Around) -> None:
    """Killed in the middle: the next one ends it, and each row of it is there once."""
    reprocessed(around.broker, around.table, 5, 15)
    process = around.process()
    until_begun(process)
    process.pool.finish_all()
    around.broker.remove(process.log)
    get_on(around, around.process())

    assert rows_of(around, reading=1) == set(range(5, 15))
    assert rows_of(around) == set(range(30))
    assert around.mark.offset == 30


def test_readings_are_never_numbered_twice(around: Around) -> None:
    """A third reading of the same offsets brings its rows too."""
    for _ in range(2):
        reprocessed(around.broker, around.table, 5, 9)
        process = around.process()
        get_on(around, process)
        stop(around, process)

    assert rows_of(around, reading=1) == rows_of(around, reading=2) == set(range(5, 9))


def test_a_range_of_the_release_before_is_repeated_under_its_own_token() -> None:
    """Its worker died behind the insert: under another token the range would be there twice."""
    around = Around()
    around.produce(*[value()] * 4)
    around.broker.marks[PLACE] = CommittedOffset(0, "1|id-1|0|4|")
    keys = [f"id-1/0/{offset}".encode() for offset in range(4)]
    rows = [Record(PLACE, offset, 0, key, value()) for offset, key in enumerate(keys)]
    (block,) = around.rows.blocks(rows, Origin("id-1"), "cluster/id-1/0/0/4")
    around.table.apply(block)
    get_on(around, around.process())

    assert around.rows_of() == dict.fromkeys(range(4), 1)
    assert around.intent == Intent("id-1", 4, 4, leader_epoch=0)


def test_a_broker_that_keeps_no_intents_is_believed() -> None:
    """A crash behind an insert doubles that batch there, as the start says; nothing halts."""
    around = Around()
    around.broker = FakeBroker(1, keeps_metadata=False)
    around.produce(*[value()] * 4)
    dead = around.process()
    until_begun(dead)
    dead.pool.finish_all()
    around.broker.remove(dead.log)
    around.produce(value())
    get_on(around, process := around.process())

    assert halt_of(process) is None
    assert set(around.rows_of()) == set(range(5))


@pytest.mark.parametrize("fault", [InsertFault.TORN, InsertFault.VIEW_TORN])
def test_a_log_that_was_cut_behind_a_torn_insert_loses_nothing_that_it_has(fault: InsertFault) -> None:
    """A dying server lost the rows, or their count, and nobody can repeat their range: they come in another reading."""
    around = Around()
    around.produce(*[value()] * 4)
    around.table.faults.append(fault)
    until_begun(dead := around.process())
    dead.pool.finish_all()
    around.broker.remove(dead.log)
    around.broker.cut(0, 2)
    around.produce(*[value()] * 6)
    get_on(around, process := around.process())
    halt = halt_of(process)
    assert halt is not None
    stop(around, process)
    resumed(around.broker, around.table)
    get_on(around, around.process())

    assert rows_of(around) == (set() if fault is InsertFault.TORN else set(range(4)))
    assert rows_of(around, reading=1) == {0, 1}
    assert rows_of(around, epoch=1, reading=1) == set(range(2, 8))
    assert around.table.offsets(PLACE, "id-1", 1) == set(range(8))


def test_a_log_that_was_cut_and_has_nothing_left_of_what_was_read_goes_on(around: Around) -> None:
    """Retention has deleted what could be compared; the leader still tells of the cut, and so the partition halts."""
    around.broker.cut(0, 0)
    around.produce(*[value()] * 10)
    around.broker.delete_below(0, 10)
    around.broker.produce(0, [value()], gap=25)
    get_on(around, process := around.process())
    halt = halt_of(process)
    assert halt is not None
    assert halt.code is HaltCode.TRUNCATED
    stop(around, process)

    assert "nothing that was read below offset 30 is left" in resumed(around.broker, around.table).why
    get_on(around, process := around.process())

    assert halt_of(process) is None
    assert rows_of(around, epoch=1, reading=1) == {35}


@pytest.mark.parametrize(("wait_s", "is_halted"), [(5.0, True), (61.0, False)])
def test_a_log_that_lacks_the_next_offset_is_asked_once_more(around: Around, wait_s: float, is_halted: bool) -> None:  # noqa: FBT001  (a case)
    """Then the partition halts: asking on and on would hold up the group. A later rebalance is another question.

    A follower that has become the leader may lack it for a moment; here nobody lists ends, or compares epochs.
    """
    around.broker.tells_ends, around.broker.compares_epochs = False, False
    log, process = around.broker.logs[PLACE], around.process()
    get_on(around, process)
    last, log.end = log.records.pop(29), 29
    get_on_for(around, process, 4)
    halt = halt_of(process)
    assert halt is not None
    assert "its log lacks the next offset" in halt.why

    log.records[29], log.end = last, 30
    around.clock.now_s += wait_s
    process.log.rejoin()
    around.produce(value())
    get_on_for(around, process, 40)

    assert (halt_of(process) is not None) is is_halted
    assert (30 in rows_of(around)) is not is_halted


def test_records_that_are_deleted_under_a_reader_are_called_deleted(around: Around) -> None:
    """The client only says that the next offset is not there; at the next assignment the oldest offset says why."""
    get_on(around, process := around.process())
    around.produce(*[value()] * 10)
    around.broker.delete_below(0, 40)
    get_on(around, process)

    halt = halt_of(process)
    assert halt is not None
    assert halt.code is HaltCode.DELETED
    assert "records up to offset 40 were deleted before they were read" in halt.why
    stop(around, process)
    resumed(around.broker, around.table)
    around.produce(value())
    get_on(around, process := around.process())
    assert halt_of(process) is None
    assert rows_of(around, reading=1) == {40}
