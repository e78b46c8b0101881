"""Memory: which partitions wait when there is little left, and which one goes on."""

from hypothesis import given
from hypothesis import strategies as st

from consumer.delivery.balance import TURN_S, balance
from consumer.delivery.batch import Batch
from consumer.delivery.buffer import LARGE_ROWS
from consumer.delivery.halting import Halted, Step
from consumer.delivery.intent import Intent
from consumer.delivery.partition import PartitionState
from consumer.delivery.ports import RECORD_OVERHEAD_BYTES, Partition, Record
from consumer.delivery.reading import Intake
from consumer.delivery.task import BatchTask
from consumer.errors import HaltCode

BOUND = 100_000


def waiting(number: int, size_bytes: int, **fields: object) -> PartitionState:
    """Return a state that needs so many bytes; those with a higher number were sealed later."""
    place = Partition("events", number)
    made = PartitionState(place, "id", 0, None, sealed_at_s=float(number))
    if size_bytes:
        made.add(Record(place, 0, 0, b"", b"x" * (size_bytes - RECORD_OVERHEAD_BYTES)), 0.0)
    for name, value in fields.items():
        setattr(made, name, value)
    assert made.size_bytes == size_bytes
    return made


def stuck(number: int, size_bytes: int) -> PartitionState:
    """Return a state that waits for an operator."""
    return waiting(number, size_bytes, halt=Halted(Partition("events", number), 0, HaltCode.REFUSED, "", Step.INSERT))


def numbers(states: list[PartitionState]) -> list[int]:
    """Return the partitions' numbers."""
    return [item.partition.number for item in states]


def test_below_half_of_the_bound_nobody_waits() -> None:
    """One busy partition may hold nearly half of the bound."""
    assert balance([waiting(0, 49_000), waiting(1, 0)], BOUND) == ([], [], None, None)


def test_over_half_of_the_bound_only_the_one_goes_on_that_was_sealed_longest_ago() -> None:
    """So its batch grows large, whatever the others hold."""
    paused, resumed, squeezed, _ = balance([waiting(1, 9000), waiting(0, 30_000), waiting(2, 12_000)], BOUND)

    assert (numbers(paused), resumed, squeezed) == ([1, 2], [], None)


def far_behind(number: int, size_bytes: int, **fields: object) -> PartitionState:
    """Return a state that has read some of a large backlog."""
    return waiting(number, size_bytes, known_end=LARGE_ROWS + 100, **fields)


def test_partitions_that_are_far_behind_take_turns() -> None:
    """However little memory is in use: each one's batch is full, and inserted, before the next one's is."""
    states = [far_behind(1, 5000), far_behind(0, 5000), far_behind(2, 5000)]
    paused, resumed, squeezed, _ = balance(states, BOUND)
    assert (numbers(paused), resumed, squeezed) == ([1, 2], [], None)

    for state in states:
        state.intake = Intake.PAUSED
    states[1].sealed_at_s = 9.0
    paused, resumed, squeezed, _ = balance(states, BOUND)
    assert (paused, numbers(resumed), squeezed) == ([], [1], None)


def test_a_turn_that_takes_long_holds_up_nobody() -> None:
    """A slow broker's partition reads on, and the next one begins; once its batch is sealed it gets a turn again."""
    slow, other, third = states = [far_behind(0, 5000), far_behind(1, 5000), far_behind(2, 5000)]
    slow.turn_at_s = 0.0
    assert balance(states, BOUND, TURN_S - 0.1).turn is slow
    other.intake = third.intake = Intake.PAUSED

    paused, resumed, _, turn = balance(states, BOUND, TURN_S)
    assert (paused, numbers(resumed), turn) == ([], [1], other)

    near = waiting(3, 1000, sealed_at_s=-1.0)  # the first of all, which needs no turn
    paused, resumed, _, turn = balance([*states, near], BOUND, TURN_S)
    assert (paused, numbers(resumed), turn) == ([], [1], other)

    other.turn_at_s = third.turn_at_s = 0.0
    other.intake = third.intake = Intake.OPEN
    assert balance(states, BOUND, TURN_S) == ([], [], None, None)
    slow.turn_at_s = None
    assert balance(states, BOUND, TURN_S).turn is slow


def test_a_partition_that_is_not_far_behind_awaits_no_turn() -> None:
    """Its few records would grow old behind large batches of others."""
    paused, resumed, *_ = balance(
        [far_behind(0, 5000), waiting(1, 5000), waiting(2, 5000, intake=Intake.PAUSED)], BOUND
    )

    assert (paused, numbers(resumed)) == ([], [2])


def test_large_batches_of_others_do_not_hold_up_a_few_new_records() -> None:
    """One batch is inserted while the next one is read: then more than half of the bound is in use all the time."""
    states = [far_behind(0, 70_000), waiting(1, 2000, sealed_at_s=9.0), waiting(2, 0, intake=Intake.PAUSED)]
    paused, resumed, squeezed, _ = balance(states, BOUND)

    assert (paused, numbers(resumed), squeezed) == ([], [2], None)


def test_a_turn_needs_no_more_than_that_half_is_free() -> None:
    """Partitions that are not far behind do not hold up the one whose turn it is."""
    states = [waiting(0, 30_000), far_behind(1, 5000, intake=Intake.PAUSED)]
    assert numbers(balance(states, BOUND).resumed) == [1]

    states = [waiting(0, 50_000), far_behind(1, 5000, intake=Intake.PAUSED)]
    assert balance(states, BOUND).resumed == []


def test_a_halted_partition_awaits_no_turn() -> None:
    """Paused, it could not show that it may be read again."""
    halted = stuck(0, 5000)
    halted.known_end = LARGE_ROWS + 100
    paused, resumed, *_ = balance([halted, far_behind(1, 5000)], BOUND)
    assert (paused, resumed) == ([], [])

    halted.intake = Intake.PAUSED
    assert numbers(balance([halted, far_behind(1, 5000)], BOUND).resumed) == [0]


def test_what_a_turn_left_unread_is_read_beside_the_next_ones() -> None:
    """Near its log's end a partition is no longer far behind."""
    near = far_behind(0, 5000, intake=Intake.PAUSED)
    near.read_to = near.known_end - 100

    assert numbers(balance([near, far_behind(1, 5000)], BOUND).resumed) == [0]


def test_a_turn_passes_on_when_nothing_comes() -> None:
    """The broker of the first one is away: once what it had is sealed, the others go on."""
    silent = far_behind(0, 0, sealed_at_s=-1.0)
    paused, resumed, *_ = balance([silent, far_behind(1, 5000, intake=Intake.PAUSED)], BOUND)

    assert (paused, numbers(resumed)) == ([], [1])


def test_the_next_one_resumes() -> None:
    """It was paused while another one had its turn."""
    paused, resumed, *_ = balance([waiting(0, 20_000, intake=Intake.PAUSED), waiting(1, 40_000)], BOUND)

    assert (numbers(paused), numbers(resumed)) == ([1], [0])


def test_an_idle_partition_is_neither_next_nor_paused() -> None:
    """It reads nothing, and holds nothing; its turn would never end."""
    paused, _, squeezed, _ = balance([waiting(0, 0), waiting(1, 40_000), waiting(2, 40_000)], BOUND)

    assert (numbers(paused), squeezed and squeezed.partition.number) == ([1, 2], 1)


def test_a_batch_that_has_no_room_to_grow_is_sealed() -> None:
    """Nothing else would free memory before the batch is very old."""
    states = [waiting(0, 40_000), waiting(1, 36_000, intake=Intake.PAUSED)]
    paused, resumed, squeezed, _ = balance(states, BOUND)

    assert (numbers(paused), resumed, squeezed) == ([0], [], states[0])


def test_a_batch_without_room_waits_for_a_running_insert() -> None:
    """It frees memory; sealed now, the batch would stay small."""
    busy = waiting(0, 36_000, intake=Intake.PAUSED)
    busy.tasks.append(BatchTask(Batch(busy.partition, Intent("id", 0, 1), (), 10_000)))

    assert balance([busy, waiting(1, 36_000)], BOUND).squeezed is None


def test_stuck_partitions_do_not_starve_the_others() -> None:
    """Each of the others in turn reads up to its share of the last quarter."""
    paused, resumed, squeezed, _ = balance(
        [stuck(0, 76_000), waiting(1, 12_000, intake=Intake.PAUSED), waiting(2, 0)], BOUND
    )
    assert (numbers(paused), resumed, squeezed and squeezed.partition.number) == ([0], [], 1)

    paused, resumed, squeezed, _ = balance(
        [stuck(0, 76_000), waiting(1, 8000, intake=Intake.PAUSED), waiting(2, 0)], BOUND
    )
    assert (numbers(paused), numbers(resumed), squeezed) == ([0], [1], None)


def test_a_partition_with_two_batches_is_not_next() -> None:
    """It can seal no third one."""
    place = Partition("events", 0)
    busy = waiting(0, 10_000)
    for a in (0, 1):
        busy.tasks.append(BatchTask(Batch(place, Intent("id", a, a + 1), (), 20_000)))
    paused, resumed, *_ = balance([busy, waiting(1, 5000, intake=Intake.PAUSED)], 200_000)

    assert (numbers(paused), numbers(resumed)) == ([], [1])


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), max_size=300), st.integers(1, 5))
def test_all_together_never_pass_the_bound(polls: list[tuple[int, bool, bool]], count: int) -> None:
    """Only a poll can come on top of the bound; and one reads on as long as half of it is free."""
    states, poll_bytes = [waiting(number, 0) for number in range(count)], 4000
    for now_s, (number, sticks, is_far) in enumerate(polls):
        state = states[number % count]
        state.halt = stuck(0, 0).halt if sticks else state.halt
        if state.intake is Intake.OPEN:
            record = Record(state.partition, state.read_to, 0, b"", b"x" * (poll_bytes - RECORD_OVERHEAD_BYTES))
            state.add(record, 0.0)
        state.known_end = state.read_to + (LARGE_ROWS + 1 if is_far else 0)
        paused, resumed, squeezed, _ = balance(states, BOUND)
        for item in (*paused, *resumed):
            item.intake = Intake.PAUSED if item in paused else Intake.OPEN
        if squeezed is not None:
            squeezed.buffer.take_below(squeezed.read_to)
            squeezed.sealed_at_s = now_s
        size_bytes = sum(item.size_bytes for item in states)
        assert size_bytes <= BOUND + poll_bytes
        assert size_bytes >= BOUND / 2 or any(item.intake is Intake.OPEN for item in states)


def test_all_go_on_once_little_is_left() -> None:
    """A quarter of the bound is little."""
    states = [waiting(0, 24_000, intake=Intake.PAUSED), waiting(1, 0, intake=Intake.PAUSED)]

    assert numbers(balance(states, BOUND).resumed) == [0, 1]


def test_a_predecessors_range_is_read_to_its_end() -> None:
    """Its batch is sealed only when its last record is there: to pause it would be for ever."""
    states = [waiting(0, 90_000, replay=Intent("id", 0, 500)), waiting(1, 30_000)]

    assert numbers(balance(states, BOUND).paused) == [1]


def test_closed_partitions_are_left_alone() -> None:
    """One that takes nothing any more is neither paused nor resumed."""
    states = [waiting(0, 90_000, intake=Intake.CLOSED), waiting(1, 0, intake=Intake.CLOSED)]

    assert balance(states, BOUND) == ([], [], None, None)
    assert balance([], BOUND) == ([], [], None, None)
