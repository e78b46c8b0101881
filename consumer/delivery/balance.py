"""Memory: which partitions to pause and resume, so that what waits keeps to one bound.

Over half of the bound, a partition that holds more than its share of that half is paused; so all together never hold
more than the bound and what one poll brings, and one that is stuck does not starve the others. It goes on below half
of its share, or once a quarter of the bound is left. A partition that reads a predecessor's range goes on in any
case: that range is one batch, and only its end frees it.
"""

from collections.abc import Collection

from consumer.delivery.partition import PartitionState


def pauses(states: Collection[PartitionState], bound_bytes: int) -> tuple[list[PartitionState], list[PartitionState]]:
    """Return the open lanes to pause now, and those to resume."""
    total = sum(state.size_bytes for state in states)
    share = bound_bytes / 2 / max(1, len(states))
    paused, resumed = [], []
    for state in states:
        if not state.is_open:
            continue
        if state.is_paused:
            if state.size_bytes <= share / 2 or total <= bound_bytes / 4:
                resumed.append(state)
        elif total >= bound_bytes / 2 and state.size_bytes >= share and state.replay is None:
            paused.append(state)
    return paused, resumed
