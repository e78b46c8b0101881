"""Memory: which partitions wait when there is little left."""

from consumer.delivery.balance import pauses
from consumer.delivery.intent import Intent
from consumer.delivery.partition import Intake, PartitionState
from consumer.delivery.ports import RECORD_OVERHEAD_BYTES, Partition, Record


def lane(number: int, size_bytes: int, **fields: object) -> PartitionState:
    """Return a state that needs so many bytes."""
    place = Partition("events", number)
    made = PartitionState(place, "id", 0, None)
    if size_bytes:
        made.add(Record(place, 0, 0, b"", b"x" * (size_bytes // 2 - RECORD_OVERHEAD_BYTES)), 0.0)
    for name, value in fields.items():
        setattr(made, name, value)
    assert made.size_bytes == size_bytes
    return made


def numbers(lanes: list[PartitionState]) -> list[int]:
    """Return the partitions' numbers."""
    return [item.partition.number for item in lanes]


def test_below_half_of_the_bound_nobody_waits() -> None:
    """One busy partition may hold nearly half of the bound."""
    assert pauses([lane(0, 49_000), lane(1, 0)], 100_000) == ([], [])


def test_over_half_of_the_bound_those_above_their_share_wait() -> None:
    """The share is that of the half; the others go on until they reach it."""
    paused, resumed = pauses([lane(0, 45_000), lane(1, 8000), lane(2, 12_000), lane(3, 13_000)], 100_000)

    assert (numbers(paused), resumed) == ([0, 3], [])


def test_all_together_never_pass_the_bound() -> None:
    """The worst case: one holds half of the bound, each of the others just less than its share of that half."""
    lanes = [lane(0, 50_000), *(lane(number, 12_498) for number in (1, 2, 3))]

    assert numbers(pauses(lanes, 100_000)[0]) == [0]
    assert sum(item.size_bytes for item in lanes) < 100_000


def test_a_partition_goes_on_below_half_of_its_share() -> None:
    """Whatever another one holds: a stuck partition does not starve the rest."""
    _, resumed = pauses([lane(0, 60_000, intake=Intake.PAUSED), lane(1, 12_000, intake=Intake.PAUSED)], 100_000)

    assert numbers(resumed) == [1]


def test_all_go_on_once_little_is_left() -> None:
    """A quarter of the bound is little."""
    lanes = [lane(0, 24_000, intake=Intake.PAUSED), lane(1, 0, intake=Intake.PAUSED)]

    assert numbers(pauses(lanes, 100_000)[1]) == [0, 1]


def test_a_predecessors_range_is_read_to_its_end() -> None:
    """Its batch is sealed only when its last record is there: to pause it would be for ever."""
    lanes = [lane(0, 90_000, replay=Intent("id", 0, 500)), lane(1, 30_000)]

    assert numbers(pauses(lanes, 100_000)[0]) == [1]


def test_closed_partitions_are_left_alone() -> None:
    """One that takes nothing any more is neither paused nor resumed."""
    lanes = [lane(0, 90_000, intake=Intake.CLOSED), lane(1, 0, intake=Intake.CLOSED)]

    assert pauses(lanes, 100_000) == ([], [])
    assert pauses([], 100_000) == ([], [])
