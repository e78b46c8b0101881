"""The ports of the ingress: each is implemented by one edge module, and by a fake in the tests."""

from collections.abc import Callable, Sequence
from enum import Enum, StrEnum
from operator import attrgetter
from typing import Final, Protocol

import msgspec


class Record(msgspec.Struct, frozen=True):
    """One Kafka record: a key, a framed Avro value, and headers.

    A `dead` record is a refused event for the dead-letter topic: its value is the JSON that the client sent, and its
    headers say why it was refused. It does not count as delivered or spooled.
    """

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    dead: bool = False


is_dead: Final[Callable[[Record], bool]] = attrgetter("dead")


class Durability(StrEnum):
    """Where a request's records are durable: the value of X-Durability."""

    BROKER = "broker"
    DISK = "disk"


class Publisher(Protocol):
    """Makes records durable. Coroutines share it."""

    async def publish(self, records: Sequence[Record]) -> Durability:
        """Return when every record is durable: BROKER when all are there, DISK when some are on disk.

        Raises:
            Rejected: a record is too large for the topic; nothing was published.
            Unavailable: neither broker nor disk accepted all of them; the request may be sent again.
        """

    def is_ready(self) -> bool:
        """Tell whether records can be made durable now."""


class DeliveryStatus(Enum):
    """The status of a record that was sent to the broker."""

    UNKNOWN = "unknown"
    """No report yet."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """Not acknowledged, though it may have arrived; send it again."""
    REFUSED = "refused"
    """The broker works and refuses this record."""
    NO_ROOM = "no_room"
    """Our queue is full; the broker was not asked. All records of one call have this status, or none."""


# Python before 3.12 takes a tenth of a microsecond to look one up in its class, and each record asks several times.
UNKNOWN: Final = DeliveryStatus.UNKNOWN
DELIVERED: Final = DeliveryStatus.DELIVERED


class DeliveryFuture(Protocol):
    """Records on their way to the broker."""

    async def wait(self, timeout_s: float) -> bool:
        """Wait until every record has a final status; False after the timeout."""

    def wait_in_thread(self, timeout_s: float) -> bool:
        """Do the same in a thread."""

    def statuses(self) -> list[DeliveryStatus]:
        """Return the present statuses, in the order of the records."""


class Broker(Protocol):
    """Sends records and reports the status of each. Threads share it."""

    def check(self, records: Sequence[Record]) -> None:
        """Check the records' sizes.

        Raises:
            Rejected: a record is too large to send.
        """

    def send(self, records: Sequence[Record]) -> DeliveryFuture:
        """Enqueue records in order; never raises: records that can't be enqueued have failed."""

    def purge(self) -> None:
        """Give up records on their way: each without a final status fails at once."""

    def renew(self) -> None:
        """Replace the producer, when sending fails although the broker works. Records on their way fail."""

    def answers(self, timeout_s: float) -> bool:
        """Ask whether a partition of the topic has a leader; takes up to the timeout."""


class Spool(Protocol):
    """Keeps records on disk. Coroutines share it."""

    async def append(self, records: Sequence[Record]) -> None:
        """Return when all records are durable on disk.

        Raises:
            SpoolError: none of them is, or it is unknown.
        """

    def is_usable(self) -> bool:
        """Tell, without waiting, whether an append is likely to succeed."""


SPOOL_FAULTS: Final = ("spool_full", "spool_failed", "spool_slow", "spool_corrupt")
"""The codes of a SpoolError."""


class SpoolError(Exception):
    """The spool did not accept records; `code` says why, one of SPOOL_FAULTS."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
