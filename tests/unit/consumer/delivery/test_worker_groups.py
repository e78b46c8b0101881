"""The worker in a group: predecessors, successors, zombies, and partitions that come and go."""

import threading

import pytest

from consumer.delivery.intent import Intent
from consumer.errors import Fatal
from tests.support.consumer_fakes import LIMITS, PLACE, Around, PatientProcess, Process, get_on, until_begun
from tests.support.fake_group import FakeBroker
from tests.support.fake_table import InsertFault, value


@pytest.fixture
def around() -> Around:
    """A table with a window of 100 tokens, and schemas 1 and 2."""
    return Around()


def one_that_has_inserted(around: Around) -> Process:
    """Return a worker whose batch of two is in the table, and that has not heard of it."""
    made = around.process()
    around.produce(value(), value())
    made.step()
    around.clock.now_s += LIMITS.age_s_max
    until_begun(made)
    made.pool.finish_all()
    return made


def test_an_expelled_worker_stops(around: Around) -> None:
    """Its next intent is refused, it gives up its partitions, and it joins again."""
    zombie = around.process()
    around.produce(*[value()] * 4)
    until_begun(zombie)
    around.broker.remove(zombie.log)
    around.table.faults.append(InsertFault.NOT_APPLIED)
    zombie.pool.finish_all()
    successor = around.process()
    get_on(around, successor)
    around.produce(*[value()] * 4)
    get_on(around, zombie)
    get_on(around, successor)

    assert around.rows_of() == dict.fromkeys(range(8), 1)


def test_a_refused_mark_ends_the_lane_and_asks_for_the_partition_anew(around: Around) -> None:
    """The worker is expelled between its poll and its commit; what it had read is another's to read."""
    process = around.process()
    around.produce(*[value()] * 4)
    process.step()
    assert process.log.sent
    around.broker.remove(process.log)
    process.log.deliver()
    around.broker.join(process.log)  # the answer comes first, the word of the loss not yet
    process.log.epoch = around.broker.epoch
    around.broker.owners[PLACE] = process.log
    process.worker.turn()
    assert not process.worker.states
    assert process.metrics.counts["intents/refused"] == 1
    get_on(around, process)

    assert around.rows_of() == dict.fromkeys(range(4), 1)


def test_the_successor_repeats_exactly_the_range(around: Around) -> None:
    """It closes batches elsewhere by itself, and more records are there by now."""
    dead = one_that_has_inserted(around)
    around.produce(*[value()] * 5)
    around.broker.remove(dead.log)
    assert around.intent == Intent("id-1", 0, 2, leader_epoch=0)
    successor = around.process()
    get_on(around, successor)

    assert around.rows_of() == dict.fromkeys(range(7), 1)
    assert successor.metrics.counts["intents/replayed"] == 1


def test_an_insert_that_lands_after_all_changes_nothing(around: Around) -> None:
    """Given up by its worker, repeated by another, and then it comes."""
    zombie = around.process()
    around.produce(*[value()] * 4)
    until_begun(zombie)
    zombie.pool.begin(0)
    around.broker.remove(zombie.log)
    successor = around.process()
    get_on(around, successor)
    zombie.pool.finish(0)

    assert around.rows_of() == dict.fromkeys(range(4), 1)
    assert around.table.sums == {"id-1/0": 4}


def test_jobs_of_a_lost_partition_do_not_begin(around: Around) -> None:
    """What still waited for a thread is another's now."""
    zombie = around.process()
    around.produce(*[value()] * 4)
    until_begun(zombie)
    around.broker.remove(zombie.log)
    zombie.worker.turn()
    zombie.pool.finish_all()

    assert not around.table.rows


def test_a_revoke_waits_for_nothing_that_has_not_begun(around: Around) -> None:
    """An insert that waits for a thread is left to the successor, and its intent stays."""
    process = around.process()
    around.produce(*[value()] * 4)
    until_begun(process)
    process.log.leave()
    process.pool.finish_all()

    assert not around.table.rows
    assert around.intent == Intent("id-1", 0, 4, leader_epoch=0)


def test_a_revoke_commits_what_is_finished(around: Around) -> None:
    """The insert ended before the partition went: the successor has nothing to repeat."""
    process = around.process()
    around.produce(*[value()] * 4)
    until_begun(process)
    process.pool.finish_all()
    process.log.leave()

    assert around.intent == Intent("id-1", 4, 4, leader_epoch=0)


def test_a_revoke_in_the_middle_of_a_replay_keeps_the_predecessors_intent(around: Around) -> None:
    """Sealed and prepared, but not committed by this worker yet: the insert may be in the table."""
    dead = one_that_has_inserted(around)
    around.broker.remove(dead.log)
    middle = around.process()
    middle.worker.turn()
    assert [task.is_replay for state in middle.worker.states.values() for task in state.tasks] == [True]
    middle.log.leave()
    around.produce(*[value()] * 5)
    get_on(around, around.process())

    assert around.rows_of() == dict.fromkeys(range(7), 1)


def test_a_partition_that_went_and_came_back_starts_afresh(around: Around) -> None:
    """What was buffered is read again; the counters say so."""
    process = around.process()
    around.produce(value(), value())
    process.step()
    process.log.rejoin()
    get_on(around, process)

    assert around.rows_of() == {0: 1, 1: 1}
    assert process.metrics.counts["records/events/0/read"] == 4
    assert process.metrics.counts["records/events/0/returned"] == 2


def test_without_metadata_a_clean_stop_is_still_exact() -> None:
    """A broker that keeps no metadata forgets intents, not offsets."""
    around = Around()
    around.broker = FakeBroker(1, keeps_metadata=False)
    for _ in range(3):
        process = around.process()
        around.produce(*[value()] * 3)
        get_on(around, process, 2)
        process.pool.is_immediate = True
        process.pool.finish_all()
        around.clock.tick_s = 0.01
        assert process.worker.drain(around.clock.now_s + 10)
        around.clock.tick_s = 0.0
        process.log.leave()

    assert around.rows_of() == dict.fromkeys(range(9), 1)


def test_a_revoke_waits_for_what_is_being_written(around: Around) -> None:
    """An insert that ends in time is committed: the successor has nothing to repeat."""
    process = around.process(PatientProcess)
    around.produce(*[value()] * 4)
    until_begun(process)
    process.pool.begin(0)
    insert = threading.Thread(target=process.pool.finish_all)
    revoke = threading.Thread(target=process.worker.revoked, args=([PLACE],))
    revoke.start()
    insert.start()
    revoke.join()
    insert.join()
    process.log.deliver()

    assert around.mark.offset == 4
    assert around.intent == Intent("id-1", 4, 4, leader_epoch=0)


def test_a_step_that_must_stop_the_worker_does_so_after_a_rebalance_too(around: Around) -> None:
    """Results of a partition that is given up are not lost."""
    process = around.process()
    around.produce(*[value()] * 4)
    until_begun(process)
    future, _ = process.pool.jobs[0]

    def fail() -> None:
        raise Fatal("no such table")

    process.pool.jobs[0] = (future, fail)
    process.pool.finish_all()
    process.worker.revoked([PLACE])

    with pytest.raises(Fatal, match="no such table"):
        process.worker.turn()


def test_a_range_whose_last_records_are_gone_is_repeated_all_the_same(around: Around) -> None:
    """Compaction took them after the intent was committed: the end of the log says that no more will come."""
    dead = around.process()
    around.produce(*[value()] * 4)
    until_begun(dead)
    around.broker.remove(dead.log)
    del around.broker.logs[PLACE].records[3]
    get_on(around, around.process())

    assert around.rows_of() == dict.fromkeys(range(3), 1)
    assert around.mark.offset == 4
