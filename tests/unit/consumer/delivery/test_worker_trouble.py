"""The worker when servers are away, records are poison, and topics are not what they were; and how it stops."""

import pytest

from consumer.delivery.intent import Intent
from consumer.delivery.ports import Block, CommittedOffset, Position
from consumer.delivery.reading import Intake
from consumer.errors import Cause, Transient
from tests.support.consumer_fakes import LIMITS, PLACE, Around, get_on
from tests.support.fake_table import FakeTable, value


@pytest.fixture
def around() -> Around:
    """A table with a window of 100 tokens, and schemas 1 and 2."""
    return Around()


def test_poison_goes_to_the_dead_letters_and_its_neighbours_into_the_table(
    around: Around, caplog: pytest.LogCaptureFixture
) -> None:
    """By frame, by schema, and what the table refuses; each once, and the log has one line for the batch."""
    process = around.process()
    around.produce(value(), b"", value(7), value(fault="table"))
    get_on(around, process)

    assert around.rows_of() == {0: 1}
    assert around.letters.sent == {"id-1/0/1": 1, "id-1/0/2": 1, "id-1/0/3": 1}
    assert process.metrics.counts["records/events/0/dead_letters"] == 3
    (line,) = [record for record in caplog.records if record.message == "records became dead letters"]
    assert line.__dict__["reasons"] == {"bad_value": 1, "frame": 1, "unknown_schema": 1}
    assert around.mark.offset == 4


def test_dead_letters_are_sent_behind_the_intent_and_the_rows_and_before_the_commit(around: Around) -> None:
    """An expelled worker sends none; a topic that is away holds no rows; nothing is committed without it."""
    around.letters.is_away = True
    process = around.process()
    around.produce(value(), b"", value(), value())
    get_on(around, process)
    assert around.intent == Intent("id-1", 0, 4, (1,), leader_epoch=0)
    assert around.rows_of() == {0: 1, 2: 1, 3: 1}
    around.letters.is_away = False
    get_on(around, process, 20)
    assert around.letters.sent == {"id-1/0/1": 1}
    assert around.mark.offset == 4


def test_an_outage_of_the_table_sends_no_dead_letter(around: Around) -> None:
    """However often an insert is tried, and by whom: its dead letters are sent once, when it has succeeded."""
    around.table.is_away = True
    for _ in range(4):
        process = around.process()
        around.produce(value(), b"", value(), value())
        get_on(around, process, 10)
        around.broker.remove(process.log)
    assert not around.letters.sent
    around.table.is_away = False
    get_on(around, around.process(), 60)
    assert around.letters.sent == {f"id-1/0/{offset}": 1 for offset in (1, 5, 9, 13)}
    assert len(around.rows_of()) == 12


def test_an_insert_is_not_repeated_because_its_dead_letters_fail(around: Around) -> None:
    """Its rows are there; only the dead letters are tried again, after a new intent."""
    marks: list[CommittedOffset] = []
    around.broker.watchers.append(lambda _, mark: marks.append(mark))
    around.letters.answers_lost = 1
    process = around.process()
    around.produce(value(), b"", value(), value())
    get_on(around, process, 20)

    assert process.metrics.counts["retries/send/away"] == 1
    assert process.metrics.counts["retries/insert/away"] == 0
    assert [mark.offset for mark in marks if "|0|4|" in mark.metadata] == [0, 0]
    assert around.mark.offset == 4


def test_an_outage_makes_no_dead_letter_and_holds_memory(around: Around) -> None:
    """Partitions pause, polling goes on, and all is there afterwards."""
    around.table.is_away = True
    process = around.process()
    around.produce(*[value()] * 100)
    get_on(around, process, 60)
    (state,) = process.worker.states.values()
    assert state.intake is Intake.PAUSED
    assert state.size_bytes < LIMITS.waiting_bytes_max
    assert state.is_retrying
    around.table.is_away = False
    get_on(around, process, 150)

    assert around.rows_of() == dict.fromkeys(range(100), 1)
    assert not around.letters.sent


def test_a_topic_made_anew_under_a_reader_is_read_from_its_start(around: Around) -> None:
    """It read on at its old offset; the id that is asked for behind the records tells."""
    process = around.process()
    around.produce(*[value()] * 4)
    get_on(around, process)
    around.broker.create()
    around.produce(*[value()] * 12)
    get_on(around, process, 20)

    assert (around.rows_of(1), around.rows_of(2)) == (dict.fromkeys(range(4), 1), dict.fromkeys(range(12), 1))


def test_a_topic_made_anew_that_ends_where_the_old_one_did_is_noticed(around: Around) -> None:
    """Nothing new comes and nothing is out of range: an idle partition asks from time to time."""
    process = around.process()
    around.produce(*[value()] * 4)
    get_on(around, process)
    around.broker.create()
    around.produce(*[value()] * 4)
    get_on(around, process, 80)

    assert around.rows_of(2) == dict.fromkeys(range(4), 1)


def test_a_shorter_topic_made_anew_is_noticed_at_once(around: Around) -> None:
    """Its old offset is out of range there."""
    process = around.process()
    around.produce(*[value()] * 4)
    get_on(around, process)
    around.broker.create()
    around.produce(value())
    get_on(around, process)

    assert around.rows_of(2) == {0: 1}


def test_retention_that_passes_a_reader_halts_its_partition(around: Around) -> None:
    """What is in memory is inserted, then nothing more is read: a person decides."""
    around.table.is_away = True
    process = around.process()
    around.produce(*[value()] * 100)
    get_on(around, process, 20)
    around.broker.delete_below(0, 60)
    process.log.positions[PLACE] = Position(40)
    process.log.paused.clear()
    around.table.is_away = False
    get_on(around, process, 40)

    assert set(around.rows_of()) == set(range(around.mark.offset))
    assert around.mark.offset < 60
    assert process.metrics.levels["partitions/halted"] == 1


def test_a_log_that_ends_before_its_mark_halts_its_partition(around: Around) -> None:
    """It was truncated; asking again gave the same offset, so it is not asked for ever."""
    around.broker.marks[PLACE] = CommittedOffset(50, Intent("id-1", 50, 50).encode())
    process = around.process()
    around.produce(value())
    get_on(around, process, 20)

    assert not around.table.rows
    assert process.metrics.levels["partitions/halted"] == 1


def test_a_halted_partition_goes_on_when_its_topic_is_made_anew(around: Around) -> None:
    """The operator's answer may be just that."""
    around.broker.marks[PLACE] = CommittedOffset(0, "")
    around.produce(*[value()] * 4)
    around.broker.delete_below(0, 2)
    process = around.process()
    get_on(around, process, 10)
    assert process.metrics.levels["partitions/halted"] == 1
    around.broker.create()
    around.produce(value())
    get_on(around, process, 80)

    assert around.rows_of(2) == {0: 1}


def test_a_stop_inserts_and_commits_all_that_was_taken(around: Around) -> None:
    """Records that were read and not sealed yet too."""
    process = around.process()
    around.produce(*[value()] * 5)
    process.step()
    process.pool.is_immediate = True
    around.clock.tick_s = 0.01

    assert process.worker.drain(around.clock.now_s + 10)
    assert around.mark.offset == len(around.rows_of()) > 0


def test_a_stop_is_over_in_time_though_the_table_is_away(around: Around) -> None:
    """The intents cover the rest, and leaving does not wait once more."""
    around.table.is_away = True
    process = around.process()
    around.produce(*[value()] * 5)
    process.step()
    process.pool.is_immediate = True
    around.clock.tick_s = 0.05
    began_s = around.clock.now_s

    assert not process.worker.drain(began_s + 10)
    assert around.clock.now_s < began_s + 11
    process.log.leave()
    around.clock.tick_s = 0.0
    around.table.is_away = False
    get_on(around, around.process())
    assert around.rows_of() == dict.fromkeys(range(5), 1)


class BrokenView(FakeTable):
    """A table with a view of somebody's behind it that fails: the rows are in the table, and it lacks them."""

    def __init__(self) -> None:
        super().__init__(100)
        self.is_broken = True
        self.seen: set[str] = set()

    def insert(self, block: Block) -> None:
        """Insert, and let the view see it, or fail."""
        super().insert(block)
        if self.is_broken:
            raise Transient("in a materialized view; the rows are in the table", Cause.VIEW)
        self.seen.add(block.token)


@pytest.mark.parametrize("is_long", [False, True])
def test_a_view_that_failed_gets_its_rows_while_the_table_knows_their_token(
    around: Around,
    is_long: bool,  # noqa: FBT001  (a case)
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Later they would be in the table twice: the view lacks them, and the log says so."""
    around.table = table = BrokenView()
    process = around.process()
    around.produce(*[value()] * 4)
    get_on(around, process, 20)
    assert around.rows_of() == dict.fromkeys(range(4), 1)
    if is_long:
        table.forget_tokens()
        get_on(around, process, 20)
    table.is_broken = False
    get_on(around, process, 20)

    assert len(table.seen) == (0 if is_long else 1)
    assert any("are not sent again" in record.message for record in caplog.records) == is_long
    assert around.rows_of() == dict.fromkeys(range(4), 1)
    assert around.mark.offset == 4
