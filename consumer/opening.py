"""Where to begin with a partition that was just assigned: what the group's mark says, and when to stay away."""

import logging
from typing import Final

from consumer.errors import HaltCode
from consumer.halting import Halted, Step
from consumer.intent import UnreadableError, decode
from consumer.lane import Lane
from consumer.ports import Assigned

log = logging.getLogger(__name__)

SET_OFFSET: Final = (
    'stop the workers and set the group\'s offset to go on (docs/OPERATIONS.md, "A partition is halted")'
)


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
        why = "another program or a newer worker commits in this group: give it a group of its own, or upgrade this one"
        return halted(item, HaltCode.FOREIGN_MARK, why)
    if intent and intent.topic_id != item.topic_id:
        log.error("topic was made anew; reading it from its start", extra={"topic": item.partition.topic})
        return Lane(item.partition, item.topic_id, item.low, None, read_to=item.low)
    if offset < item.low:
        why = f"records up to offset {item.low} were deleted before they were read; {SET_OFFSET}"
        return halted(item, HaltCode.DELETED, why)
    replay = intent if intent and intent.is_range and intent.a == offset else None
    return Lane(item.partition, item.topic_id, offset, item.committed, replay, read_to=offset)


def halted(item: Assigned, code: HaltCode, why: str) -> Lane:
    """Return a lane that takes nothing; it goes on when it is assigned again and the cause is mended."""
    offset = item.committed.offset if item.committed else item.low
    halt = Halted(item.partition, offset, code, why, Step.OPEN)
    return Lane(item.partition, item.topic_id, offset, item.committed, read_to=offset, is_open=False, halt=halt)
