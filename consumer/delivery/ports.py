"""The words of the worker, and what it needs from the world.

An offset always means the next one to read, except in a record. Each protocol is implemented by one edge module and by
a fake in the tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from consumer.delivery.intent import NO_EPOCH, Origin
from consumer.errors import ConsumerError, Reason

RECORD_OVERHEAD_BYTES: Final = 300  # a Record with its tuple, integers and bytes headers, by sys.getsizeof


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


class Record(NamedTuple):
    """One record as it lies in the log; `timestamp_ms` is Kafka's, -1 when there is none.

    `leader_epoch` is that of the leader that wrote it into the log: offset and epoch together name a record.
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
        """What the record weighs in memory, roughly."""
        headers = sum(len(name) + len(value or b"") for name, value in self.headers) if self.headers else 0
        return len(self.value) + len(self.key) + headers + RECORD_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """What a group remembers of a partition.

    Attributes:
        offset: the next one.
        metadata: the commit's text.
        leader_epoch: of the last record below the offset.
    """

    offset: int
    metadata: str
    leader_epoch: int = NO_EPOCH


class Position(NamedTuple):
    """Where to read from; the log there must follow a record of this leader epoch, if it is known."""

    offset: int
    leader_epoch: int = NO_EPOCH


class Cut(NamedTuple):
    """Why a partition can't be read on.

    Attributes:
        is_other: the log is not the one that was read: it was cut, and has perhaps grown again. Else it merely does not
            have the next offset.
        end: where what was read ends in it, if that is known.
    """

    is_other: bool
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Assigned:
    """A partition that this member now owns.

    Attributes:
        partition: which.
        topic_id: the topic's ID; another one after it was deleted and made again.
        committed: the group's mark, or None when it has none.
        low: the oldest offset that the log still has.
        end: the offset behind the newest record, or None when the broker does not tell it reliably.
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
    """

    is_formed: bool = True
    gone: tuple[str, ...] = ()
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the commit of one partition: `error` is None, Transient, Fenced or Fatal."""

    partition: Partition
    mark: CommittedOffset
    error: ConsumerError | None


@dataclass(frozen=True, slots=True)
class Polled:
    """What one poll brought.

    Attributes:
        records: in offset order within a partition, none from before its last assignment.
        ends: for partitions that were read to their end, the offset there.
        answers: to commits.
        cut: partitions that can't be read on, and why.
        unreadable: partitions whose next bytes no client can make records of, and in whose words; it is tried again.
    """

    records: Sequence[Record] = ()
    ends: Mapping[Partition, int] = field(default_factory=dict)
    answers: Sequence[Answer] = ()
    cut: Mapping[Partition, Cut] = field(default_factory=dict)
    unreadable: Mapping[Partition, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that can't become a row."""

    offset: int
    reason: Reason
    error: str


@dataclass(frozen=True, slots=True)
class Block:
    """Rows for one insert, encoded: the bytes stay the same however often it is sent.

    Attributes:
        schema_id: the writer schema of all its rows; -1 when the rows are the worker's own.
        origin: the log that its rows come from.
        token: the deduplication token.
        offsets: one per row, in order.
        payload: an Avro object container.
    """

    schema_id: int
    origin: Origin
    token: str
    offsets: tuple[int, ...]
    payload: bytes


class Listener(Protocol):
    """Hears of assignments, on the thread that polls, inside `Log.poll` and `Log.close`."""

    def assigned(self, partitions: Sequence[Assigned]) -> Mapping[Partition, Position | None]:
        """Return where to start reading each partition; None: do not read it."""

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Finish what is in flight; the partitions are still owned until this returns."""

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Forget the partitions; others own them already."""


class Log(Protocol):
    """The topic, as one member of a group sees it. One thread makes all calls; none but `poll` waits."""

    def poll(self, timeout_s: float) -> Polled:
        """Return what has come, waiting at most `timeout_s` longer than an assignment takes.

        Raises:
            Fatal: as it says.
        """

    def commit(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        """Send marks. A later poll answers for each, unless its partition is given up first.

        Until then the caller sends no other mark of that partition, so that the last one sent is the last one kept.
        """

    def pause(self, partition: Partition) -> None:
        """Take no more records of a partition."""

    def resume(self, partition: Partition) -> None:
        """Take records of a partition again."""

    def seek(self, partition: Partition, position: Position) -> bool:
        """Read a partition from here on, and drop what has come and was not polled; False: not now, try again."""

    def rejoin(self) -> None:
        """Give up all partitions and ask for them anew; the listener hears of both in the next polls."""


class Topics(Protocol):
    """The topics as they are now. Called on the pool's threads."""

    def id_of(self, topic: str) -> str:
        """Return the id of the topic's present ID, asking a broker each time.

        Raises:
            Transient: no broker answers, or there is no such topic now.
        """


class Rows(Protocol):
    """Makes blocks from records. Called on the pool's threads."""

    def screen(self, records: Sequence[Record]) -> Sequence[Poison]:
        """Return the records that are no rows, by their frame and schema alone.

        Raises:
            Transient: the registry is away.
        """

    def blocks(self, records: Sequence[Record], origin: Origin, token: str) -> Sequence[Block]:
        """Return one block per writer schema, its token made from `token`; every record has passed `screen`."""


class Table(Protocol):
    """The table. Called on the pool's threads, several at a time."""

    def insert(self, block: Block) -> None:
        """Insert a block under its token; return when it is durable.

        Raises:
            Transient, Rejected, Fatal: as they say.
        """

    def find_poison(self, block: Block, refusal: Exception, records: Sequence[Record]) -> Sequence[Poison]:
        """Return the rows of a refused block that the table refuses; write nothing.

        Raises:
            Transient, Fatal: as they say.
        """


class Repairer(Protocol):
    """Looks behind a repeated insert. Called on the pool's threads."""

    def repair(self, block: Block, records: Sequence[Record]) -> int:
        """Put back the rows of an inserted block that the server has lost all the same; return how many.

        Raises:
            Transient, Fatal: as they say.
        """

    def is_under_way(self, block: Block) -> bool:
        """Tell whether the server is inserting a block, whoever has sent it.

        Raises:
            Transient, Fatal: as they say.
        """


class InsertedOffsets(Protocol):
    """The record of what is in the tables. Called on the pool's threads."""

    def end(self, partition: Partition, topic_id: str, reading: int) -> int:
        """Return the offset behind the last row of this reading or a later one, 0 when there is none.

        Raises:
            Transient, Fatal: as they say.
        """

    def counted(self, partition: Partition, block: Block) -> frozenset[int]:
        """Return which of a block's offsets are rows of its reading, as the view has counted them.

        Raises:
            Transient, Fatal: as they say.
        """


class DeadLetters(Protocol):
    """The dead-letter topic. One thread of its own makes all calls."""

    def send(self, records: Sequence[Record], poison: Sequence[Poison], origin: Origin) -> None:
        """Publish the poison among `records`, which are of this log; return when all is acknowledged.

        Raises:
            Transient, Fatal: as they say.
        """


class Metrics(Protocol):
    """Takes the worker's figures; names and labels stand in one table, in telemetry. Any thread may call."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
