"""What a stopped group should commit: what is found out, and what is refused. Carried out: test_worker_epochs.py."""

from dataclasses import replace

import pytest

from consumer.clickhouse.offsets import Reading
from consumer.delivery.intent import Detour, Intent, decode
from consumer.delivery.opening import open_state
from consumer.delivery.ports import Assigned, CommittedOffset, Partition
from consumer.operations.divergence import Found
from consumer.operations.facts import Facts
from consumer.operations.plans import DETOUR_BYTES_MAX, adopt, downgrade, reprocess, resume

PLACE = Partition("events", 3)
READ = Reading(0, 0, 29, {4: 0})


def log(offset: int) -> Found | None:
    """Find records of a log that has thirty of epoch 4, and ten of epoch 6 behind them."""
    return Found(offset, 4 if offset < 30 else 6) if offset < 40 else None


def facts(mark: CommittedOffset | None, *readings: Reading, low: int = 0, kept: tuple[int, ...] = ()) -> Facts:
    """Return what is known of a partition whose log goes to offset 40."""
    return Facts(PLACE, "id", low, 40, mark, readings, frozenset(kept))


def mark(offset: int = 30, epoch: int = 4, **fields: object) -> CommittedOffset:
    """Return a mark without a range, or with what is given."""
    text = Intent("id", offset, fields.pop("b", offset), leader_epoch=epoch, **fields)  # type: ignore[arg-type]  # as given
    return CommittedOffset(offset, text.encode(), epoch)


@pytest.mark.parametrize(
    "known",
    [
        facts(mark(), READ),
        facts(None),
        facts(mark(30, b=35, epoch=6), READ),
        facts(mark(20, reading=2), READ),
        facts(CommittedOffset(30, Intent("id", 30, 30, version=1).encode()), READ),
        facts(CommittedOffset(35, ""), READ),
    ],
)
def test_where_a_worker_goes_on_by_itself_nothing_is_done(known: Facts) -> None:
    """Nor is anything where it reads the topic from its start, or is an older reading behind."""
    plan = resume(known, log)

    assert (plan.mark, plan.is_refused) == (None, False)


def test_offsets_of_another_topic_or_another_program_are_left_alone() -> None:
    """The worker deals with the first, nobody of ours with the second."""
    recreated = CommittedOffset(30, Intent("before", 30, 30).encode(), 4)
    for plan in (resume(facts(recreated, READ), log), reprocess(facts(recreated, READ), 0, None, log)):
        assert (plan.mark, plan.is_refused) == (None, False)
        assert "recreated" in plan.why
    foreign = facts(CommittedOffset(30, "hello"), READ)
    for plan in (resume(foreign, log), reprocess(foreign, 0, None, log), downgrade(foreign)):
        assert (plan.mark, plan.is_refused) == (None, True)


def test_a_group_that_lost_its_offset_goes_on_behind_the_tables() -> None:
    """In a reading that no token has known."""
    plan = resume(facts(None, READ, Reading(3, 5, 9, {4: 5})), log)

    assert plan.mark == CommittedOffset(30, Intent("id", 30, 30, leader_epoch=4, reading=4).encode(), 4)
    assert plan.why == "the group has lost its offset; the tables hold offsets up to 29"


def test_a_log_that_was_cut_below_the_newest_row_is_read_from_where_it_parts() -> None:
    """The group has lost its offset as well: the highest row's epoch is compared, and all that is new is read."""
    plan = resume(Facts(PLACE, "id", 0, 40, None, [Reading(0, 0, 32, {4: 0})]), log)

    assert plan.mark is not None
    assert plan.mark.offset == 30
    assert "the log was cut" in plan.why


def test_what_was_deleted_unread_is_named() -> None:
    """It goes on at the oldest record."""
    plan = resume(facts(mark(20), Reading(0, 0, 19, {4: 0}), low=25), log)

    assert plan.mark == CommittedOffset(25, Intent("id", 25, 25, leader_epoch=-1, reading=1).encode(), -1)
    assert plan.why == "offsets 20 to 24 were deleted before they were read"


def test_what_a_batch_lacks_is_read_again_alone() -> None:
    """The worker died between two inserts of one batch, and its first records were deleted: the others are there."""
    promised = mark(20, b=30, epoch=4)
    kept = tuple(offset for offset in range(20, 30) if offset not in (25, 26))
    plan = resume(facts(promised, READ, low=22, kept=kept), log)

    behind = Intent("id", 30, 30, leader_epoch=4, reading=2).encode()
    again = Intent("id", 25, 25, leader_epoch=4, reading=1, detour=Detour(27, 30, 4, behind))
    assert plan.mark == CommittedOffset(25, again.encode(), 4)
    whole = resume(facts(promised, READ, low=22, kept=tuple(range(20, 30))), log)
    assert whole.mark == CommittedOffset(30, Intent("id", 30, 30, leader_epoch=4, reading=1).encode(), 4)
    nothing = resume(facts(promised, Reading(0, 0, 19, {4: 0}), low=22), log)
    assert nothing.mark == CommittedOffset(22, Intent("id", 22, 22, reading=1).encode(), -1)


def test_a_second_reading_that_cannot_go_on_ends() -> None:
    """The group goes back to exactly where it was, if that is good."""
    before = Detour(28, 30, 4, mark().metadata)
    plan = resume(facts(mark(20, reading=1, detour=before), READ, low=25), log)

    assert plan.mark == CommittedOffset(30, mark().metadata, 4)
    assert "the second reading ends at offset 20" in plan.why
    assert resume(facts(mark(26, reading=1, detour=before), READ, low=25), log).mark is None


def test_a_second_reading_that_ends_at_a_batch_that_is_there_in_part_reads_only_the_rest() -> None:
    """The batch was unfinished when the second reading began, and its first records were deleted since."""
    before = Detour(28, 30, 4, mark(30, b=35, epoch=6).metadata)
    known = facts(mark(20, reading=1, detour=before), READ, low=32)
    plan = resume(replace(known, kept_before=frozenset({30, 31, 33, 34})), log)

    behind = Intent("id", 35, 35, leader_epoch=6, reading=3).encode()
    again = Intent("id", 32, 32, leader_epoch=-1, reading=2, detour=Detour(33, 35, 6, behind))
    assert plan.mark == CommittedOffset(32, again.encode(), -1)
    nothing = resume(known, log).mark
    assert nothing == CommittedOffset(32, Intent("id", 32, 32, reading=2).encode(), -1)


def test_a_range_is_read_again_and_then_the_group_is_where_it_was() -> None:
    """Its mark stands in the new one, a batch that is not finished included."""
    pending = mark(30, b=35, epoch=6)
    plan = reprocess(facts(pending, READ), 5, 12, log)

    intent = decode(plan.mark.metadata) if plan.mark else None
    assert intent == Intent("id", 5, 5, leader_epoch=4, reading=1, detour=Detour(12, 30, 6, pending.metadata))
    assert plan.mark is not None
    assert plan.mark.offset == 5


POISONED = mark(30, b=9000, excluded=tuple(offset * offset for offset in range(6, 400)))
assert len(POISONED.metadata) > DETOUR_BYTES_MAX


@pytest.mark.parametrize(
    ("known", "first", "stop", "why"),
    [
        (facts(mark(), READ, low=10), 5, None, "the log has the offsets 10 to 39, and 5 is not among them"),
        (facts(mark(), READ), 41, None, "the log has the offsets 0 to 39, and 41 is not among them"),
        (facts(mark(), READ), 31, None, "only offsets below 30 were read: starting at 31 would skip some"),
        (facts(mark(30, b=35, epoch=6), READ), 33, None, "only offsets below 30 were read: starting at 33 would skip"),
        (facts(None, READ), 35, None, "only offsets below 30 were read"),
        (facts(None), 1, None, "only offsets below 0 were read"),
        (facts(mark(), READ), 5, 31, "only offsets below 30 were read: a second reading must end there at the latest"),
        (facts(mark(), READ), 5, 5, "a second reading must end there at the latest, and after its beginning"),
        (facts(None, READ), 5, 9, "nothing was read"),
        (facts(mark(20, detour=Detour(25, 30, 4, "")), READ), 5, 9, "a second reading is in progress"),
        (facts(POISONED, READ), 5, 9, "a batch with much poison"),
    ],
)
def test_what_would_skip_records_or_finds_no_room_is_refused(
    known: Facts, first: int, stop: int | None, why: str
) -> None:
    """In a sentence that says why."""
    plan = reprocess(known, first, stop, log)

    assert (plan.mark, plan.is_refused) == (None, True)
    assert why in plan.why


def cut(offset: int) -> Found | None:
    """Find records of a log that lost those of epoch 1 from offset 50 on, and has thirty of epoch 2 there instead."""
    return Found(offset, 1 if offset < 50 else 2) if offset < 80 else None


BEFORE_CUT, AFTER_CUT = Reading(0, 0, 99, {1: 0}), Reading(1, 50, 79, {2: 50})


@pytest.mark.parametrize(
    ("readings", "first", "stop"),
    [
        ([BEFORE_CUT, AFTER_CUT], 40, 80),
        ([BEFORE_CUT, AFTER_CUT], 60, 70),
        ([BEFORE_CUT, AFTER_CUT], 49, 51),
        ([BEFORE_CUT], 60, None),
        ([Reading(0, 0, 99, {1: 0, 2: 50})], 40, None),
        ([Reading(0, 0, 79, {1: 0, 3: 50, 2: 60})], 40, 80),
        ([Reading(0, 0, 79, {1: 0, 0: 20, 2: 50})], 10, 80),
        ([Reading(0, 0, 49, {-1: 0}), AFTER_CUT], 40, 80),
    ],
)
def test_rows_that_the_log_cannot_give_back_are_not_deleted(
    readings: list[Reading], first: int, stop: int | None
) -> None:
    """An unclean election took their records, or nobody knows which they were; they can still be read beside others."""
    known = Facts(PLACE, "id", 0, 80, mark(80, epoch=2), readings)
    plan = reprocess(known, first, stop, cut, is_deleting=True)

    assert (plan.mark, plan.is_refused) == (None, True)
    assert "can't give back" in plan.why
    assert reprocess(known, first, stop, cut).mark is not None


@pytest.mark.parametrize(
    ("readings", "first", "stop"),
    [
        ([BEFORE_CUT, AFTER_CUT], 0, 50),
        ([AFTER_CUT], 40, None),
        ([Reading(0, 0, 79, {1: 0, 2: 50})], 40, 80),
        ([Reading(0, 0, 79, {1: 0, 2: 50}), Reading(1, 10, 60, {1: 10, 2: 50})], 0, None),
        ([], 0, None),
    ],
)
def test_rows_that_the_log_still_has_may_be_deleted(readings: list[Reading], first: int, stop: int | None) -> None:
    """Also beside others that it has not, and up to the end."""
    known = Facts(PLACE, "id", 0, 80, mark(80, epoch=2), readings)

    assert reprocess(known, first, stop, cut, is_deleting=True) == reprocess(known, first, stop, cut)
    assert reprocess(known, first, stop, cut).mark is not None


def test_a_mark_is_handed_to_the_former_release() -> None:
    """When it says nothing that the former one can't read."""
    assert downgrade(facts(mark(), READ)).mark == CommittedOffset(30, "1|id|30|30|", 4)
    assert downgrade(facts(mark(reading=2), READ)).mark == CommittedOffset(30, "1|id|30|30|", 4)
    for known in (facts(None), facts(CommittedOffset(30, "")), facts(CommittedOffset(30, "1|id|30|40|"))):
        assert downgrade(known).mark is None


@pytest.mark.parametrize(
    "known",
    [
        facts(mark(30, b=35), READ),
        facts(mark(20, reading=1), READ),
        facts(mark(30, reading=1, detour=Detour(35, 40, 4, "")), READ),
    ],
)
def test_what_the_former_release_would_do_wrong_is_refused(known: Facts) -> None:
    """It would insert a range under another token, or read again under tokens that are known."""
    plan = downgrade(known)

    assert (plan.mark, plan.is_refused) == (None, True)


def copied(offset: int, **fields: object) -> Facts:
    """Return a partition of a copy, whose commit is of the cluster that was copied."""
    text = Intent("there", offset, offset, cluster_id="kafka-1").encode()
    return replace(facts(CommittedOffset(offset, text)), cluster_id="kafka-2", **fields)  # type: ignore[arg-type]  # as given


def test_a_copy_is_adopted_where_its_commit_is() -> None:
    """Under this topic's ID and this cluster's; a worker opens it there."""
    plan = adopt(copied(30), "kafka-2")

    assert plan.mark is not None
    assert decode(plan.mark.metadata) == Intent("id", 30, 30, cluster_id="kafka-2")
    state = open_state(Assigned(PLACE, "id", plan.mark, 0, 40), cluster_id="kafka-2")
    assert (state.halt, state.position) == (None, 30)
    assert adopt(replace(copied(30), mark=plan.mark), "kafka-2").mark is None
    later = adopt(copied(30, low=35), "kafka-2")
    assert later.mark is not None
    assert later.mark.offset == 35
    assert "30 to 34 were deleted" in later.why


def test_an_adoption_that_was_not_noted_is_noted_by_another_run() -> None:
    """Its commit stays as it is. A worker's own commit is none: it knows a leader epoch, or the tables have rows."""
    mark = adopt(copied(30), "kafka-2").mark
    assert mark is not None
    adopted = replace(copied(30), mark=mark)

    assert adopt(adopted, "kafka-2", is_noted=False).mark == mark
    assert adopt(adopted, "kafka-2").mark is None
    assert adopt(replace(adopted, mark=replace(mark, leader_epoch=0)), "kafka-2", is_noted=False).mark is None
    assert adopt(replace(adopted, readings=[Reading(0, 30, 33, {})]), "kafka-2", is_noted=False).mark is None
    assert adopt(replace(adopted, low=30), "kafka-2", is_noted=False).mark is None


def test_a_copy_that_is_not_whole_is_not_adopted() -> None:
    """Its commit would be ahead of its log; and no other command touches it."""
    assert adopt(copied(41), "kafka-2").is_refused
    for plan in (resume(copied(30), log), reprocess(copied(30), 0, None, log), downgrade(copied(30))):
        assert (plan.mark, plan.is_refused) == (None, True)
        assert "python -m consumer adopt" in plan.why
    assert adopt(facts(mark()), "kafka-2").mark is None
