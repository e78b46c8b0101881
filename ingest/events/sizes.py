"""Events that are too much as a whole, found before they are judged: by their bytes, members and names."""

from typing import Any

from ingest.errors import ErrorCode, Fault, Rejected, Rule
from ingest.events.envelope import BODY
from ingest.events.lines import sent_events
from ingest.events.structure import count_names, may_have_names


def oversize(body: bytes, bytes_max: int, *, is_lines: bool) -> dict[int, Fault]:
    """Return the faults of the events over the size limit, by index; free for a body that is under it as a whole."""
    if len(body) <= bytes_max:
        return {}
    sizes = enumerate(map(len, sent_events(body, is_lines=is_lines)))
    return {index: too_large(index, bytes_max) for index, size in sizes if size > bytes_max}


def too_large(index: int, bytes_max: int) -> Fault:
    """Return the fault of an event over the size limit."""
    return Fault(Rule.SIZE, f"/{BODY}/{index}", f"an event must have at most {bytes_max} bytes", index)


def crowded(body: bytes, events: list[Any], most: tuple[int, int], depth: int) -> dict[int, Fault]:
    """Return the faults of the events of too many members, by index; next to nothing for a request that has none.

    Args:
        body: the request.
        events: as parsed.
        most: members of an event, and paths of all together.
        depth: the levels that are counted.

    Raises:
        Rejected: 413, all events together have too many names.
    """
    members_max, paths_max = most
    if not may_have_names(body, events, members_max, paths_max):
        return {}
    members, paths = count_names(events, depth)
    if paths > paths_max:
        message = f"the events have more than {paths_max} different names, send fewer at once"
        raise Rejected(ErrorCode.TOO_MANY_NAMES, message)
    message = f"an event must have at most {members_max} members, with those of the objects in it"
    return {
        index: Fault(Rule.MEMBERS, f"/{BODY}/{index}", message, index)
        for index, count in enumerate(members)
        if count > members_max
    }
