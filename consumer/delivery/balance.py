"""Decides which partitions to pause and resume, so that waiting records stay within one memory bound.

Under a backlog a few large inserts cost ClickHouse half as much as many small ones. So partitions that are far behind
take turns: one of them reads until its batch is full, and is inserted while the next one reads. The others go on. A
turn that takes long, because the partition's broker is slow, holds up nobody any more: the next one begins.

Above half of the bound only one partition of all reads on, until its batch is full or three quarters of the bound are
in use. When no running insert will free memory, its batch is sealed as it is. The partition that was sealed longest ago
is next. That one reads up to its share of the last quarter whatever the others hold, so stuck partitions do not starve
the others, and so does each one that is not far behind, so large batches of others do not make its few records grow
old. A partition that holds nothing is not paused: beyond the bound, each such partition may add one poll.

All but those that await their turn resume when less than a quarter of the bound is in use. A partition that reads a
predecessor's range is never paused: that range is one batch, and only its end frees it.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from consumer.delivery.partition import PartitionState
from consumer.delivery.reading import Intake

TURN_S: Final = 3.0
"""A turn holds up the others for so long; at 50,000 records a second a batch is full in two."""


class Balance(NamedTuple):
    """What to do now.

    Attributes:
        paused: open partitions to pause.
        resumed: partitions to resume.
        squeezed: the one whose batch can't grow and must be sealed, if any.
        turn: the one that is far behind and whose turn it is, if any.
    """

    paused: list[PartitionState]
    resumed: list[PartitionState]
    squeezed: PartitionState | None = None
    turn: PartitionState | None = None


def balance(states: Collection[PartitionState], bound_bytes: int, now_s: float = 0.0) -> Balance:
    """Return what to do with these partitions at a moment (monotonic)."""
    total = sum(state.size_bytes for state in states)
    is_busy = any(state.tasks and not _is_stuck(state) for state in states)  # that will free memory
    share = bound_bytes / 4 / max(1, len(states))
    going = sorted(filter(_can_go_on, states), key=lambda state: state.sealed_at_s)
    next_one = next(iter(going), None)
    next_far = next((state for state in going if state.is_far_behind and not _is_late(state, now_s)), None)
    has_room = next_one is not None and (total < bound_bytes * 3 / 4 or next_one.size_bytes < share)
    made = Balance([], [], None if has_room or is_busy else next_one, next_far)
    for state in states:
        reads = (state is next_one and has_room) or _is_live(state, share)
        awaits_turn = next_far is not None and state.turn_at_s is None and state is not next_far and _takes_turns(state)
        freely_bytes = 0.0 if awaits_turn else bound_bytes / (2 if state is next_far else 4)
        if state.intake is Intake.PAUSED and (reads or total < freely_bytes):
            made.resumed.append(state)
        elif not reads and (awaits_turn or total >= bound_bytes / 2) and _can_pause(state):
            made.paused.append(state)
    return made


def _can_pause(state: PartitionState) -> bool:
    return state.intake is Intake.OPEN and state.replay is None and state.size_bytes > 0


def _can_go_on(state: PartitionState) -> bool:
    """Tell whether a partition has, or may have, records to read, and will insert them soon."""
    if state.intake is Intake.CLOSED or state.replay is not None:
        return False
    if state.intake is Intake.OPEN and not state.buffer.records:
        return False
    return not _is_stuck(state) and len(state.tasks) < 2  # noqa: PLR2004  (the head, and the next one)


def _takes_turns(state: PartitionState) -> bool:
    """Tell whether a partition is read in turns. A stuck one is not: paused, it could not show that it can go on."""
    return state.is_far_behind and not _is_stuck(state)


def _is_late(state: PartitionState, now_s: float) -> bool:
    """Tell whether a partition's turn has taken so long that the next one begins."""
    return state.turn_at_s is not None and now_s - state.turn_at_s >= TURN_S


def _is_live(state: PartitionState, share: float) -> bool:
    """Tell whether a partition has so little to read that it fits beside the batches of those that are far behind."""
    return not state.is_far_behind and state.size_bytes < share and not _is_stuck(state)


def _is_stuck(state: PartitionState) -> bool:
    return state.halt is not None or state.is_retrying
