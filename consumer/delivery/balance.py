"""Memory: which partitions to pause and resume, so that what waits keeps to one bound.

Over half of the bound, a partition that holds more than its share of that half is paused; so all together never hold
more than the bound and what one poll brings, and one that is stuck does not starve the others. It goes on below half
of its share, or once a quarter of the bound is left. A partition that reads a predecessor's range goes on in any
case: that range is one batch, and only its end frees it.
"""

from collections.abc import Collection

from consumer.delivery.partition import Lane


def pauses(lanes: Collection[Lane], bound_bytes: int) -> tuple[list[Lane], list[Lane]]:
    """Return the open lanes to pause now, and those to resume."""
    total = sum(lane.size_bytes for lane in lanes)
    share = bound_bytes / 2 / max(1, len(lanes))
    paused, resumed = [], []
    for lane in lanes:
        if not lane.is_open:
            continue
        if lane.is_paused:
            if lane.size_bytes <= share / 2 or total <= bound_bytes / 4:
                resumed.append(lane)
        elif total >= bound_bytes / 2 and lane.size_bytes >= share and lane.replay is None:
            paused.append(lane)
    return paused, resumed
