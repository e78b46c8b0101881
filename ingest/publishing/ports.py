"""What the ingress needs from the world; each is implemented by one edge module and by a fake in the tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """One event ready for the log: key and framed Avro value, and the headers that travel beside it.

    A `dead` one is a refused event for the dead-letter topic: its value is the JSON that the client sent, its headers
    say why. It is no event of the books: neither delivered nor spooled counts it.
    """

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    dead: bool = False


class Durability(StrEnum):
    """Where the records of a request are safe: the value of X-Durability."""

    BROKER = "broker"
    DISK = "disk"


class Publisher(Protocol):
    """Makes records durable. Coroutines share it."""

    async def publish(self, records: Sequence[Record]) -> Durability:
        """Return when every record is durable: with the broker all of them, or some of them on disk.

        Raises:
            Rejected: a record is too large for the log; nothing was published.
            Unavailable: neither broker nor disk took all of them; the request may be sent again.
        """

    def is_ready(self) -> bool:
        """Tell whether records can be made durable now."""


class DeliveryStatus(Enum):
    """What is known of a record that was sent to the broker."""

    UNKNOWN = "unknown"
    """Nothing yet."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """Not acknowledged, though it may have arrived; sending it again is right."""
    REFUSED = "refused"
    """The broker is well and does not take it."""
    NO_ROOM = "no_room"
    """Our own queue is full; the broker was not asked. All records of one call meet this fate, or none."""


class DeliveryFuture(Protocol):
    """Records on their way to the broker."""

    async def wait(self, timeout_s: float) -> bool:
        """Wait until every record has met its fate; False when the time is over before that."""

    def wait_in_thread(self, timeout_s: float) -> bool:
        """Do the same in a thread; of both, one is called."""

    def statuses(self) -> list[DeliveryStatus]:
        """Return what is known now, in the order of the records."""


class Broker(Protocol):
    """Sends records and hears of each what became of it. Threads share it."""

    def check(self, records: Sequence[Record]) -> None:
        """Look at the sizes.

        Raises:
            Rejected: a record is larger than any that is sent.
        """

    def send(self, records: Sequence[Record]) -> DeliveryFuture:
        """Hand records over, in order; never raises: what can't be handed over has failed."""

    def purge(self) -> None:
        """Give up what is on its way: each record without a fate fails, at once."""

    def renew(self) -> None:
        """Begin anew with the broker: for when sending fails and the broker is well. What is on its way fails."""

    def answers(self, timeout_s: float) -> bool:
        """Ask whether a partition of the topic has a leader; takes up to the timeout."""


class Spool(Protocol):
    """Keeps records on disk. Coroutines share it."""

    async def append(self, records: Sequence[Record]) -> None:
        """Return when all records are on disk to stay.

        Raises:
            SpoolError: none of them is, or nobody can tell.
        """

    def is_usable(self) -> bool:
        """Tell at once whether an append is likely to succeed."""


SPOOL_FAULTS: Final = ("spool_full", "spool_failed", "spool_slow", "spool_corrupt")
"""Why a spool does not take records."""


class SpoolError(Exception):
    """The spool did not take records; `slug` says why, one of SPOOL_FAULTS."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
