"""Where a partition begins, by what the group's mark says."""

import pytest

from consumer.delivery.intent import NO_SHARD, Detour, Intent
from consumer.delivery.opening import open_state, start_of
from consumer.delivery.ports import Assigned, CommittedOffset, Partition, Position
from consumer.delivery.reading import Intake
from consumer.errors import HaltCode

PLACE = Partition("events", 3)


def assigned(mark: CommittedOffset | None, low: int = 0, end: int | None = None) -> Assigned:
    """Return an assignment under the topic id "now"."""
    return Assigned(PLACE, "now", mark, low, end)


def test_without_a_mark_it_begins_at_the_oldest_record() -> None:
    """A new group reads everything that is there."""
    state = open_state(assigned(None, low=17))

    assert (state.position, state.read_to, state.committed, state.replay) == (17, 17, None, None)


def test_a_mark_is_where_it_goes_on() -> None:
    """Its metadata names the topic ID; without a range there is nothing to repeat."""
    mark = CommittedOffset(20, Intent("now", 20, 20).encode())
    state = open_state(assigned(mark, low=17))

    assert (state.position, state.read_to, state.committed, state.replay) == (20, 20, mark, None)


def test_an_intent_is_repeated() -> None:
    """Exactly its range, without what it leaves out."""
    intent = Intent("now", 20, 30, (25,))

    assert open_state(assigned(CommittedOffset(20, intent.encode()))).replay == intent


def test_an_intent_at_another_offset_is_not() -> None:
    """A tool moved the offset and kept the text."""
    state = open_state(assigned(CommittedOffset(5, Intent("now", 20, 30).encode())))

    assert (state.position, state.replay) == (5, None)


def test_an_offset_without_metadata_is_believed() -> None:
    """Tools that move offsets write none."""
    assert open_state(assigned(CommittedOffset(5, ""))).position == 5


def test_a_mark_of_another_incarnation_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The topic was recreated: it is read from its start, and the log says so."""
    state = open_state(assigned(CommittedOffset(20, Intent("before", 20, 30).encode()), low=2))

    assert (state.position, state.read_to, state.committed, state.replay, state.halt) == (2, 2, None, None, None)
    assert "recreated" in caplog.text


@pytest.mark.parametrize(
    ("mark", "low", "code"),
    [
        (CommittedOffset(20, Intent("now", 20, 30).encode()), 21, HaltCode.DELETED),
        (CommittedOffset(20, ""), 21, HaltCode.DELETED),
        (CommittedOffset(20, "7|now|20|30|"), 0, HaltCode.FOREIGN_MARK),
        (CommittedOffset(20, "hello"), 0, HaltCode.FOREIGN_MARK),
    ],
)
def test_where_going_on_would_skip_or_repeat_it_halts(mark: CommittedOffset, low: int, code: HaltCode) -> None:
    """A halted partition reads nothing, and says where it stands and why."""
    state = open_state(assigned(mark, low))

    assert state.halt is not None
    assert (state.halt.code, state.halt.offset, state.intake) == (code, 20, Intake.CLOSED)
    assert state.halt.sentence.startswith("events/3 is halted at offset 20: ")


def test_it_begins_with_the_last_record_that_was_read() -> None:
    """Where its epoch is known, by the commit or by its text, and the log still has it."""
    text = Intent("now", 20, 20, leader_epoch=4).encode()

    assert start_of(open_state(assigned(CommittedOffset(20, text, 4)))) == Position(19, 4)
    assert start_of(open_state(assigned(CommittedOffset(20, text)))) == Position(19, 4)
    assert start_of(open_state(assigned(CommittedOffset(20, text, 4), low=20))) == Position(20, 4)
    assert start_of(open_state(assigned(CommittedOffset(20, "", 4)))) == Position(19, 4)
    assert start_of(open_state(assigned(CommittedOffset(20, "")))) == Position(20)
    assert start_of(open_state(assigned(CommittedOffset(0, "", 4)))) == Position(0, 4)


def test_the_epoch_of_a_range_is_not_that_of_the_record_before_it() -> None:
    """A leader was elected between them, and the broker did not keep the commit's own."""
    state = open_state(assigned(CommittedOffset(20, Intent("now", 20, 30, leader_epoch=6).encode())))

    assert (start_of(state), state.leader_epoch) == (Position(20), -1)
    assert state.continuity.promised == state.replay


@pytest.mark.parametrize(
    ("mark", "end", "is_halted"),
    [
        (CommittedOffset(20, Intent("now", 20, 20, leader_epoch=4).encode(), 4), 19, True),
        (CommittedOffset(20, Intent("now", 20, 20, leader_epoch=4).encode(), 4), 20, False),
        (CommittedOffset(20, Intent("now", 20, 30, leader_epoch=4).encode(), 4), 29, True),
        (CommittedOffset(20, Intent("now", 20, 30, version=1).encode()), 29, True),
        (CommittedOffset(20, Intent("now", 20, 30, leader_epoch=4).encode(), 4), 30, False),
        (CommittedOffset(20, ""), 1, False),  # the embedded broker tells a smaller end
    ],
)
def test_a_log_that_ends_below_what_was_read_or_promised_was_cut(
    mark: CommittedOffset,
    end: int,
    is_halted: bool,  # noqa: FBT001  (pytest names it)
) -> None:
    """Also when nothing new has come since: waiting for it would skip what comes."""
    state = open_state(assigned(mark, end=end))

    assert (state.halt is not None) == is_halted
    if state.halt:
        assert state.halt.code is HaltCode.TRUNCATED
        assert f"at or below offset {end}" in state.halt.why
        assert "python -m consumer resume" in state.halt.why


@pytest.mark.parametrize(
    ("mark", "keeps", "expected"),
    [
        (None, True, 0),
        (None, False, 0),
        (CommittedOffset(20, ""), True, 20),
        (CommittedOffset(20, ""), False, None),
        (CommittedOffset(20, Intent("now", 20, 20).encode()), True, 20),
        (CommittedOffset(20, Intent("now", 20, 30).encode()), False, 30),
        (CommittedOffset(20, "1|now|20|30|2,1f"), True, 55),  # a dead letter of a larger range, which was given up
        (CommittedOffset(5, Intent("now", 20, 30).encode()), True, 5),
        (CommittedOffset(20, Intent("before", 20, 30).encode()), True, 0),
    ],
)
def test_behind_what_is_committed_or_promised_nothing_may_be_in_the_tables(
    mark: CommittedOffset | None,
    keeps: bool,  # noqa: FBT001  (pytest names it)
    expected: int | None,
) -> None:
    """Else the mark was lost or set back; a broker that keeps no intents can't tell, and may be one batch behind."""
    assert open_state(assigned(mark), keeps_metadata=keeps).inserted_max == expected


def test_a_second_reading_goes_on() -> None:
    """With its number, to its end."""
    detour = Detour(25, 90, 4, "1|now|90|90|")
    state = open_state(assigned(CommittedOffset(20, Intent("now", 20, 20, reading=2, detour=detour).encode())))

    assert (state.reading, state.detour, state.is_over) == (2, detour, False)
    over = open_state(assigned(CommittedOffset(25, Intent("now", 25, 25, reading=2, detour=detour).encode())))
    assert over.is_over
    assert over.final_mark() == CommittedOffset(90, "1|now|90|90|", 4)


def test_new_batches_name_the_shard_of_their_partition_and_the_cluster() -> None:
    """Of a single server they name none."""
    state = open_state(assigned(None), cluster_id="kafka-1", shards=2)

    assert (state.shard, state.cluster_id) == (2, "kafka-1")
    assert open_state(assigned(None), cluster_id="None").cluster_id == ""
    assert open_state(assigned(None)).shard == NO_SHARD


def test_a_predecessor_s_range_goes_to_the_shard_that_it_names() -> None:
    """Though its partition belongs to another one since a shard was added; without one, to the first."""
    for shard in (1, 2, NO_SHARD):
        intent = Intent("now", 20, 30, shard=shard)
        state = open_state(assigned(CommittedOffset(20, intent.encode())), shards=3)
        assert (state.replay, state.shard) == (intent, 1)


@pytest.mark.parametrize(("shards", "says"), [(0, "a single server"), (2, "has 2")])
def test_a_range_for_a_shard_that_this_worker_does_not_know_halts(shards: int, says: str) -> None:
    """On another shard its repeat would double what is there."""
    mark = CommittedOffset(20, Intent("now", 20, 30, shard=3).encode())
    state = open_state(assigned(mark), shards=shards)

    assert state.halt is not None
    assert state.halt.code is HaltCode.SHARD
    assert "goes to shard 3, and " in state.halt.why
    assert says in state.halt.why
    finished = CommittedOffset(30, Intent("now", 30, 30, shard=3).encode())
    assert open_state(assigned(finished), shards=shards).halt is None


def test_a_commit_of_another_kafka_cluster_halts_instead_of_reading_its_copy_from_the_start() -> None:
    """Mirrors copy commits with their metadata; the copy's topic ID is another one."""
    mark = CommittedOffset(20, Intent("before", 20, 20, cluster_id="kafka-1").encode())
    state = open_state(assigned(mark), cluster_id="kafka-2")

    assert state.halt is not None
    assert (state.halt.code, state.intake) == (HaltCode.MIRRORED, Intake.CLOSED)
    assert "python -m consumer adopt" in state.halt.why
    for known in ("kafka-1", ""):
        assert open_state(assigned(mark), cluster_id=known).halt is None
    nameless = CommittedOffset(20, Intent("now", 20, 20).encode())
    assert open_state(assigned(nameless), cluster_id="kafka-2").position == 20
