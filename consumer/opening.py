"""Where to begin with a partition that was just assigned: what the group's mark says, and when to stay away."""

import logging

from consumer.intent import UnreadableError, decode
from consumer.lane import Lane
from consumer.ports import Assigned

log = logging.getLogger(__name__)


def open_lane(item: Assigned) -> Lane:
    """Return the lane of a newly assigned partition, halted when reading on would skip records or repeat them.

    A mark of another incarnation of the topic says nothing about this one, which is read from its start.
    """
    if item.committed is None:
        return Lane(item.partition, item.topic_id, item.low, None, read_to=item.low)
    offset = item.committed.offset
    try:
        intent = decode(item.committed.metadata)
    except UnreadableError:
        return halted(item, "another program or a newer worker commits in this group")
    if intent and intent.topic_id != item.topic_id:
        log.error("topic was made anew; reading it from its start", extra={"topic": item.partition.topic})
        return Lane(item.partition, item.topic_id, item.low, None, read_to=item.low)
    if offset < item.low:
        return halted(item, "records were deleted before they were read")
    replay = intent if intent and intent.is_range and intent.a == offset else None
    return Lane(item.partition, item.topic_id, offset, item.committed, replay, read_to=offset)


def halted(item: Assigned, why: str) -> Lane:
    """Return a lane that takes nothing, and say so; only the topic being made anew can end that by itself."""
    offset = item.committed.offset if item.committed else item.low
    facts = {"topic": item.partition.topic, "partition": item.partition.number, "offset": offset, "low": item.low}
    log.error("partition halted: %s; set the group's offset to go on", why, extra=facts)
    return Lane(item.partition, item.topic_id, offset, item.committed, read_to=offset, is_open=False, is_halted=True)
