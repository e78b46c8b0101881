"""Workers, broker and table in memory, everything that can go wrong with them, and the promise to be kept."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy

from consumer.delivery.intent import NO_EPOCH, decode
from consumer.delivery.partition import PartitionState
from consumer.delivery.ports import CommittedOffset, Partition, Record
from consumer.errors import ConsumerError, Reason
from consumer.operations.divergence import last_below
from tests.support.consumer_fakes import LATE_S, LIMITS, Clock, Process
from tests.support.fake_group import TOPIC, FakeBroker, FakeLog, PartitionLog
from tests.support.fake_operator import facts_of, reprocessed, resumed
from tests.support.fake_table import FakeLetters, FakeRows, FakeTable

PARTITIONS = 2
SCHEMAS = (1, 2, 3)
WORKERS_MAX = 3
SHARDS_MAX = 3
_STUCK_TURNS = 200
_REPAIRS_MAX = 10
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
        self.table.known_s = 2 * LATE_S - 1  # tokens are forgotten just after that
        self.letters = FakeLetters()
        self.rows = FakeRows({1, 2})
        self.processes: list[Process] = []
        self.again: set[str] = set()  # records that an operator had read a second time
        self.forgotten: set[Partition] = set()  # those whose intent a tool, or time, has wiped out
        self.copies: dict[int, PartitionLog] = {}
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
        self.broker.produce(number, values, gap)

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
        """Recreate the topic; rows of the old one stay once at most, and need not be complete."""
        if not self.broker.is_away:
            self.broker.create(forgets=forgets)
            late = {place: mark for place, mark in self.broker.marks.items() if mark.metadata}
            self.broker.marks = late  # only a worker's commit is so late
            self.copies.clear()
            self.forgotten.clear()

    def delete_below(self, number: int, records: int) -> None:
        """Retention deletes some of a partition's oldest records."""
        offsets = sorted(self.broker.logs[Partition(TOPIC, number)].records)[:records]
        if offsets:
            self.broker.delete_below(number, offsets[-1] + 1)

    def cut(self, number: int, share: float) -> None:
        """Let a replica lead that has this share of a partition's log alone."""
        log = self.broker.logs[Partition(TOPIC, number)]
        self.broker.cut(number, int(log.low + share * (log.end - log.low)))

    def copy(self, number: int, values: list[bytes]) -> None:
        """Let somebody copy a partition's directory; or let its leader take these records alone, and then go away."""
        place = Partition(TOPIC, number)
        others = self.broker.logs[place]
        self.copies[number] = self.broker.logs[place] = deepcopy(others)
        self.broker.produce(number, values)
        self.broker.logs[place] = others
        if values:
            self.broker.elect(number)  # no epoch has two leaders

    def restore(self, number: int) -> None:
        """Let the copy take the place of the log."""
        copy = self.copies.pop(number, None)
        if copy is not None:
            low = self.broker.logs[Partition(TOPIC, number)].low
            self.broker.swap(number, copy)
            self.broker.delete_below(number, low)

    def forget_tokens(self) -> None:
        """Let the table forget its tokens, once nothing is under way."""
        self._land_all()
        self.table.forget_tokens()
        self.clock.now_s += 2 * LATE_S

    def lose_marks(self) -> None:
        """Let the offsets of a group without members expire."""
        if not self.broker.members and not self.broker.is_away:
            self._land_all()
            self.forgotten |= self.broker.marks.keys()
            self.broker.marks.clear()

    def set_back(self, number: int, share: float) -> None:
        """Let a tool set the offset of a group without members back; it writes no metadata, and no epoch."""
        mark = self.broker.marks.get(place := Partition(TOPIC, number))
        if mark is not None and not self.broker.members and not self.broker.is_away:
            self._land_all()
            self.forgotten.add(place)
            self.broker.marks[place] = CommittedOffset(int(mark.offset * share), "")

    def operate(self, number: int = 0, again: tuple[float, float] | None = None) -> None:
        """Stop all workers, wait until nothing of theirs is under way, and let an operator look at every partition.

        With `again`, from one share to another one of a partition's log is read a second time.
        """
        if self.broker.is_away or self.table.is_away:
            return
        self.stop_all()
        self._land_all()
        for each in range(PARTITIONS):
            self._resume(each)
        if again is not None:
            self._read_again(number, again)

    def _resume(self, number: int) -> None:
        """Let an operator resume a partition; of a batch that is there in part, some comes twice.

        So does what the log has lost, should a copy that still has it lead one day.
        """
        facts = facts_of(self.broker, self.table, number, self.letters)
        plan = resumed(self.broker, self.table, number, self.letters)
        if plan.mark is not None:
            log = self.broker.logs[facts.partition].records
            twice = [at for at in facts.kept if at >= plan.mark.offset and at in log]
            self.again |= {log[at].key.decode() for at in twice}
            rows = {row.partition("#")[0] for row in self.table.rows if _place_of(row) == facts.partition}
            self.again |= {key for key in rows - self._keys() if _offset_of(key) >= plan.mark.offset}

    def stop_all(self) -> None:
        """Stop all workers, and let the sessions of killed ones end."""
        while self.processes and not self.broker.is_away:
            self.stop(0, is_patient=True)
        self.forget_dead()

    def _read_again(self, number: int, again: tuple[float, float]) -> None:
        log = self.broker.logs[Partition(TOPIC, number)]
        first = int(log.low + again[0] * (log.end - log.low))
        stop = int(log.low + again[1] * (log.end - log.low)) if again[1] < 1 else None
        plan = reprocessed(self.broker, self.table, first, stop, number)
        if not plan.is_refused:
            upper = log.end if stop is None else stop
            self.again |= {item.key.decode() for at, item in log.records.items() if first <= at < upper}

    def settle(self) -> None:
        """Let every server come back and every worker go on until nothing is left to do; then all late things land."""
        for server in (self.broker, self.table, self.letters, self.rows):
            server.is_away = False
        self.table.rows_max = None
        self.broker.faults.clear()
        self.table.faults.clear()
        self.letters.answers_lost = 0
        self.forget_dead()
        for _ in range(_REPAIRS_MAX):
            self._rest()
            if self._halted():
                self.operate()
            elif missing := self._audited():
                self._read_once_more(*missing)
            else:
                break
        self._land_all()

    def add_shard(self) -> None:
        """Let the table get a shard more; workers that start from now on know it."""
        self.table.shards = min(SHARDS_MAX, self.table.shards + 1)

    def narrow(self, rows_max: int | None) -> None:
        """Put a proxy before the table, or another one, or none; what was sent through the one before has arrived."""
        self._land_all()
        self.table.rows_max = rows_max

    def _land_all(self) -> None:
        """Let everything take effect that was sent: a person, and time that counts in days, are slower than that."""
        while self.table.late or self.orphans:
            self.land(0)

    def _audited(self) -> tuple[int, int] | None:
        """Return a partition and an offset that the audit misses where an intent was wiped out, half inserted."""
        for place in self.forgotten:
            mark = self.broker.marks.get(place)
            for offset, record in self.broker.logs[place].records.items():
                if mark and offset < mark.offset and not self._is_there(record.key.decode()):
                    return place.number, offset
        return None

    def _read_once_more(self, number: int, offset: int) -> None:
        self.stop_all()
        reprocessed(self.broker, self.table, offset, offset + 1, number)

    def _rest(self) -> None:
        if not self.processes:
            self.start()
        before, stuck = self._progress(), 0
        while self._is_busy() and stuck < _STUCK_TURNS:
            for which in range(len(self.processes)):
                self.work(which, 1)
            now = self._progress()
            before, stuck = now, 0 if now != before else stuck + 1

    def faults_found(self) -> list[str]:
        """Return every way in which the promise is broken; for use after `settle`."""
        found = list(self.wrong)
        found += [
            f"{key} is there {count} times"
            for key, count in self.table.rows.items()
            if count > 1 and not self._is_doubtful(key)
        ]
        found += [
            f"{key} is there {len(rows)} times, of several readings" for key, rows in self._repeated() if len(rows) > 1
        ]
        found += [
            f"{key} is a row and a dead letter"
            for key, _ in self._repeated()
            if self.letters.sent[key] and _place_of(key) not in self.forgotten  # its schema may be known by now
        ]
        found += [f"the view says {count} of {key}" for key, count in self.table.viewed.items() if count > 1]
        found += [
            f"the view says {self.table.viewed[key]} of {self.table.rows[key]} of {key}"
            for key in self.table.viewed | self.table.rows
            if self.table.viewed[key] != self.table.rows[key]
            and key.partition("#")[0] in self._keys()
            and not (self._is_doubtful(key) or self._is_superseded(key))
        ]
        found += [f"{key} is left out, and its dead letter does not say why" for key in self._unexplained()]
        found += [f"{place} is halted for ever: {why}" for place, why in self._halted().items()]
        return found + [f"{key} is nowhere" for key in self._missing()]

    def _is_doubtful(self, row: str) -> bool:
        """Tell whether a dying server lost a row, or its count, and nobody can repeat its range to look behind it.

        An operator had it read again, or a tool wiped out the intent.
        """
        key = row.partition("#")[0]
        was_read_again = not self.table.rows[row] and self._is_there(key)
        was_forgotten = _place_of(key) in self.forgotten
        return key in self.table.torn and (was_read_again or was_forgotten)

    def _is_superseded(self, row: str) -> bool:
        """Tell whether a dying server lost a row's count, and an operator had the record read again, for want of it.

        Nothing is lost: the record is a row of both readings, and counted in the later one, which the audit goes by.
        """
        key = row.partition("#")[0]
        later = [other for other in self.table.readings_of(key) if _reading_of(other) > _reading_of(row)]
        return key in self.table.torn and any(self.table.rows[at] == self.table.viewed[at] == 1 for at in later)

    def _repeated(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each record that nobody wanted twice, and its rows; a torn view leads an operator astray."""
        rows: dict[str, list[str]] = {}
        for key in +self.table.rows:
            rows.setdefault(key.partition("#")[0], []).append(key)
        yield from ((key, its) for key, its in rows.items() if key not in self.again | self.table.torn)

    def memory_left_bytes(self) -> float:
        """Return what the fullest worker keeps below its bound; what a predecessor's range needs is not counted."""
        held = [
            sum(state.size_bytes for state in process.worker.states.values() if not _is_replaying(state))
            for process in self.processes
        ]
        return LIMITS.waiting_bytes_max + _POLL_BYTES_MAX - max(held, default=0)

    def known_of_nothing(self) -> set[int]:
        """Return the offsets of poison that a worker remembers without holding the record, which pays for both."""
        states = [state for process in self.processes for state in process.worker.states.values()]
        return {offset for state in states for offset in state.known.keys() - _held_by(state)}

    def _records(self) -> Iterator[Record]:
        """Yield what the log has now."""
        for log in self.broker.logs.values():
            yield from log.records.values()

    def _keys(self) -> set[str]:
        return {record.key.decode() for record in self._records()}

    def _is_there(self, key: str) -> bool:
        """Tell whether a record is a row of some reading, or a dead letter."""
        return bool(self.letters.sent[key]) or any(self.table.rows[row] for row in self.table.readings_of(key))

    def _missing(self) -> list[str]:
        return [key for key in sorted(self._keys()) if not self._is_there(key)]

    def _unexplained(self) -> list[str]:
        """Return dead letters of this topic ID that are bad in themselves, whatever is learnt, and do not say so."""
        bad = [record.key.decode() for record in self._records() if not record.value or b'"table"' in record.value]
        return [key for key in bad if self.letters.reasons.get(key) is Reason.LEFT_OUT]

    def _halted(self) -> dict[Partition, str]:
        """Return the partitions that wait for an operator, and why."""
        states = [state for process in self.processes for state in process.worker.owned.values()]
        return {state.partition: state.halt.why for state in states if state.halt}

    def _is_busy(self) -> bool:
        if len(self._halted()) == PARTITIONS:
            return False
        ends = {place: log.end for place, log in self.broker.logs.items() if place not in self._halted()}
        behind = any((mark := self.broker.marks.get(place)) is None or mark.offset < ends[place] for place in ends)
        return behind or bool(self._missing()) or any(process.pool.jobs for process in self.processes)

    def _progress(self) -> tuple[dict[Partition, CommittedOffset], int, int]:
        """Return a value that changes while anything makes progress."""
        return dict(self.broker.marks), self.table.rows.total(), self.letters.sent.total()

    def _process(self, which: int) -> Process | None:
        return self.processes[which % len(self.processes)] if self.processes else None

    def _check_mark(self, place: Partition, mark: CommittedOffset) -> None:
        """Note a mark that covers a record which is in no table yet; one of a log that was cut says nothing of this."""
        intent, log = decode(mark.metadata), self.broker.logs[place]
        if intent is None or intent.topic_id != self.broker.topic_id or place in self.forgotten:
            return
        last = last_below(mark.offset, log.low, log.record_at)
        if last is not None and mark.leader_epoch not in (last.leader_epoch, NO_EPOCH):
            return
        for offset, record in log.records.items():
            key = record.key.decode()
            if offset < mark.offset and not self._is_there(key):
                self.wrong.append(f"{key} is committed ({mark}) and nowhere")


def _place_of(key: str) -> Partition:
    return Partition(TOPIC, int(key.split("/")[1]))


def _offset_of(key: str) -> int:
    return int(key.partition("@")[0].rpartition("/")[2])


def _is_replaying(state: PartitionState) -> bool:
    return state.replay is not None or any(task.is_replay for task in state.tasks)


def _reading_of(row: str) -> int:
    return int(row.partition("#")[2] or 0)


def _held_by(state: PartitionState) -> set[int]:
    return {
        record.offset
        for records in (state.buffer.records, *(task.batch.records for task in state.tasks))
        for record in records
    }
