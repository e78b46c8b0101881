"""Workers, broker and table in memory, everything that can go wrong with them, and the promise to be kept."""

from collections.abc import Callable
from contextlib import suppress

from consumer.errors import ConsumerError, Reason
from consumer.intent import decode
from consumer.lane import Lane
from consumer.ports import Mark, Partition
from tests.support.consumer_fakes import LIMITS, Clock, Process
from tests.support.fake_group import TOPIC, FakeBroker, FakeLog
from tests.support.fake_table import FakeLetters, FakeRows, FakeTable

PARTITIONS = 2
SCHEMAS = (1, 2, 3)
WORKERS_MAX = 3
_STUCK_TURNS = 200
_POLL_BYTES_MAX = 2 * 3 * 400 * PARTITIONS  # what one poll of a FakeLog can bring, and its encoded form


class World:
    """All of it. Methods that make no sense at the moment do nothing, so that any schedule is a schedule."""

    def __init__(
        self, *, is_eager: bool, keeps_metadata: bool = True, window: int = 10_000, mends: bool = True
    ) -> None:
        self.clock = Clock()
        self.broker = FakeBroker(PARTITIONS, is_eager=is_eager, keeps_metadata=keeps_metadata)
        self.broker.watchers.append(self._check_mark)
        self.table = FakeTable(window, mends=mends)
        self.letters = FakeLetters()
        self.rows = FakeRows({1, 2})
        self.processes: list[Process] = []
        self.produced: list[str] = []  # of the present incarnation
        self.deleted: set[str] = set()
        self.wrong: list[str] = []
        self.dead: list[FakeLog] = []
        self.orphans: list[Callable[[], object]] = []
        self.start()

    def start(self) -> None:
        """Start a worker."""
        if len(self.processes) < WORKERS_MAX and not self.broker.is_away:
            self.processes.append(Process(self.broker, self.table, self.letters, self.rows, self.clock))

    def produce(self, number: int, values: list[bytes], gap: int) -> None:
        """Append records to a partition."""
        offsets = self.broker.produce(number, values, gap)
        self.produced += [f"{self.broker.topic_id}/{number}/{offset}" for offset in offsets]

    def turn(self, which: int) -> None:
        """Let a worker make a turn."""
        if process := self._process(which):
            process.worker.turn()

    def begin_job(self, which: int, index: int) -> None:
        """Let a job of a worker's pool begin."""
        if (process := self._process(which)) and process.pool.jobs:
            process.pool.begin(index % len(process.pool.jobs))

    def finish_job(self, which: int, index: int) -> None:
        """Let a job of a worker's pool do its work."""
        if (process := self._process(which)) and process.pool.jobs:
            process.pool.finish(index % len(process.pool.jobs))

    def work(self, which: int, turns: int) -> None:
        """Let a worker make turns, its jobs done at once."""
        for _ in range(turns):
            if process := self._process(which):
                process.step()
                self.clock.now_s += 0.3

    def expel(self, which: int) -> None:
        """Let the group forget a worker that lives on: a zombie, until its next poll."""
        if (process := self._process(which)) and not self.broker.is_away:
            self.broker.remove(process.log)

    def crash(self, which: int, landing: int, *, after_jobs: bool) -> None:
        """Kill a worker; of the jobs that had begun, some (by the bits of `landing`) take effect later.

        With `after_jobs` all have just ended, and the worker dies before it hears of it.
        """
        if process := self._process(which):
            if after_jobs:
                process.pool.finish_all()
            self.processes.remove(process)
            begun = [job for job in process.pool.jobs if job[0].running()]
            self.orphans += [call for bit, (_, call) in enumerate(begun) if landing >> bit & 1]
            if landing & 1 and not self.broker.is_away:
                process.log.deliver()
            self.dead.append(process.log)

    def forget_dead(self) -> None:
        """Let the sessions of killed workers end."""
        if not self.broker.is_away:
            for log in self.dead:
                self.broker.remove(log)
            self.dead.clear()

    def stop(self, which: int, *, is_patient: bool) -> None:
        """Stop a worker as SIGTERM does; one without patience leaves at once."""
        if (process := self._process(which)) and not self.broker.is_away:
            self.processes.remove(process)
            if is_patient:
                process.pool.is_immediate = True
                process.pool.finish_all()
            self.clock.tick_s = 0.02
            process.worker.drain(self.clock.now_s + 1.0 * is_patient)
            self.clock.tick_s = 0.0
            process.log.leave()

    def deliver(self, which: int) -> None:
        """Let the commits of a worker reach the broker, though the worker makes no turn."""
        if (process := self._process(which)) and not self.broker.is_away:
            process.log.deliver()

    def land(self, index: int) -> None:
        """Let an insert that was sent long ago take effect now, or what a dead worker had begun."""
        if self.table.late:
            self.table.apply(self.table.late.pop(index % len(self.table.late)))
        elif self.orphans:
            with suppress(ConsumerError):
                self.orphans.pop(index % len(self.orphans))()

    def recreate(self, *, forgets: bool) -> None:
        """Delete the topic and make it anew; rows of the old one stay once at most, and need not be complete."""
        if not self.broker.is_away:
            self.broker.create(forgets=forgets)
            self.produced.clear()
            self.deleted.clear()

    def delete_below(self, number: int, records: int) -> None:
        """Retention deletes some of a partition's oldest records."""
        log = self.broker.logs[Partition(TOPIC, number)]
        offsets = sorted(log.records)[:records]
        if offsets:
            self.broker.delete_below(number, offsets[-1] + 1)
            self.deleted |= {f"{self.broker.topic_id}/{number}/{offset}" for offset in offsets}

    def settle(self) -> None:
        """Let every server come back and every worker go on until nothing is left to do; then all late things land."""
        for server in (self.broker, self.table, self.letters, self.rows):
            server.is_away = False
        self.broker.faults.clear()
        self.table.faults.clear()
        self.letters.answers_lost = 0
        self.forget_dead()
        if not self.processes:
            self.start()
        before, stuck = self._progress(), 0
        while self._is_busy() and stuck < _STUCK_TURNS:
            for which in range(len(self.processes)):
                self.work(which, 1)
            now = self._progress()
            before, stuck = now, 0 if now != before else stuck + 1
        while self.table.late or self.orphans:
            self.land(0)

    def faults_found(self) -> list[str]:
        """Return every way in which the promise is broken; for use after `settle`."""
        found = list(self.wrong)
        found += [f"{key} is there {count} times" for key, count in self.table.rows.items() if count > 1]
        found += [f"{key} is a row and a dead letter" for key in self.letters.sent if self.table.rows[key]]
        found += [f"the view says {count} of {key}" for key, count in self.table.viewed.items() if count > 1]
        found += [
            f"the view says {self.table.viewed[key]} of {self.table.rows[key]} of {key}"
            for key in self.table.viewed | self.table.rows
            if self.table.viewed[key] != self.table.rows[key] and not self._is_over(key)
        ]
        found += [f"{key} is left out, and its letter does not say why" for key in self._unexplained()]
        return found + [f"{key} is nowhere" for key in self._missing()]

    def memory_left_bytes(self) -> float:
        """Return what the fullest worker keeps below its bound; what a predecessor's range needs is not counted."""
        held = [
            sum(lane.size_bytes for lane in process.worker.lanes.values() if not _is_replaying(lane))
            for process in self.processes
        ]
        return LIMITS.waiting_bytes_max + _POLL_BYTES_MAX - max(held, default=0)

    def _missing(self) -> list[str]:
        return [
            key
            for key in self.produced
            if key not in self.deleted
            and not self._is_halted(key)
            and not self.table.rows[key]
            and not self.letters.sent[key]
        ]

    def _unexplained(self) -> list[str]:
        """Return dead letters of this incarnation that are bad in themselves, whatever is learnt, and do not say so."""
        records = (record for log in self.broker.logs.values() for record in log.records.values())
        bad = [record.key.decode() for record in records if not record.value or b'"table"' in record.value]
        return [key for key in bad if self.letters.reasons.get(key) is Reason.LEFT_OUT]

    def _is_over(self, key: str) -> bool:
        """Tell whether nobody can read the record again: what a dying server made of it stays as it is."""
        return not key.startswith(f"{self.broker.topic_id}/") or key in self.deleted or self._is_halted(key)

    def _is_halted(self, key: str) -> bool:
        """Tell whether retention has passed the group's mark of the record's partition: reading on would skip some."""
        place = Partition(TOPIC, int(key.split("/")[1]))
        mark = self.broker.marks.get(place)
        return mark is not None and mark.offset < self.broker.logs[place].low

    def _is_busy(self) -> bool:
        ends = {place: log.end for place, log in self.broker.logs.items()}
        behind = any(
            mark is None or mark.offset < ends[place]
            for place in ends
            if not (mark := self.broker.marks.get(place)) or mark.offset >= self.broker.logs[place].low
        )
        return behind or bool(self._missing()) or any(process.pool.jobs for process in self.processes)

    def _progress(self) -> tuple[dict[Partition, Mark], int, int]:
        """Return what changes for as long as anything gets on."""
        return dict(self.broker.marks), self.table.rows.total(), self.letters.sent.total()

    def _process(self, which: int) -> Process | None:
        return self.processes[which % len(self.processes)] if self.processes else None

    def _check_mark(self, place: Partition, mark: Mark) -> None:
        """Note a mark that covers a record which is in no table yet."""
        intent = decode(mark.metadata)
        if intent is None or intent.topic_id != self.broker.topic_id:
            return
        for offset, record in self.broker.logs[place].records.items():
            key = record.key.decode()
            if offset < mark.offset and not self.table.rows[key] and not self.letters.sent[key]:
                self.wrong.append(f"{key} is committed ({mark}) and nowhere")


def _is_replaying(lane: Lane) -> bool:
    return lane.replay is not None or any(work.is_replay for work in lane.works)
