"""Opens a newly assigned partition: decides from the group's commit where to read, or whether to halt."""

import logging
import re
from typing import Final

from consumer.delivery.continuity import Continuity
from consumer.delivery.halting import Halted, Step
from consumer.delivery.intent import NO_EPOCH, NO_SHARD, Intent, UnreadableError, decode
from consumer.delivery.partition import PartitionState
from consumer.delivery.ports import Assigned, CommittedOffset, Cut, Position
from consumer.delivery.reading import Intake
from consumer.errors import HaltCode

log = logging.getLogger(__name__)

_CLUSTER_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")

SET_OFFSET: Final = (
    'stop the workers and set the group\'s offset to go on (docs/OPERATIONS.md, "A partition is halted")'
)
RESUME: Final = (
    "stop the workers, run `python -m consumer resume --go` (without --go it only shows what is where), and start them"
)


MIRRORED: Final = (
    "the group's commit is of the Kafka cluster {other}, and this is {own}: the topic is a copy, whose records may be"
    " in the tables; stop the workers, run `python -m consumer adopt --go`, and start them"
)


def open_state(item: Assigned, *, keeps_metadata: bool = True, cluster_id: str = "", shards: int = 0) -> PartitionState:
    """Return the state of a newly assigned partition; it is halted when reading on would skip or repeat records.

    A commit with another topic ID is of an earlier topic of that name; the new one is read from its start. But if it is
    of another Kafka cluster, the topic is a copy, whose records may be in the tables. On a broker that
    `keeps_metadata`, a commit without metadata is a tool's; then no later offset may be in the tables.

    Batches go to one of `shards` ClickHouse shards, by their partition; a predecessor's to the one that it names.
    """
    cluster_id = known_cluster_id(cluster_id)
    if other := mirrored_from(item.committed, cluster_id):
        return halted(item, HaltCode.MIRRORED, MIRRORED.format(other=other, own=cluster_id))
    state = _opened(item, keeps_metadata=keeps_metadata)
    if state.replay and (why := _shard_fault(state.replay.shard, shards)):
        return halted(item, HaltCode.SHARD, why)
    state.cluster_id = cluster_id
    state.shard = item.partition.number % shards + 1 if shards else NO_SHARD
    return state


def known_cluster_id(cluster_id: str) -> str:
    """Return a Kafka cluster's id as intents have it; "" for none, or one that is no id."""
    return cluster_id if _CLUSTER_ID.fullmatch(cluster_id) and cluster_id != "None" else ""


def mirrored_from(mark: CommittedOffset | None, cluster_id: str) -> str:
    """Return the id of the Kafka cluster that a commit is of, if it is another one; else "".

    Programs that copy topics to another cluster copy commits too, with their metadata (MirrorMaker 2).
    """
    try:
        intent = decode(mark.metadata) if mark else None
    except UnreadableError:
        return ""
    other = intent.cluster_id if intent else ""
    return other if cluster_id and other != cluster_id else ""


def _opened(item: Assigned, *, keeps_metadata: bool) -> PartitionState:
    if item.committed is None:
        return PartitionState(item.partition, item.topic_id, item.low, None, read_to=item.low, inserted_max=0)
    mark = item.committed
    try:
        intent = decode(mark.metadata)
    except UnreadableError:
        why = "another program or a newer worker commits in this group: give it another group, or upgrade this worker"
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
            state.leader_epoch = intent.leader_epoch  # some brokers keep the metadata but not the epoch
    return state


def _shard_fault(shard: int, shards: int) -> str:
    """Return why this worker can't insert a range that goes to a shard; "" when it can.

    A range without a shard was meant for a single server, which is the cluster's first shard.
    """
    if shard == NO_SHARD or 0 < shard <= shards:
        return ""
    there = f"the ClickHouse cluster has {shards}" if shards else "this worker inserts into a single server"
    return (
        f"its unfinished batch goes to shard {shard}, and {there}: give all workers the same"
        " CONSUMER_CLICKHOUSE_CLUSTER, and remove no shard before its batches are finished"
    )


def start_of(state: PartitionState) -> Position:
    """Return where to start reading: at the last record read, if it must be read again for comparison."""
    before = state.continuity
    return Position(before.last_offset if before.is_proving else state.read_to, before.leader_epoch)


def halted(item: Assigned, code: HaltCode, why: str) -> PartitionState:
    """Return a state that reads nothing, until the partition is assigned again and the cause is repaired."""
    offset = item.committed.offset if item.committed else item.low
    halt = Halted(item.partition, offset, code, why, Step.OPEN)
    return PartitionState(
        item.partition, item.topic_id, offset, item.committed, read_to=offset, intake=Intake.CLOSED, halt=halt
    )


def cut_off(state: PartitionState, cut: Cut) -> PartitionState:
    """Return a state that reads nothing, for a partition whose log was cut: an operator must decide."""
    halt = Halted(state.partition, state.position, HaltCode.TRUNCATED, cut_sentence(state.position, cut), Step.READ)
    return PartitionState(
        state.partition,
        state.topic_id,
        state.position,
        state.committed,
        read_to=state.position,
        intake=Intake.CLOSED,
        halt=halt,
    )


def cut_sentence(position: int, cut: Cut) -> str:
    """Return a sentence about a log that was cut below what was read or promised."""
    where = "" if cut.end is None else f" at or below offset {cut.end}"
    return (
        f"the log was cut{where}, and its records there are not those that were read (an unclean election, or a"
        f" restored copy): everything below offset {position} was inserted and stays in the tables, and newer records"
        f" may wait below that offset; {RESUME}"
    )
