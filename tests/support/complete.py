"""What complete_until says of heartbeats, written out; a test compares the view with it."""

from collections.abc import Sequence

from consumer.operations.completeness import Heartbeat


def complete_ms(beats: Sequence[Heartbeat]) -> int:
    """Return until when one topic is complete by these heartbeats of it; 0 when that is not known."""
    if not beats:
        return 0
    return min(_of(number, beats) for number in range(max(beat.partitions for beat in beats)))


def _of(number: int, beats: Sequence[Heartbeat]) -> int:
    claimed = [beat.complete_ms for beat in beats if beat.partition.number == number]
    not_there = [beat.counted_ms for beat in beats if beat.partitions <= number]
    return max(*claimed, *not_there, 0, 0)
