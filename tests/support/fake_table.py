"""A table in memory, as far as the worker's promise rests on it, and what makes its blocks.

Each table partition of each shard remembers the tokens of its last blocks, and drops a block whose token it knows,
whatever the rows (measured on ClickHouse, see docs/decisions/exactly-once.md). A view that sums has its own windows. An
insert may be refused, applied without an answer, applied in one table partition only, or applied long after it was
given up. A server that dies in the middle of one may know its token and lack its rows, in the table or in the view.
"""

import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto

from consumer.clickhouse.offsets import Reading
from consumer.delivery.intent import NO_EPOCH, Origin
from consumer.delivery.ports import Block, Partition, Poison, Record
from consumer.delivery.repeats import Held
from consumer.errors import Cause, Reason, Rejected, TooLarge, Transient, Unseen


class InsertFault(Enum):
    """What happens to the next insert."""

    NOT_APPLIED = auto()
    ANSWER_LOST = auto()
    HALF_APPLIED = auto()
    LATE = auto()
    TORN = auto()
    VIEW_TORN = auto()


def value(schema_id: int = 1, month: int = 0, fault: str = "") -> bytes:
    """Return a record's value: its fault is "frame", "table" (the table refuses it) or none."""
    return b"" if fault == "frame" else json.dumps([schema_id, month, fault]).encode()


class FakeRows:
    """Implements `Rows`. The registry's answers may change: an id that nobody knew becomes known."""

    def __init__(self, known: set[int]) -> None:
        self.known = known
        self.is_away = False

    def screen(self, records: Sequence[Record]) -> list[Poison]:
        """Return records without a frame, and of unknown schemas."""
        found = []
        for record in records:
            if not record.value:
                found.append(Poison(record.offset, Reason.FRAME, "no frame"))
            elif json.loads(record.value)[0] not in self.known:
                if self.is_away:
                    raise Transient("the registry is away")
                found.append(Poison(record.offset, Reason.UNKNOWN_SCHEMA, "nobody knows it"))
        return found

    def blocks(self, records: Sequence[Record], origin: Origin, token: str) -> list[Block]:
        """Return one block per schema; the payload is a list of [key, month, fault]."""
        groups: dict[int, list[Record]] = {}
        for record in records:
            groups.setdefault(json.loads(record.value)[0], []).append(record)
        return [self._block(schema_id, group, origin, token) for schema_id, group in sorted(groups.items())]

    @staticmethod
    def _block(schema_id: int, records: Sequence[Record], origin: Origin, token: str) -> Block:
        payload = json.dumps([[record.key.decode(), *json.loads(record.value)[1:]] for record in records])
        offsets = tuple(record.offset for record in records)
        return Block(schema_id, origin, f"{token}/{schema_id}", offsets, payload.encode())


class FakeTable:
    """Implements `Table`, `Mender` and `InsertedOffsets`.

    `window` tokens per table partition, 0 for none; it repairs unless told not to. Rows are counted by their record's
    key, followed by `#n` in a second reading.
    """

    def __init__(self, window: int, *, mends: bool = True) -> None:
        self.window = window
        self.mends = mends
        self.is_away = False
        self.is_stuck = False  # a replica, that never catches up
        self.is_unseen = False  # whether no replica shows what was acknowledged
        self.is_behind = False  # whether the replica that is asked beforehand lacks what comes now
        self._hidden: set[str] = set()  # rows that it lacks
        self.known_s = 30.0  # of a wait, for so long
        self.is_young = False  # whether it surely knows the tokens of all rows
        self.waits: list[bool] = []  # each wait for replicas: whether it was asked for always
        self.shards = 0  # on which workers that start now put their batches
        self.rows_max: int | None = None  # of a request that a proxy before it passes on
        self.faults: deque[InsertFault] = deque()
        self.late: list[Block] = []
        self.rows: Counter[str] = Counter()
        self.viewed: Counter[str] = Counter()
        self.torn: set[str] = set()  # records that a dying server has lost at some time
        self._lately: set[str] = set()  # rows that came since tokens were forgotten
        self._windows: dict[tuple[str, int], deque[str]] = {}
        self._offsets: dict[tuple[str, int, int], dict[int, int]] = {}  # of each reading: its offsets, and their epochs

    def insert(self, block: Block) -> None:
        """Insert a block, or let the next fault strike."""
        if self.is_away:
            raise Transient("the table is away")
        if self.rows_max is not None and len(block.offsets) > self.rows_max:
            raise TooLarge("HTTP 413", len(bytes(block.payload)))
        self._check(block)
        fault = self.faults.popleft() if self.faults else None
        match fault:
            case InsertFault.NOT_APPLIED:
                raise Transient("refused for now", Cause.BUSY)
            case InsertFault.LATE:
                self.late.append(block)
                raise Transient("timed out", Cause.UNKNOWN)
            case InsertFault.HALF_APPLIED:
                self.apply(block, parts=1)
                raise Transient("the server fell over", Cause.UNKNOWN)
            case InsertFault.TORN | InsertFault.VIEW_TORN:
                self.apply(block, torn=fault)
                raise Transient("the server died", Cause.UNKNOWN)
            case InsertFault.ANSWER_LOST:
                self.apply(block)
                raise Transient("the connection was reset", Cause.UNKNOWN)
        self.apply(block)

    def screen(self, block: Block, records: Sequence[Record]) -> list[Poison]:
        """Return the rows that would be refused; none when it is away."""
        return [] if self.is_away else self.find_poison(block, Rejected("not sent yet", 0), records)

    def find_poison(self, block: Block, refusal: Exception, records: Sequence[Record]) -> list[Poison]:
        """Return the rows that are refused."""
        assert isinstance(refusal, Rejected)
        assert set(block.offsets) <= {record.offset for record in records}
        if self.is_away:
            raise Transient("the table is away")
        rows = zip(block.offsets, json.loads(bytes(block.payload)), strict=True)
        return [Poison(offset, Reason.BAD_VALUE, "refused") for offset, (_, _, fault) in rows if fault]

    def repair(self, block: Block, records: Sequence[Record], *, is_awaited: bool) -> int:
        """Put back what is missing of an inserted block; no view hears of it, but for its own gaps."""
        assert set(block.offsets) <= {record.offset for record in records}
        if self.is_away:
            raise Transient("the table is away")
        if self.is_unseen and not is_awaited:
            raise Unseen("not to be seen yet")
        keys = [key for key, _, _ in _rows(block)] if self.mends else []
        lost = [key for key in keys if not self.rows[key]]
        self.rows.update(lost)
        self._view(block.origin, [key for key in keys if not self.viewed[key]])
        return len(lost)

    def is_under_way(self, block: Block) -> bool:
        """Tell whether an insert that was given up is still to come."""
        return any(late.token == block.token for late in self.late)

    def end(self, partition: Partition, topic_id: str, reading: int) -> int:
        """Return the offset behind the last one of this reading or a later one."""
        if self.is_away:
            raise Transient("the table is away")
        return max((item.end for item in self.readings(partition, topic_id) if item.number >= reading), default=0)

    def known_until_s(self, records: Sequence[Record], asked_s: float) -> float | None:
        """Tell of all rows that they are old, unless they are young."""
        del records
        return asked_s + self.known_s if self.is_young else None

    def await_replicas(self, records: Sequence[Record], asked_s: float, *, always: bool) -> float:
        """Wait for replicas, unless one lags."""
        del records
        self.waits.append(always)
        if self.is_stuck:
            raise Transient("replica r2 lags", Cause.REPLICA)
        self.is_unseen = self.is_unseen and not always
        self._hidden.clear()
        return asked_s + self.known_s

    def held(self, partition: Partition, block: Block, records: Sequence[Record]) -> Held:
        """Return which of a block's offsets are there, and whether all of those came since tokens were forgotten."""
        assert set(block.offsets) <= {record.offset for record in records}
        keys = [key for key, _, _ in _rows(block)]
        shown = {offset for offset, key in zip(block.offsets, keys, strict=True) if key not in self._hidden}
        offsets = self.present(partition, block) & shown
        rows = [key for key in keys if self.rows[key] and key not in self._hidden]
        return Held(offsets, not offsets or (bool(rows) and self._lately.issuperset(rows)))

    def present(self, partition: Partition, block: Block) -> frozenset[int]:
        """Return which of a block's offsets the view has, or the table."""
        if self.is_away:
            raise Transient("the table is away")
        suffix = f"#{block.origin.reading}" if block.origin.reading else ""
        prefix = f"{block.origin.topic_id}/{partition.number}/"
        keys = {key.removesuffix(suffix).partition("@")[0] for key in self.rows if key.endswith(suffix)}
        rows = {offset for offset in block.offsets if f"{prefix}{offset}" in keys}
        counted = self.offsets(partition, block.origin.topic_id, block.origin.reading)
        return counted.intersection(block.offsets) | rows

    def readings(self, partition: Partition, topic_id: str) -> list[Reading]:
        """Return every reading of a partition."""
        mine = [place for place in sorted(self._offsets) if place[:2] == (topic_id, partition.number)]
        return [
            Reading(place[2], min(self._offsets[place]), max(self._offsets[place]), _firsts(self._offsets[place]))
            for place in mine
        ]

    def readings_of(self, key: str) -> list[str]:
        """Return the rows that a record may have."""
        return [key, *(f"{key}#{number}" for number in {reading for _, _, reading in self._offsets} if number)]

    def offsets(self, partition: Partition, topic_id: str, reading: int) -> frozenset[int]:
        """Return the offsets of one reading."""
        return frozenset(self._offsets.get((topic_id, partition.number, reading), ()))

    @property
    def sums(self) -> Counter[str]:
        """How many rows of each partition the view has counted."""
        return Counter(key.rpartition("/")[0] for key in self.viewed.elements())

    def apply(self, block: Block, parts: int | None = None, torn: InsertFault | None = None) -> None:
        """Write a block into the table and the view, or into the first table partitions of it alone.

        A torn one is lost in the last of its table partitions, or in the view's, though its token is known there.
        """
        months: dict[int, list[str]] = {}
        for key, month, _ in _rows(block):
            assert key.startswith(f"{block.origin.topic_id}/"), f"{key} inserted under the token {block.token}"
            months.setdefault(month, []).append(key)
        if torn or parts:
            self.torn |= {key.partition("#")[0] for keys in months.values() for key in keys}
        for month in sorted(months)[:parts]:
            if self._is_new("table", month, block) and (torn is not InsertFault.TORN or month != max(months)):
                self.rows.update(months[month])
                self._lately |= set(months[month])
                self._hidden |= set(months[month]) if self.is_behind else set()
        for month in sorted(months)[:parts]:
            if self._is_new("view", month, block) and torn is not InsertFault.VIEW_TORN:
                self._view(block.origin, months[month])

    def forget_tokens(self) -> None:
        """Forget what was inserted under which token, as a table that takes another one's place, or time, does."""
        self._windows.clear()
        self.grow_old()

    def grow_old(self) -> None:
        """Let more time pass than a table must remember: nothing that is here came lately."""
        self._lately.clear()

    def _view(self, origin: Origin, keys: Sequence[str]) -> None:
        self.viewed.update(keys)
        for key in keys:
            _, number, offset = key.partition("#")[0].partition("@")[0].split("/")
            self._offsets.setdefault((origin.topic_id, int(number), origin.reading), {})[int(offset)] = (
                origin.leader_epoch
            )

    def _is_new(self, table: str, month: int, block: Block) -> bool:
        place = (f"{table} of {max(block.shard, 1)}", month)  # a range without a shard was meant for the first
        window = self._windows.setdefault(place, deque(maxlen=self.window))
        if block.token in window:
            return False
        window.append(block.token)
        return True

    @staticmethod
    def _check(block: Block) -> None:
        """Refuse a block with a bad row; nothing of it is written."""
        if any(fault for _, _, fault in _rows(block)):
            raise Rejected("a row is bad", 469, None)


def _rows(block: Block) -> Iterator[tuple[str, int, str]]:
    """Yield key, month and fault of each row; the key says of which reading, but for the first."""
    origin = block.origin
    for key, month, fault in json.loads(bytes(block.payload) or b"[]"):
        epoch = int(key.partition("@")[2] or 0)
        assert origin.leader_epoch in (epoch, NO_EPOCH), f"{key} inserted as of epoch {origin.leader_epoch}"
        yield (f"{key}#{origin.reading}" if origin.reading else key), month, fault


def _firsts(offsets: Mapping[int, int]) -> dict[int, int]:
    """Return the first offset of each epoch."""
    return {epoch: min(at for at, its in offsets.items() if its == epoch) for epoch in set(offsets.values())}


class FakeLetters:
    """Implements `DeadLetters`: counts the dead letters of each record, by its key."""

    def __init__(self) -> None:
        self.is_away = False
        self.answers_lost = 0
        self.sent: Counter[str] = Counter()
        self.reasons: dict[str, Reason] = {}

    def send(self, records: Sequence[Record], poison: Sequence[Poison], origin: Origin) -> None:
        """Keep dead letters of the poison among the records."""
        assert all(record.key.startswith(f"{origin.topic_id}/".encode()) for record in records)
        if self.is_away:
            raise Transient("the dead-letter topic is away")
        keys = {record.offset: record.key.decode() for record in records}
        for item in poison:
            self.sent[keys[item.offset]] += 1
            self.reasons[keys[item.offset]] = item.reason
        if self.answers_lost:
            self.answers_lost -= 1
            raise Transient("no acknowledgement")
