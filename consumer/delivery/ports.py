"""The values and ports of the worker; repeats.py has those of repeated inserts.

An offset always means the next one to read, except in a record. Edge modules implement the ports, and fakes in tests.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, SupportsBytes

from consumer.delivery.intent import NO_EPOCH, NO_SHARD, Origin
from consumer.errors import ConsumerError, Reason

RECORD_OVERHEAD_BYTES: Final = 300  # a Record with its tuple, integers and bytes headers, by sys.getsizeof


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


class Record(NamedTuple):
    """One record of the log; `timestamp_ms` is Kafka's, -1 when there is none.

    `leader_epoch` is that of the leader that wrote it: offset and epoch together identify a record.
    """

    partition: Partition
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    leader_epoch: int = NO_EPOCH

    @property
    def size_bytes(self) -> int:
        """The record's approximate size in memory."""
        headers = sum(len(name) + len(value or b"") for name, value in self.headers) if self.headers else 0
        return len(self.value) + len(self.key) + headers + RECORD_OVERHEAD_BYTES


def total_bytes(records: Iterable[Record]) -> int:
    """Return the size of records in memory, as the sum of their `size_bytes`, in less time."""
    return sum([len(r.value) + len(r.key) + RECORD_OVERHEAD_BYTES if not r.headers else r.size_bytes for r in records])


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """A group's commit for one partition.

    Attributes:
        offset: the next offset.
        metadata: the commit's text.
        leader_epoch: the epoch of the last record below the offset.
    """

    offset: int
    metadata: str
    leader_epoch: int = NO_EPOCH


class Position(NamedTuple):
    """Where to start reading; the record before it must have this leader epoch, if it is known."""

    offset: int
    leader_epoch: int = NO_EPOCH


class Cut(NamedTuple):
    """Why a partition can't be read further.

    Attributes:
        is_other: the log is not the one that was read: it was cut, and may have grown again. If False, it only lacks
            the next offset.
        end: the offset up to which the log equals what was read, if known.
    """

    is_other: bool
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Assigned:
    """A partition that this member now owns.

    Attributes:
        partition: the partition.
        topic_id: the topic's ID; a recreated topic has another one.
        committed: the group's commit, or None when it has none.
        low: the oldest offset that the log still has.
        end: the offset after the newest record, or None when the broker does not report it reliably.
    """

    partition: Partition
    topic_id: str
    committed: CommittedOffset | None
    low: int
    end: int | None = None


class Membership(NamedTuple):
    """How a member stands with its group and its topics.

    Attributes:
        is_formed: whether it has heard which partitions are its own, and where to begin with each.
        gone: topics that are not there.
        trouble: why it can't be a member, as far as the group says so; "" else.
        refusal: which rights its account lacks, beside those that halt partitions; "" else.
    """

    is_formed: bool = True
    gone: tuple[str, ...] = ()
    trouble: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one partition's commit: `error` is None, Transient, Fenced, Halt or Fatal."""

    partition: Partition
    mark: CommittedOffset
    error: ConsumerError | None


@dataclass(frozen=True, slots=True)
class Polled:
    """The result of one poll.

    Attributes:
        records: in offset order within a partition; none from before its last assignment.
        ends: the end offsets of partitions that were read to their end.
        answers: the answers to commits.
        cut: partitions that can't be read further, and why.
        unreadable: partitions whose next bytes can't be decoded, with the client's message; they are tried again.
        denied: partitions that this account may not read, in a sentence that says what to give; told once.
        known_ends: the records' partitions with their last known ends; what lies before those may not be readable yet.
    """

    records: Sequence[Record] = ()
    ends: Mapping[Partition, int] = field(default_factory=dict)
    answers: Sequence[Answer] = ()
    cut: Mapping[Partition, Cut] = field(default_factory=dict)
    unreadable: Mapping[Partition, str] = field(default_factory=dict)
    denied: Mapping[Partition, str] = field(default_factory=dict)
    known_ends: Mapping[Partition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that can't become a row."""

    offset: int
    reason: Reason
    error: str


@dataclass(frozen=True, slots=True)
class Block:
    """The rows of one insert; a retry sends the same bytes.

    Attributes:
        schema_id: the writer schema of all its rows; -1 when the rows are the worker's own.
        origin: the log that its rows come from.
        token: the deduplication token.
        offsets: one per row, in order.
        payload: an Avro object container; it may be made again each time it is asked for, so waiting blocks need no
            memory for it.
        shard: the shard that it goes to; NO_SHARD when there is only one.
    """

    schema_id: int
    origin: Origin
    token: str
    offsets: tuple[int, ...]
    payload: SupportsBytes
    shard: int = NO_SHARD


class Listener(Protocol):
    """Is told of assignments, on the polling thread, within `Log.poll` and `Log.close`."""

    def assigned(self, partitions: Sequence[Assigned]) -> Mapping[Partition, Position | None]:
        """Return where to start reading each partition; None means not to read it."""

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Finish batches in flight; the partitions are owned until this returns."""

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Drop the partitions; others own them, or will."""


class Log(Protocol):
    """The topic, read as one member of a group. One thread makes all calls; only `poll` waits."""

    def poll(self, timeout_s: float) -> Polled:
        """Return new records and events; wait at most `timeout_s`, plus the time of an assignment.

        Raises:
            Fatal: the worker must stop.
        """

    def commit(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        """Send commits. A later poll returns an answer for each, unless its partition is given up first.

        Until then the caller sends no other commit for that partition, so the last one sent is the last one stored.
        """

    def pause(self, partition: Partition) -> None:
        """Stop reading a partition."""

    def resume(self, partition: Partition) -> None:
        """Continue reading a partition."""

    def seek(self, partition: Partition, position: Position) -> bool:
        """Read a partition from here on, and drop its fetched records; False when it must be tried again."""

    def rejoin(self) -> None:
        """Give up all partitions and rejoin the group; the next polls tell the listener of both."""


class Topics(Protocol):
    """Looks up topics. Called on the pool's threads."""

    def id_of(self, topic: str) -> str:
        """Return the topic's present ID, asking a broker each time.

        Raises:
            Transient: no broker answers, or the topic does not exist now.
        """


class Rows(Protocol):
    """Makes blocks from records. Called on the pool's threads."""

    def screen(self, records: Sequence[Record]) -> Sequence[Poison]:
        """Return the records that can't become rows, judged only by frame and schema.

        Raises:
            Transient: the registry is away.
        """

    def blocks(self, records: Sequence[Record], origin: Origin, token: str) -> Sequence[Block]:
        """Return one block per writer schema, with tokens made from `token`; all records have passed `screen`."""


class Table(Protocol):
    """The table. Called concurrently on the pool's threads."""

    def insert(self, block: Block) -> None:
        """Insert a block under its token; return when it is durable.

        Raises:
            Transient, Rejected, Fatal: as they say.
        """

    def screen(self, block: Block, records: Sequence[Record]) -> Sequence[Poison]:
        """Return the rows of a block that would be refused, as far as that is cheap to tell; raise nothing."""

    def find_poison(self, block: Block, refusal: Exception, records: Sequence[Record]) -> Sequence[Poison]:
        """Return the rows to blame in a refused block, or some of them; none when no row is. Write nothing.

        Raises:
            Transient, Fatal: as they say.
        """


class InsertSpans(Protocol):
    """Records what inserts do, for tracing. Threads share it."""

    def inserting(
        self, partition: Partition, records: Sequence[Record], *, is_repeated: bool
    ) -> AbstractContextManager[None]:
        """Return a block in which these records are inserted, perhaps not for the first time."""


class DeadLetters(Protocol):
    """The dead-letter topic. A dedicated thread makes all calls."""

    def send(self, records: Sequence[Record], poison: Sequence[Poison], origin: Origin) -> None:
        """Publish the poison among `records`, which come from `origin`; return when all is acknowledged.

        Raises:
            Transient, Fatal: as they say.
        """


class Metrics(Protocol):
    """Records metrics; consumer/metrics.py lists their names and labels. Any thread may call."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
