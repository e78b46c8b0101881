"""A batch of several writer schemas, whose inserts are slower than its intent lasts."""

from consumer.delivery.ports import Block
from tests.support.consumer_fakes import Around, get_on, until_begun
from tests.support.fake_table import FakeTable, InsertFault, value


class SlowTable(FakeTable):
    """Takes its time for each insert, repeated ones too."""

    def __init__(self, around: Around, insert_s: float) -> None:
        super().__init__(100)
        self.around, self.insert_s = around, insert_s
        self.sent: list[int] = []

    def insert(self, block: Block) -> None:
        """Insert, and let time pass."""
        self.sent.append(block.schema_id)
        self.around.clock.now_s += self.insert_s
        super().insert(block)


def slow_around(*values: bytes) -> tuple[Around, SlowTable]:
    """Return one partition with records, and a table that takes longer for each insert than an intent lasts."""
    around = Around()
    around.table = table = SlowTable(around, 31.0)
    around.produce(*values)
    return around, table


def test_each_block_is_inserted_once_however_long_it_takes() -> None:
    """The second one begins after another commit of the intent, and the first one is not sent again."""
    around, table = slow_around(value(1), value(2), value(2))
    get_on(around, around.process())

    assert around.rows_of() == {0: 1, 1: 1, 2: 1}
    assert table.sent == [1, 2]
    assert around.mark.offset == 3


def test_a_block_that_fails_is_repeated_alone() -> None:
    """What was acknowledged is in the table."""
    around, table = slow_around(value(1), value(2), value(2), value(2))
    process = around.process()
    until_begun(process)
    process.pool.finish_all()
    table.faults.append(InsertFault.ANSWER_LOST)
    get_on(around, process)

    assert around.rows_of() == dict.fromkeys(range(4), 1)
    assert table.sent == [1, 2, 2]


def test_a_successor_begins_with_the_first_block() -> None:
    """It knows no more than the range; ClickHouse drops what is there."""
    around, _ = slow_around(value(1), value(2), value(2), value(2))
    dead = around.process()
    until_begun(dead)
    dead.pool.finish_all()
    around.broker.remove(dead.log)
    get_on(around, around.process())

    assert around.rows_of() == dict.fromkeys(range(4), 1)


def test_what_the_second_block_refuses_is_left_out() -> None:
    """The batch is prepared anew; its first block is counted, and not sent again, whatever the table has forgotten."""
    around, table = slow_around(value(1), value(2), value(2, fault="table"), value(1))
    process = around.process()
    until_begun(process)
    process.pool.finish_all()
    process.worker.turn()
    table.forget_tokens()
    get_on(around, process)

    assert around.rows_of() == {0: 1, 1: 1, 3: 1}
    assert around.letters.sent == {"id-1/0/2": 1}
    assert table.sent == [1, 2, 2]
    assert around.mark.offset == 4
