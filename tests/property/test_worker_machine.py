"""The worker's promise under random schedules: each record one row, in the table and in its view, or a dead letter.

A schedule mixes polls, jobs that end when they like, crashes at every step, lost answers, inserts that land long after
they were given up, rebalances of both kinds, zombies, poison, servers that are away, a topic that is made anew and
retention that passes the group's mark. `HYPOTHESIS_PROFILE=long` tries 20,000 of them.
"""

import os

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from consumer.intent import Intent
from tests.support.fake_group import CommitFault
from tests.support.fake_table import InsertFault, value
from tests.support.world import PARTITIONS, SCHEMAS, World

WHICH = st.integers(0, 2)
NUMBERS = st.integers(0, PARTITIONS - 1)
VALUES = st.builds(
    value, st.sampled_from(SCHEMAS), st.integers(0, 2), st.sampled_from(["", "", "", "", "frame", "table"])
)
BATCH = st.lists(VALUES, min_size=1, max_size=8)
GOOD = st.builds(value, st.sampled_from(SCHEMAS), st.integers(0, 2), st.sampled_from(["", "", "frame"]))
BAD = st.builds(value, st.just(min(SCHEMAS)), st.integers(0, 2), st.just("table"))
NARROW = st.lists(GOOD | BAD, min_size=1, max_size=8)
DOUBLE = r"is there \d times|the view says|a row and a dead letter"
LOST = "nowhere|the view says"
IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SLICE = settings(max_examples=20_000 if IS_LONG else 60, stateful_step_count=60, deadline=None)


class Crashes(RuleBasedStateMachine):
    """Records, workers that crash, and inserts that go wrong; what can't happen at a moment does nothing."""

    keeps_metadata = True
    window = 10_000
    mends = True

    @initialize(is_eager=st.booleans())
    def begin(self, is_eager: bool) -> None:  # noqa: FBT001  (hypothesis calls it)
        """Start with one worker."""
        self.world = World(is_eager=is_eager, keeps_metadata=self.keeps_metadata, window=self.window, mends=self.mends)

    @rule(number=NUMBERS, values=BATCH, gap=st.sampled_from([0, 0, 1, 3]))
    def produce(self, number: int, values: list[bytes], gap: int) -> None:
        """Append records."""
        self.world.produce(number, values, gap)

    @rule(which=WHICH, turns=st.integers(1, 6))
    def work(self, which: int, turns: int) -> None:
        """Let a worker get on."""
        self.world.work(which, turns)

    @rule(which=WHICH)
    def turn(self, which: int) -> None:
        """Let a worker make one turn, its jobs where they are."""
        self.world.turn(which)

    @rule(which=WHICH, index=st.integers(0, 3), ends=st.booleans())
    def run_job(self, which: int, index: int, ends: bool) -> None:  # noqa: FBT001  (as above)
        """Let a job begin, or end."""
        (self.world.finish_job if ends else self.world.begin_job)(which, index)

    @rule(which=WHICH, landing=st.integers(0, 15), after_jobs=st.booleans())
    def crash(self, which: int, landing: int, after_jobs: bool) -> None:  # noqa: FBT001  (as above)
        """Kill a worker where it stands."""
        self.world.crash(which, landing, after_jobs=after_jobs)

    @rule(which=WHICH, number=NUMBERS, turns=st.integers(1, 8), values=st.tuples(BATCH, BATCH))
    def die_in_the_middle(self, which: int, number: int, turns: int, values: tuple[list[bytes], list[bytes]]) -> None:
        """Kill a worker somewhere in a batch; more records come before its successor."""
        if not self.world.processes:
            self.world.forget_dead()
            self.world.start()
        self.world.produce(number, values[0], 0)
        self.world.work(which, turns)
        self.world.crash(which, 0, after_jobs=True)
        self.world.produce(number, values[1], 0)

    @rule()
    def start(self) -> None:
        """Start a worker."""
        self.world.start()

    @rule()
    def forget_dead(self) -> None:
        """Let the sessions of killed workers end."""
        self.world.forget_dead()

    @rule(fault=st.sampled_from(InsertFault))
    def fail_insert(self, fault: InsertFault) -> None:
        """Let the next insert fail."""
        self.world.table.faults.append(fault)

    @invariant()
    def memory_is_bound(self) -> None:
        """No worker holds more than it may."""
        assert not hasattr(self, "world") or self.world.memory_left_bytes() >= 0

    def teardown(self) -> None:
        """Let everything come to rest, and look for what is missing, double, or committed too early."""
        if hasattr(self, "world"):
            self.world.settle()
            found = self.world.faults_found()
            assert not found, "\n".join(found)


class Schedule(Crashes):
    """The same, and everything else."""

    @rule(which=WHICH)
    def expel(self, which: int) -> None:
        """Make a worker a zombie."""
        self.world.expel(which)

    @rule(which=WHICH, is_patient=st.booleans())
    def stop(self, which: int, is_patient: bool) -> None:  # noqa: FBT001  (as above)
        """Stop a worker."""
        self.world.stop(which, is_patient=is_patient)

    @rule(which=WHICH)
    def deliver(self, which: int) -> None:
        """Let a worker's commits reach the broker while it stands still."""
        self.world.deliver(which)

    @rule(index=st.integers(0, 5))
    def land(self, index: int) -> None:
        """Let something sent long ago take effect."""
        self.world.land(index)

    @rule(fault=st.sampled_from(CommitFault))
    def fail_commit(self, fault: CommitFault) -> None:
        """Let the next commit fail."""
        self.world.broker.faults.append(fault)

    @rule()
    def lose_acknowledgement(self) -> None:
        """Let the next dead letters be kept and not acknowledged."""
        self.world.letters.answers_lost = 1

    @rule(server=st.sampled_from(["broker", "table", "letters", "rows"]), is_away=st.booleans())
    def go_away(self, server: str, is_away: bool) -> None:  # noqa: FBT001  (as above)
        """Let a server go away, or come back."""
        getattr(self.world, server).is_away = is_away

    @rule()
    def learn_schema(self) -> None:
        """Let the registry learn the schema that it did not know."""
        self.world.rows.known.add(max(SCHEMAS))

    @rule(seconds=st.sampled_from([0.1, 0.5, 2.0, 40.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.world.clock.now_s += seconds

    @rule(number=NUMBERS, records=st.integers(1, 4))
    def delete_old(self, number: int, records: int) -> None:
        """Let retention delete records."""
        self.world.delete_below(number, records)

    @rule(forgets=st.booleans())
    def recreate(self, forgets: bool) -> None:  # noqa: FBT001  (as above)
        """Make the topic anew; a mark of the old one may stay."""
        self.world.recreate(forgets=forgets)


class NarrowIntents(Schedule):
    """Intents list one offset, so that batches are made smaller, whoever began them; the registry learns nothing.

    Poison of the table has the first schema: a range of which a block was inserted can't be made smaller.
    """

    @rule(number=NUMBERS, values=NARROW, gap=st.sampled_from([0, 0, 1, 3]))
    def produce(self, number: int, values: list[bytes], gap: int) -> None:
        """Append records."""
        self.world.produce(number, values, gap)

    @rule(which=WHICH, number=NUMBERS, turns=st.integers(1, 8), values=st.tuples(NARROW, NARROW))
    def die_in_the_middle(self, which: int, number: int, turns: int, values: tuple[list[bytes], list[bytes]]) -> None:
        """Kill a worker somewhere in a batch; more records come before its successor."""
        super().die_in_the_middle(which, number, turns, values)

    @rule()
    def learn_schema(self) -> None:
        """Let the registry be as it is."""


class WithoutIntents(Crashes):
    """The broker keeps no metadata: the range of a batch is forgotten."""

    keeps_metadata = False


class WithoutTokens(Crashes):
    """The table remembers no token."""

    window = 0


class WithoutMending(Crashes):
    """Nobody looks for rows whose token a dead server knew."""

    mends = False


def test_every_record_is_one_row_or_a_dead_letter_under_any_schedule() -> None:
    """No schedule loses, doubles or commits early, and memory keeps to its bound."""
    run_state_machine_as_test(Schedule, settings=SLICE)


def test_the_same_holds_where_batches_are_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """More poison than an intent can list, found by the table or before, under any schedule."""
    monkeypatch.setattr(Intent, "fits", property(lambda intent: len(intent.excluded) <= 1))
    run_state_machine_as_test(NarrowIntents, settings=SLICE)


@pytest.mark.parametrize(
    ("machine", "fault"), [(WithoutIntents, DOUBLE), (WithoutTokens, DOUBLE), (WithoutMending, LOST)]
)
def test_the_search_has_teeth(machine: type[Crashes], fault: str) -> None:
    """Without intents, tokens or a look behind a repeated insert, the same schedules find faults in seconds."""
    search = settings(max_examples=3000, stateful_step_count=60, deadline=None, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError, match=fault):
        run_state_machine_as_test(machine, settings=search)
