"""Where to begin with a partition that was just assigned: what the group's mark says, and when to stay away."""

import logging

from consumer.intent import UnreadableError, decode
from consumer.lane import Lane
from consumer.ports import Assigned

log = logging.getLogger(__name__)


def open_lane(item: Assigned) -> Lane | None:
    """Return the lane of a newly assigned partition, or None when reading on would skip records or repeat them.

    A mark of another incarnation of the topic says nothing about this one, which is read from its start.
    """
    if item.committed is None:
        return Lane(item.partition, item.topic_id, item.low, None, read_to=item.low)
    try:
        intent = decode(item.committed.metadata)
    except UnreadableError:
        _tell(item, "another program or a newer worker commits in this group")
        return None
    if intent and intent.topic_id != item.topic_id:
        log.error("topic was made anew; reading it from its start", extra={"topic": item.partition.topic})
        return Lane(item.partition, item.topic_id, item.low, None, read_to=item.low)
    offset = item.committed.offset
    if offset < item.low:
        _tell(item, "records were deleted before they were read")
        return None
    replay = intent if intent and intent.is_range and intent.a == offset else None
    return Lane(item.partition, item.topic_id, offset, item.committed, replay, read_to=offset)


def _tell(item: Assigned, why: str) -> None:
    committed = item.committed.offset if item.committed else -1
    log.error(
        "partition halted: %s; set the group's offset to go on",
        why,
        extra={"partition": item.partition.number, "committed": committed, "low": item.low},
    )
