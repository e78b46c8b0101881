"""The worker's surroundings in memory: a pool that runs when told, a clock, a meter, and a process made of them.

The broker is in fake_group.py, the table in fake_table.py.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any

from consumer.delivery.backoff import Backoff
from consumer.delivery.buffer import BufferLimits
from consumer.delivery.executor import Pools, WorkerConfig
from consumer.delivery.intent import Intent, decode
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import CommittedOffset, Partition
from consumer.delivery.worker import Worker
from tests.support.fake_group import TOPIC, FakeBroker, FakeLog
from tests.support.fake_table import FakeLetters, FakeRows, FakeTable

PLACE = Partition(TOPIC, 0)
LIMITS = BufferLimits(rows_max=4, bytes_max=10_000, age_s_max=1.0, waiting_bytes_max=6000, early_s=0.4)


LATE_S = 31.0  # an insert that has not begun by then finds its intent too old


class Clock:
    """Seconds that pass when told, and `tick_s` at every look."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.tick_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        self.now_s += self.tick_s
        return self.now_s


class Tally:
    """A `Meter` that adds up: counts by name and labels' values, and the last levels."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.levels: dict[str, float] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self.counts["/".join((name, *labels.values()))] += int(amount)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Count an observation."""
        del value
        self.count(name, 1, **labels)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self.levels["/".join((name, *labels.values()))] = value


class Pool(Executor):
    """Jobs wait until a test begins and finishes them; finishing is where they take effect. Or all run at once."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Future[Any], Callable[[], Any]]] = []
        self.is_immediate = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Take a job."""
        future: Future[Any] = Future()
        self.jobs.append((future, lambda: fn(*args, **kwargs)))
        if self.is_immediate:
            self.finish_all()
        return future

    def begin(self, index: int) -> None:
        """Begin a job: it can't be cancelled any more."""
        future, _ = self.jobs[index]
        if not future.running() and not future.set_running_or_notify_cancel():
            del self.jobs[index]

    def finish(self, index: int) -> None:
        """Run a job to its end; one that was cancelled goes without a trace."""
        future, call = self.jobs[index]
        if future.running() or future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except Exception as error:  # noqa: BLE001 - the worker decides, as it would with a pool of threads
                future.set_exception(error)
        del self.jobs[index]

    def finish_all(self) -> None:
        """Run all jobs to their ends, oldest first."""
        while self.jobs:
            self.finish(0)


class Process:
    """One worker process: its member, its pool, its worker; the servers around it are shared."""

    revoke_s = 0.0
    letters_wait = False
    replicas_wait = False

    def __init__(
        self, broker: FakeBroker, table: FakeTable, letters: FakeLetters, rows: FakeRows, clock: Clock
    ) -> None:
        self.log = FakeLog(broker)
        self.pool = Pool()
        self.senders = Pool() if self.letters_wait else self.pool
        self.waiters = Pool() if self.replicas_wait else self.pool
        self.metrics = Tally()
        pipeline = Pipeline(rows, table, letters, broker, table, table)
        backoff = Backoff(0.1, 2.0, lambda: 0.0)
        terms = WorkerConfig(LIMITS, "cluster", self.revoke_s, backoff, late_s=LATE_S, now_s=clock, await_s=0)
        terms = replace(terms, keeps_metadata=broker.keeps_metadata, shards=table.shards)
        self.worker = Worker(
            self.log, {TOPIC: pipeline}, Pools(self.pool, self.senders, {TOPIC: self.waiters}), terms, self.metrics
        )
        self.log.listen(self.worker)

    def step(self) -> None:
        """Make one turn with all jobs done before and after."""
        self.pool.finish_all()
        self.worker.turn()
        self.pool.finish_all()


class PatientProcess(Process):
    """A worker that waits for its inserts in a rebalance, in real seconds: some thread has to finish them."""

    revoke_s = 30.0


class MuteProcess(Process):
    """A worker whose dead-letter topic does not answer."""

    letters_wait = True


class Around:
    """One partition, and the servers around its workers."""

    def __init__(self) -> None:
        self.broker, self.table = FakeBroker(1), FakeTable(100)
        self.letters, self.rows, self.clock = FakeLetters(), FakeRows({1, 2}), Clock()

    def process(self, kind: type[Process] = Process) -> Process:
        """Start a worker."""
        return kind(self.broker, self.table, self.letters, self.rows, self.clock)

    def produce(self, *values: bytes) -> None:
        """Append records."""
        self.broker.produce(0, values)

    @property
    def mark(self) -> CommittedOffset:
        """What the group remembers."""
        return self.broker.marks[PLACE]

    @property
    def intent(self) -> Intent | None:
        """The intent in it, without the cluster's id, which is the same in all."""
        found = decode(self.mark.metadata)
        return replace(found, cluster_id="") if found else None

    def rows_of(self, incarnation: int = 1) -> dict[int, int]:
        """Return how often each offset under a topic ID is in the table."""
        rows = (key.split("/") for key in self.table.rows.elements())
        found: dict[int, int] = {}
        for topic_id, _, offset in rows:
            if topic_id == f"id-{incarnation}":
                found[int(offset)] = found.get(int(offset), 0) + 1
        return found


def get_on(around: Around, process: Process, turns: int = 20) -> None:
    """Let a worker take turns, half a second each."""
    for _ in range(turns):
        process.step()
        around.clock.now_s += 0.5


def until_begun(process: Process) -> None:
    """Make turns until the intent is committed and the insert waits in the pool, not begun."""
    for _ in range(10):
        process.worker.turn()
        tasks = [task for state in process.worker.states.values() for task in state.tasks]
        if tasks and tasks[0].stage.name == "INSERTING":
            return
        process.pool.finish_all()
    raise AssertionError("no insert came")
