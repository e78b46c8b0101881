"""Where to begin with a partition that was just assigned: what the group's mark says, and when to stay away."""

import logging
from typing import Final

from consumer.delivery.continuity import Continuity
from consumer.delivery.halting import Halted, Step
from consumer.delivery.intent import NO_EPOCH, Intent, UnreadableError, decode
from consumer.delivery.partition import PartitionState
from consumer.delivery.ports import Assigned, CommittedOffset, Cut, Position
from consumer.errors import HaltCode

log = logging.getLogger(__name__)

SET_OFFSET: Final = (
    'stop the workers and set the group\'s offset to go on (docs/OPERATIONS.md, "A partition is halted")'
)
RESUME: Final = (
    "stop the workers, run `python -m consumer resume --go` (without --go it only shows what is where), and start them"
)


def open_lane(item: Assigned, *, keeps_metadata: bool = True) -> PartitionState:
    """Return the lane of a newly assigned partition, halted when reading on would skip records or repeat them.

    A mark of another topic of that name says nothing about this one, which is read from its start. A broker that
    `keeps_metadata` has none beside a mark only when a tool has set it; then nothing behind it may be in the tables.
    """
    if item.committed is None:
        return PartitionState(item.partition, item.topic_id, item.low, None, read_to=item.low, inserted_max=0)
    mark = item.committed
    try:
        intent = decode(mark.metadata)
    except UnreadableError:
        why = "another program or a newer worker commits in this group: give it a group of its own, or upgrade this one"
        return halted(item, HaltCode.FOREIGN_MARK, why)
    if intent and intent.topic_id != item.topic_id:
        log.error("topic was recreated; reading it from its start", extra={"topic": item.partition.topic})
        return PartitionState(item.partition, item.topic_id, item.low, None, read_to=item.low, inserted_max=0)
    if mark.offset < item.low:
        why = f"records up to offset {item.low} were deleted before they were read; {RESUME}"
        return halted(item, HaltCode.DELETED, why)
    replay = intent if intent and intent.is_range and intent.a == mark.offset else None
    state = _state(item, mark, intent)
    read_to = replay.b if replay else mark.offset if state.leader_epoch != NO_EPOCH else 0
    if item.end is not None and item.end < read_to:
        return halted(item, HaltCode.TRUNCATED, cut_sentence(mark.offset, Cut(is_other=True, end=item.end)))
    state.replay = replay
    state.continuity = Continuity.at(Position(mark.offset, state.leader_epoch), item.low, replay)
    if intent or keeps_metadata:
        state.inserted_max = replay.end if replay else mark.offset
    return state


def _state(item: Assigned, mark: CommittedOffset, intent: Intent | None) -> PartitionState:
    state = PartitionState(item.partition, item.topic_id, mark.offset, mark, read_to=mark.offset)
    state.leader_epoch = mark.leader_epoch
    if intent is not None:
        state.reading, state.detour = intent.reading, intent.detour
        if mark.leader_epoch == NO_EPOCH and not intent.is_range and intent.a == mark.offset:
            state.leader_epoch = intent.leader_epoch  # some brokers keep the metadata and not the epoch
    return state


def start_of(state: PartitionState) -> Position:
    """Return where to read a lane from: at the last record that was read before, if it is to be read once more."""
    before = state.continuity
    return Position(before.last_offset if before.is_proving else state.read_to, state.leader_epoch)


def halted(item: Assigned, code: HaltCode, why: str) -> PartitionState:
    """Return a lane that takes nothing; it goes on when it is assigned again and the cause is mended."""
    offset = item.committed.offset if item.committed else item.low
    halt = Halted(item.partition, offset, code, why, Step.OPEN)
    return PartitionState(
        item.partition, item.topic_id, offset, item.committed, read_to=offset, is_open=False, halt=halt
    )


def cut_off(state: PartitionState, cut: Cut) -> PartitionState:
    """Return a lane in place of one whose log was cut: it takes nothing until a person has decided."""
    halt = Halted(state.partition, state.position, HaltCode.TRUNCATED, cut_sentence(state.position, cut), Step.READ)
    return PartitionState(
        state.partition,
        state.topic_id,
        state.position,
        state.committed,
        read_to=state.position,
        is_open=False,
        halt=halt,
    )


def cut_sentence(position: int, cut: Cut) -> str:
    """Return what is known of a log that was cut below what was read or promised of it."""
    where = "" if cut.end is None else f" at or below offset {cut.end}"
    return (
        f"the log was cut{where}, and what it has there now is not what was read (an unclean election, or a restored"
        f" copy): all below offset {position} was inserted and stays in the tables, and newer records may wait"
        f" below that offset; {RESUME}"
    )
