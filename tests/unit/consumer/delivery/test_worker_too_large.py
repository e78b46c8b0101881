"""The worker behind a proxy that takes no request of a batch's size: less at a time, by any worker, and never twice."""

import pytest

from consumer.delivery.executor import ACCEPTED_BATCHES
from tests.support.consumer_fakes import LATE_S, Around, get_on, until_begun
from tests.support.fake_table import InsertFault, value


@pytest.fixture
def around() -> Around:
    """One partition, and a proxy before its table that passes on no more than one row."""
    made = Around()
    made.table.rows_max = 1
    return made


def range_of(around: Around) -> tuple[int, int]:
    """Return the range that the group remembers."""
    assert around.intent is not None
    return around.intent.a, around.intent.b


def test_a_batch_is_halved_until_the_proxy_takes_it(around: Around, caplog: pytest.LogCaptureFixture) -> None:
    """Though its intent is out: nothing was passed on. The next ones are sealed no larger, and not halved again."""
    process = around.process()
    around.produce(*[value()] * 4)
    get_on(around, process)
    assert around.rows_of() == dict.fromkeys(range(4), 1)
    around.produce(*[value()] * 4)
    get_on(around, process)

    assert around.rows_of() == dict.fromkeys(range(8), 1)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["batches are made smaller"] * 2
    assert process.metrics.counts["retries/insert/too_large"] == 0
    assert range_of(around) == (8, 8)


def test_batches_grow_again_once_the_proxy_takes_more(around: Around) -> None:
    """A worker that lives on does not insert row by row for ever; it doubles what was taken twenty times."""
    process = around.process()
    around.produce(*[value()] * 4)
    get_on(around, process)
    around.table.rows_max = None
    for _ in range(12 * ACCEPTED_BATCHES):
        around.produce(value())
        get_on(around, process, 10)
    written = process.metrics.counts["intents/written"]
    around.produce(*[value()] * 4)
    get_on(around, process)

    assert around.rows_of() == dict.fromkeys(range(4 + 12 * ACCEPTED_BATCHES + 4), 1)
    assert process.metrics.counts["intents/written"] - written == 1


def test_a_proxy_that_takes_no_more_is_seldom_asked(around: Around, caplog: pytest.LogCaptureFixture) -> None:
    """A larger batch is tried after twenty that it took, not with each."""
    process = around.process()
    around.produce(*[value()] * 4)
    get_on(around, process)
    caplog.clear()
    around.produce(*[value()] * (5 * ACCEPTED_BATCHES))
    get_on(around, process, 20 * ACCEPTED_BATCHES)

    assert around.rows_of() == dict.fromkeys(range(4 + 5 * ACCEPTED_BATCHES), 1)
    assert 0 < len(caplog.records) <= 6


def test_a_dead_workers_batch_is_halved_once_nothing_of_it_can_arrive(around: Around) -> None:
    """Its successor was given its range; until then it is held, and says why."""
    dead = around.process()
    around.produce(*[value()] * 4)
    until_begun(dead)
    around.broker.remove(dead.log)
    process = around.process()
    get_on(around, process, 10)
    assert not around.rows_of()
    assert process.metrics.counts["retries/insert/too_large"] > 0
    assert all(state.is_retrying for state in process.worker.states.values())
    get_on(around, process, int(LATE_S * 2) + 20)

    assert around.rows_of() == dict.fromkeys(range(4), 1)


def test_a_batch_that_is_there_needs_no_proxy_to_take_it(around: Around) -> None:
    """Its insert was applied, and its answer lost; then somebody put the proxy there."""
    around.table.rows_max = None
    around.table.faults.append(InsertFault.ANSWER_LOST)
    process = around.process()
    around.produce(*[value()] * 4)
    until_begun(process)
    process.pool.finish_all()
    around.table.rows_max = 1
    get_on(around, process, 20)

    assert around.rows_of() == dict.fromkeys(range(4), 1)
    assert range_of(around) == (4, 4)


def test_a_batch_that_is_there_in_part_is_not_halved(around: Around) -> None:
    """The server fell over between two months of it; then somebody put the proxy there."""
    around.table.rows_max = None
    around.table.faults.append(InsertFault.HALF_APPLIED)
    process = around.process()
    around.produce(value(), value(), value(month=1), value(month=1))
    until_begun(process)
    process.pool.finish_all()
    around.table.rows_max = 1
    get_on(around, process, int(LATE_S * 2) + 20)
    assert around.rows_of() == {0: 1, 1: 1}
    assert range_of(around) == (0, 4)
    around.table.rows_max = None
    get_on(around, process, 40)

    assert around.rows_of() == dict.fromkeys(range(4), 1)
    assert range_of(around) == (4, 4)


def test_a_batch_that_may_still_arrive_is_not_halved(around: Around) -> None:
    """Its insert was given up, and runs on in the server."""
    around.table.rows_max = None
    around.table.faults.append(InsertFault.LATE)
    process = around.process()
    around.produce(*[value()] * 4)
    until_begun(process)
    process.pool.finish_all()
    around.table.rows_max = 1
    get_on(around, process, int(LATE_S * 2) + 20)
    assert not around.rows_of()
    around.table.apply(around.table.late.pop())
    around.table.rows_max = None
    get_on(around, process, 40)

    assert around.rows_of() == dict.fromkeys(range(4), 1)


def test_one_record_that_the_proxy_does_not_take_halts_its_partition(around: Around) -> None:
    """Nothing smaller can be sent; it is no dead letter, and goes on once somebody has raised the limit."""
    around.table.rows_max = 0
    process = around.process()
    around.produce(value(), value())
    get_on(around, process, 20)
    (state,) = process.worker.states.values()
    assert (state.halt and state.halt.code, state.position) == ("too_large", 0)
    around.table.rows_max = None
    get_on(around, process, 200)

    assert around.rows_of() == {0: 1, 1: 1}
    assert not around.letters.sent


def test_a_batch_of_which_a_block_was_inserted_halts(around: Around) -> None:
    """Its range can't be another one any more: the rest of it waits for a higher limit."""
    process = around.process()
    around.produce(value(1), value(2), value(2))
    get_on(around, process, 10)
    (state,) = process.worker.states.values()
    assert (state.halt and state.halt.code, around.rows_of()) == ("too_large", {0: 1})
    around.table.rows_max = None
    get_on(around, process, 200)

    assert around.rows_of() == {0: 1, 1: 1, 2: 1}
