"""What a connection does, and what it needs of its server."""

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from ingest.http.body import Stream
from ingest.http.message import Answer, RequestHead

if TYPE_CHECKING:
    from ingest.server.connection import Connection

Handle = Callable[[RequestHead, Stream], Awaitable[Answer]]


class Host(Protocol):
    """What a connection needs of its server."""

    receive_timeout_s: float
    keepalive_s: float
    is_closing: bool

    @property
    def handle(self) -> Handle:
        """What answers a request."""

    def began_waiting(self, connection: "Connection") -> None:
        """A connection waits for a request."""

    def stopped_waiting(self, connection: "Connection") -> None:
        """It does not any more."""

    def hold(self, connection: "Connection", size_bytes: int) -> None:
        """It keeps so many bytes of an incomplete head; it may be dropped for that, or another one."""

    def release(self, connection: "Connection") -> None:
        """It keeps none."""

    def lost(self, connection: "Connection") -> None:
        """It is closed."""


class State(Enum):
    """What a connection does now."""

    WAITING = "waiting"
    """Waiting for a request's head, or for the rest of one."""
    BUSY = "busy"
    """Answering a request; its body may still be arriving."""
    DRAINING = "draining"
    """The answer is sent; the rest of the body is discarded."""
    SENDING = "sending"
    """The client has not taken the answer yet; the next request waits."""
    LINGERING = "lingering"
    """Closing; what still arrives is discarded."""
