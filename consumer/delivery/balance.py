"""Decides which partitions to pause and resume, so that waiting records stay within one memory bound.

Above half of the bound, a partition that holds more than its share of that half is paused. So together they never hold
more than the bound and one poll, and a stuck partition does not starve the others. It resumes below half of its share,
or when less than a quarter of the bound is in use. A partition that reads a predecessor's range is never paused: that
range is one batch, and only its end frees it.
"""

from collections.abc import Collection

from consumer.delivery.partition import Intake, PartitionState


def pauses(states: Collection[PartitionState], bound_bytes: int) -> tuple[list[PartitionState], list[PartitionState]]:
    """Return the open partitions to pause now, and those to resume."""
    total = sum(state.size_bytes for state in states)
    share = bound_bytes / 2 / max(1, len(states))
    paused, resumed = [], []
    for state in states:
        if state.intake is Intake.CLOSED:
            continue
        if state.intake is Intake.PAUSED:
            if state.size_bytes <= share / 2 or total <= bound_bytes / 4:
                resumed.append(state)
        elif total >= bound_bytes / 2 and state.size_bytes >= share and state.replay is None:
            paused.append(state)
    return paused, resumed
