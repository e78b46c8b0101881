"""The worker's promise under random schedules: each record one row, in the table and in its view, or a dead letter.

A schedule mixes polls, jobs that end when they like, crashes at every step, lost answers, inserts that land long after
they were given up, rebalances of both kinds, zombies, poison, servers that are away, a topic that is recreated,
retention that passes the group's mark, elections, logs that are cut or replaced by a copy with its own tail,
groups that lose their offsets, tables that forget their tokens, and an operator who goes on behind all of that or
reads again.
`HYPOTHESIS_PROFILE=long` tries 20,000 of them.
"""

import os
from dataclasses import replace

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

from consumer.delivery.continuity import Continuity
from consumer.delivery.intent import Intent
from consumer.delivery.partition import PartitionState
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.task import BatchTask
from tests.conftest import SOAK_ONLY
from tests.support.fake_group import CommitFault, FakeBroker
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
SHARES = st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0])
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
        """Let a worker take a turn."""
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

    @rule()
    def add_shard(self) -> None:
        """Let the table get a shard more."""
        self.world.add_shard()

    @invariant()
    def memory_is_bound(self) -> None:
        """No worker holds more than it may, and what it knows is of records that it holds, which are counted."""
        assert not hasattr(self, "world") or self.world.memory_left_bytes() >= 0
        assert not hasattr(self, "world") or not self.world.known_of_nothing()

    def teardown(self) -> None:
        """Let everything come to rest, and look for what is missing, double, or committed too early."""
        if hasattr(self, "world"):
            self.world.settle()
            found = self.world.faults_found()
            assert not found, "\n".join(found)


class Cuts(Crashes):
    """The same, and logs that do not stay what they were."""

    @rule(number=NUMBERS)
    def elect(self, number: int) -> None:
        """Let a replica lead that has everything."""
        self.world.broker.elect(number)

    @rule(number=NUMBERS, share=SHARES, after=st.integers(0, 8))
    def cut(self, number: int, share: float, after: int) -> None:
        """Let a replica lead that lacks the last records; others come."""
        self.world.cut(number, share)
        self.world.produce(number, [value()] * after, 0)

    @rule(number=NUMBERS, alone=st.integers(0, 8))
    def copy(self, number: int, alone: int) -> None:
        """Let somebody make a copy, or a leader go away with records that it alone has."""
        self.world.copy(number, [value()] * alone)

    @rule(number=NUMBERS, after=st.integers(0, 4))
    def restore(self, number: int, after: int) -> None:
        """Let the copy lead; others come."""
        self.world.restore(number)
        self.world.produce(number, [value()] * after, 0)


class Schedule(Cuts):
    """The same, and everything else."""

    @rule()
    def stop_all(self) -> None:
        """Stop all workers, so that an operator can do something, or the group's offsets expire."""
        self.world.stop_all()

    @rule()
    def lose_marks(self) -> None:
        """Let the offsets of a group without members expire."""
        self.world.lose_marks()

    @rule(number=NUMBERS, share=SHARES)
    def set_back(self, number: int, share: float) -> None:
        """Let a tool set an offset back."""
        self.world.set_back(number, share)

    @rule(number=NUMBERS, again=st.none() | st.tuples(SHARES, SHARES))
    def operate(self, number: int, again: tuple[float, float] | None) -> None:
        """Let an operator go on where a partition halted, or have some of it read again."""
        self.world.operate(number, again)

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

    @rule(is_behind=st.booleans())
    def lag(self, is_behind: bool) -> None:  # noqa: FBT001  (as above)
        """Let the replica that is asked first lag, or fetch again."""
        self.world.table.is_behind = is_behind

    @rule()
    def forget_tokens(self) -> None:
        """Let the table forget all tokens: it was migrated, or an outage was longer than its memory."""
        self.world.forget_tokens()

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


class NarrowProxy(Schedule):
    """A proxy before the table passes on requests of some rows, so that batches are made smaller, by any worker.

    All records have one schema: a range of which a block was inserted can't be made smaller.
    """

    @rule(rows_max=st.sampled_from([1, 1, 2, 3, None]))
    def narrow(self, rows_max: int | None) -> None:
        """Let somebody change the proxy."""
        self.world.narrow(rows_max)

    @rule(number=NUMBERS, count=st.integers(1, 8), gap=st.sampled_from([0, 0, 1, 3]))
    def produce(self, number: int, count: int, gap: int) -> None:
        """Append records."""
        self.world.produce(number, [value()] * count, gap)

    @rule(which=WHICH, number=NUMBERS, turns=st.integers(1, 8), landing=st.integers(0, 1), is_dead=st.booleans())
    def narrow_in_the_middle(self, which: int, number: int, turns: int, landing: int, is_dead: bool) -> None:  # noqa: FBT001  (as above)
        """Put the proxy there while a batch is under way, whose rows may be in the table; its worker may die."""
        if not self.world.processes:
            self.world.forget_dead()
            self.world.start()
        self.world.narrow(None)
        self.world.produce(number, [value()] * 4, 0)
        self.world.work(which, turns)
        if is_dead:
            self.world.crash(which, landing, after_jobs=False)
            self.world.forget_dead()
        self.world.narrow(1)


class NarrowIntents(Schedule):
    """Intents list one offset, so that batches are made smaller, by any worker; the registry learns nothing.

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


class WithoutLooking(Crashes):
    """A repeated range is sent whole, whatever is there, though its token may be forgotten; see below."""

    @rule()
    def forget_tokens(self) -> None:
        """Let the table forget all tokens."""
        self.world.forget_tokens()


class WithoutWaiting(WithoutLooking):
    """Nobody waits for a replica that lags; see below."""

    @initialize(is_eager=st.booleans())
    def begin(self, is_eager: bool) -> None:  # noqa: FBT001  (hypothesis calls it)
        """Start with one worker."""
        super().begin(is_eager)
        self.world.table.is_behind = True


class WithoutShards(Crashes):
    """A predecessor's range goes where the partition's new batches go; see `forget_shards`."""


class WithoutEpochs(Cuts):
    """Nobody compares leader epochs, as the broker's client does not at every opening; see `blind`."""


class WithoutTheClientsEpochs(Cuts):
    """The client never compares how long an epoch was: the worker's own comparison is enough."""

    @initialize(is_eager=st.booleans())
    def begin(self, is_eager: bool) -> None:  # noqa: FBT001  (hypothesis calls it)
        """Start with one worker."""
        super().begin(is_eager)
        self.world.broker.compares_epochs = False

    def teardown(self) -> None:
        """Let one more record come: only a record tells, when the log has grown to where it was."""
        if hasattr(self, "world"):
            for number in range(PARTITIONS):
                self.world.produce(number, [value()], 0)
            super().teardown()


def forget_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers put a predecessor's range on its partition's present shard, whichever its intent names."""
    seal = PartitionState._seal_replay  # noqa: SLF001  (broken on purpose)
    again = lambda state, intent: seal(state, replace(intent, shard=state.shard))  # noqa: E731
    monkeypatch.setattr(PartitionState, "_seal_replay", again)


def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers and their clients take whatever stands at the next offset."""
    monkeypatch.setattr(Continuity, "is_plain", lambda *_: True)
    monkeypatch.setattr(Continuity, "at", lambda *_: Continuity())
    monkeypatch.setattr(FakeBroker, "compares_epochs", property(lambda _: False, lambda *_: None), raising=False)
    monkeypatch.setattr(FakeBroker, "tells_ends", False)


def test_every_record_is_one_row_or_a_dead_letter_under_any_schedule() -> None:
    """No schedule loses, doubles or commits early, and memory keeps to its bound."""
    run_state_machine_as_test(Schedule, settings=SLICE)


def test_the_same_holds_behind_a_proxy_that_takes_small_requests() -> None:
    """Ranges are made smaller though their intents are out, under any schedule."""
    run_state_machine_as_test(NarrowProxy, settings=SLICE)


def test_the_same_holds_where_batches_are_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """More poison than an intent can list, found by the table or before, under any schedule."""
    monkeypatch.setattr(Intent, "fits", property(lambda intent: len(intent.excluded) <= 1))
    run_state_machine_as_test(NarrowIntents, settings=SLICE)


def test_the_worker_needs_no_client_that_compares_epochs() -> None:
    """Whatever version of it, and whatever the broker answers."""
    run_state_machine_as_test(WithoutTheClientsEpochs, settings=SLICE)


def test_the_search_finds_what_is_lost_without_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that was cut and grew again: its new records under old offsets are nowhere."""
    blind(monkeypatch)
    search = settings(max_examples=3000, stateful_step_count=60, deadline=None, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError, match="nowhere"):
        run_state_machine_as_test(WithoutEpochs, settings=search)


@SOAK_ONLY
def test_the_search_finds_what_is_double_without_recorded_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard was added between a try and its repeat by another worker: the new one knows no token of it."""
    forget_shards(monkeypatch)
    search = settings(max_examples=3000, stateful_step_count=60, deadline=None, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError, match=DOUBLE):
        run_state_machine_as_test(WithoutShards, settings=search)


def test_the_search_finds_what_is_double_where_a_range_is_sent_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of it was there, and no table knew its token any more."""
    monkeypatch.setattr(Pipeline, "_lacking", lambda _, __, block, ___: block)
    search = settings(max_examples=3000, stateful_step_count=60, deadline=None, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError, match=DOUBLE):
        run_state_machine_as_test(WithoutLooking, settings=search)


def test_the_search_finds_what_is_double_where_replicas_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The replica that was asked lacked the rows, and no table knew their token any more."""
    monkeypatch.setattr(BatchTask, "_must_await", lambda *_: False)
    search = settings(max_examples=3000, stateful_step_count=60, deadline=None, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError, match=DOUBLE):
        run_state_machine_as_test(WithoutWaiting, settings=search)


@pytest.mark.parametrize(
    ("machine", "fault"), [(WithoutIntents, DOUBLE), (WithoutTokens, DOUBLE), (WithoutMending, LOST)]
)
def test_the_search_has_teeth(machine: type[Crashes], fault: str) -> None:
    """Without intents, tokens or a look behind a repeated insert, the same schedules find faults in seconds."""
    search = settings(max_examples=3000, stateful_step_count=60, deadline=None, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError, match=fault):
        run_state_machine_as_test(machine, settings=search)
