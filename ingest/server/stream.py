"""A request's body between the connection that receives it and the coroutine that reads it."""

import asyncio
from collections.abc import Callable

from ingest.errors import ErrorCode, Rejected

_BROKEN = "the body broke off, or its chunks are malformed"


class BodyStream:
    """Takes a body's pieces as they arrive. Connection and reader live in one event loop.

    Args:
        length: in bytes; None for a chunked body.
        want: called when the reader waits for more, and when it has taken what was there.
    """

    __slots__ = (
        "_error",
        "_pieces",
        "_waiter",
        "_want",
        "is_complete",
        "is_waiting",
        "length",
        "received_bytes",
        "unread_bytes",
    )

    def __init__(self, length: int | None, want: Callable[[], None]) -> None:
        self.length = length
        self.is_complete = False
        self.is_waiting = False
        self.received_bytes = self.unread_bytes = 0
        self._want = want
        self._pieces: list[bytes] = []
        self._error: Rejected | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_read(self) -> bool:
        """Whether all of the body has arrived, and was read."""
        return self.is_complete and not self._pieces

    @property
    def size_bytes(self) -> float:
        """The body's size; that of a chunked body is infinite until its end."""
        if self.length is not None:
            return self.length
        return self.received_bytes if self.is_complete else float("inf")

    def take(self) -> bytes | None:
        """Return what was not read yet, when all of that has arrived; else None."""
        return self._take() if self.is_complete and self._error is None else None

    async def read(self, _: int, /) -> bytes:
        """Return what has arrived; b"" at the end."""
        while not (self._pieces or self.is_complete):
            if self._error is not None:
                raise self._error
            self.is_waiting = True
            self._want()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self.is_waiting = False
        if self._error is not None:
            raise self._error
        return self._take()

    def feed(self, piece: bytes) -> None:
        """Take a piece."""
        self._pieces.append(piece)
        self.received_bytes += len(piece)
        self.unread_bytes += len(piece)
        self._wake()

    def finish(self) -> None:
        """Mark the body complete."""
        self.is_complete = True
        self._wake()

    def fail(self, error: Rejected | None = None) -> None:
        """Fail the reader: the rest will not arrive. A body that stops has not ended."""
        if not self.is_complete:
            self._error = self._error or error or Rejected(ErrorCode.BAD_BODY, _BROKEN)
            self._wake()

    def end(self) -> None:
        """The client sends no more: an incomplete body is truncated."""
        if self.length is None:
            self.fail()
        elif not self.is_complete:
            message = f"the body ended after {self.received_bytes} of {self.length} bytes"
            self.fail(Rejected(ErrorCode.TRUNCATED_BODY, message))

    def _take(self) -> bytes:
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self.unread_bytes:
            self.unread_bytes = 0
            self._want()
        return data

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
