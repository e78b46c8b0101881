"""A client's connection that ends: nothing that a client does, or leaves undone, holds a thread for ever."""

import errno
import math
import socket
import threading
from time import monotonic
from typing import Final, Self

from ingest.errors import ErrorCode, Rejected

SEND_S: Final = 10.0  # an answer is at most some 50 kB; who does not take it by then has gone
LINGER_S: Final = 2.0
_LINGER_BYTES_MAX: Final = 16 * 1024 * 1024
_PIECE_BYTES: Final = 64 * 1024
_LINGERING: Final = threading.BoundedSemaphore(3)  # one fewer than the threads that refuse when all others are busy
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientSocket(socket.socket):
    """A socket with a deadline for what it receives, and one for what it sends. One thread at a time uses it.

    `100 Continue` is held back until somebody reads: who answers without reading never asks for the body.
    """

    def __init__(self, accepted: socket.socket) -> None:
        """Take over a socket that was accepted; the old object is empty then."""
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self._allowed_s = math.inf
        self._until_s = math.inf
        self._what = ""
        self._owes_continue = False
        self._is_over = False
        self._has_lost_track = False

    def expect(self, what: str, within_s: float) -> Self:
        """Set the deadline of what is received next; the time runs from the first attempt to receive it.

        A receive beyond it raises Rejected, 408; math.inf is no deadline.
        """
        self._what, self._allowed_s, self._until_s = what, within_s, math.inf
        return self

    @property
    def owes_continue(self) -> bool:
        """Whether the client waits for a `100 Continue` that nobody needed."""
        return self._owes_continue

    @property
    def has_lost_track(self) -> bool:
        """Whether it is unknown where the client's request ends."""
        return self._has_lost_track

    def lose_track(self) -> None:
        """Say that a request was given up before its end."""
        self._has_lost_track = True

    def finish(self) -> None:
        """Say that nothing more is wanted: who closes the connection does not wait for the client."""
        self._is_over = True

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive, before the deadline if there is one.

        Raises:
            Rejected: 408, what is expected did not arrive in time.
        """
        if self._is_over:
            return b""
        if self._owes_continue:
            self._owes_continue = False
            self.sendall(_CONTINUE)
        if self._allowed_s == math.inf:
            return super().recv(bufsize, flags)
        now_s = monotonic()
        self._until_s = min(self._until_s, now_s + self._allowed_s)
        if self._until_s <= now_s:
            raise self._too_slow()
        self.settimeout(self._until_s - now_s)
        try:
            return super().recv(bufsize, flags)
        except TimeoutError:
            raise self._too_slow() from None

    def _too_slow(self) -> Rejected:
        return Rejected(ErrorCode.SLOW_REQUEST, f"{self._what} did not arrive within {self._allowed_s:g} s")

    def send(self, data: bytes, flags: int = 0, /) -> int:  # type: ignore[override]  # bytes are all that is sent
        """Send, but keep a `100 Continue` until the body is asked for."""
        if data == _CONTINUE:
            self._owes_continue = True
            return len(data)
        return super().send(data, flags)

    def sendall(self, data: bytes, flags: int = 0, /) -> None:  # type: ignore[override]  # as above
        """Send everything, or find the client gone.

        Raises:
            BrokenPipeError: the client does not take it.
        """
        self.settimeout(SEND_S)
        try:
            super().sendall(data, flags)
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "the client does not read its answer") from None

    def linger(self) -> None:
        """Say that no more comes, give a client that may still be sending a moment to read what has, and finish.

        What it sends is thrown away meanwhile: closing with unread data would destroy the answer on its way. It takes
        its thread, so only a few may linger at once: of more the answer may be lost, and nobody else waits for them.
        """
        if not _LINGERING.acquire(blocking=False):
            self.finish()
            return
        try:
            self._linger()
        finally:
            _LINGERING.release()

    def _linger(self) -> None:
        until_s, left = monotonic() + LINGER_S, _LINGER_BYTES_MAX
        try:
            self.shutdown(socket.SHUT_WR)
            while left > 0 and (wait_s := until_s - monotonic()) > 0:
                self.settimeout(wait_s)
                piece = super().recv(_PIECE_BYTES)
                if not piece:
                    break
                left -= len(piece)
        except OSError:
            pass  # the client has gone
        self.finish()
