"""No schedule of workers, halts, lost beats and added partitions leads to a claim of completeness that is false."""

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.delivery.halting import Halted, Step
from consumer.delivery.ports import Partition
from consumer.errors import HaltCode
from consumer.health import PartitionProgress
from consumer.kafka.admin import Topic
from consumer.operations.completeness import Completeness, Heartbeat, Look
from tests.support.complete import complete_ms


@dataclass
class World:
    """A topic with its log, workers who own partitions, and when each record came."""

    arrival_s: int = 3
    topic: str = "events"
    now_s: int = 100
    logs: list[list[int]] = field(default_factory=lambda: [[], []])
    done: list[int] = field(default_factory=lambda: [0, 0])
    halted: set[int] = field(default_factory=set)
    workers: list[Completeness] = field(default_factory=list)
    owners: list[int] = field(default_factory=lambda: [0, 0])
    unheard: int = 0
    beats: list[Heartbeat] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workers = [Completeness(self.arrival_s), Completeness(self.arrival_s)]

    def append(self, number: int, age_s: int) -> None:
        """Bring an event into the log, some time after its receipt."""
        self.logs[number % len(self.logs)].append(self.now_s - age_s)

    def insert(self, number: int, count: int) -> None:
        """Insert some records of a partition, if it is not halted and its owner has heard of it."""
        number %= len(self.logs) - self.unheard
        if number not in self.halted:
            self.done[number] = min(len(self.logs[number]), self.done[number] + count)

    def halt(self, number: int) -> None:
        """Halt a partition, or end its halt."""
        self.halted ^= {number % len(self.logs)}

    def move(self, number: int) -> None:
        """Give a partition to another worker, which begins without memory."""
        number %= len(self.logs)
        self.owners[number] = (self.owners[number] + 1) % 3  # the third is a worker that is down

    def restart(self, number: int) -> None:
        """Replace a worker."""
        self.workers[number % 2] = Completeness(self.arrival_s)

    def add(self) -> None:
        """Add a partition with an event in it; no worker owns it yet."""
        if len(self.logs) < 5:
            self.logs.append([self.now_s])
            self.done.append(0)
            self.owners.append(2)
            self.unheard += 1

    def assign(self) -> None:
        """Let workers hear of all partitions."""
        self.unheard = 0
        self.owners = [owner if owner != 2 else random.Random(self.now_s).randrange(2) for owner in self.owners]

    def beat(self, number: int, *, does_arrive: bool) -> None:
        """Let a worker beat; a record may come between the look at its progress and the answer of the brokers."""
        mine = [place for place, owner in enumerate(self.owners) if owner == number % 2]
        progress = {
            Partition(self.topic, place): PartitionProgress(
                self.done[place],
                None,
                0.0,
                halt=Halted(Partition(self.topic, place), 0, HaltCode.TABLE, "", Step.INSERT)
                if place in self.halted
                else None,
                topic_id="id-1",
            )
            for place in mine
        }
        ends = {Partition(self.topic, place): len(self.logs[place]) for place in mine}
        look = Look((self.now_s) * 1000, ends, {self.topic: Topic("id-1", len(self.logs))})
        made = self.workers[number % 2].beat(look, progress)
        if does_arrive:
            self.beats += made

    def check(self) -> None:
        """Everything that was received before is inserted."""
        complete_s = complete_ms(self.beats) / 1000
        waiting = [at_s for log, done in zip(self.logs, self.done, strict=True) for at_s in log[done:]]
        assert all(at_s >= complete_s for at_s in waiting), (complete_s, sorted(waiting)[:3])


STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 4), st.integers(0, 2)),
    st.tuples(st.just("insert"), st.integers(0, 4), st.integers(1, 5)),
    st.tuples(st.just("beat"), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("beat"), st.integers(0, 1), st.just(True)),  # noqa: FBT003  (the beat arrives)
    st.tuples(st.just("wait"), st.integers(1, 10), st.none()),
    st.tuples(st.sampled_from(["halt", "move", "restart"]), st.integers(0, 4), st.none()),
    st.tuples(st.sampled_from(["add", "assign"]), st.none(), st.none()),
)


@settings(max_examples=300)
@given(steps=st.lists(STEPS, min_size=10, max_size=80))
def test_whatever_happens_no_claim_is_false(steps: list[tuple[str, int, int]]) -> None:
    """Workers that stop, move and forget, partitions that halt and are added, beats that get lost, late events."""
    world = World()
    for name, first, second in steps:
        if name == "wait":
            world.now_s += first
        elif name in ("append", "insert"):
            getattr(world, name)(first, second)
        elif name == "beat":
            world.beat(first, does_arrive=bool(second))
            world.check()
        elif name in ("add", "assign"):
            getattr(world, name)()
        else:
            getattr(world, name)(first)
    world.check()
    world.halted.clear()
    world.assign()
    world.done = [len(log) for log in world.logs]
    for _ in range(2):
        world.now_s += 10
        for number in range(2):
            world.beat(number, does_arrive=True)
    assert complete_ms(world.beats) == (world.now_s - 10 - world.arrival_s) * 1000
