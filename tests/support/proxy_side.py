"""One of the two TCP connections that meet in a FaultProxy."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from tests.support.proxy_modes import Mode

_LINGER_0: Final = struct.pack("ii", 1, 0)  # on, for 0 s: closing then sends RST instead of FIN
_CLOSE_STEPS: Final = 100
_CLOSE_STEP_S: Final = 0.01


@dataclass(frozen=True)
class Side:
    """A connection, to the client or to the upstream server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, piece: bytes) -> None:
        """Write, and wait while the peer is behind.

        Raises:
            ConnectionError: it is gone.
        """
        self.writer.write(piece)
        await self.writer.drain()

    async def offer(self, piece: bytes) -> bool:
        """Send to a peer that may have ended already; False when it has. What it said before can still be read."""
        try:
            await self.send(piece)
        except ConnectionError:
            return False
        return True

    def abort(self) -> None:
        """Reset it; what was not sent yet is lost."""
        with contextlib.suppress(OSError):  # closed before
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self.writer.transport.abort()

    async def close(self) -> None:
        """End it in order, by force where the peer has not read the rest after 1 s."""
        # Not wait_closed(): cancelled once, it raises CancelledError at the next wait.
        self.writer.close()
        for _ in range(_CLOSE_STEPS):
            if not self.writer.transport.get_write_buffer_size():
                return
            await asyncio.sleep(_CLOSE_STEP_S)
        self.abort()


Dial = Callable[[], Awaitable[Side]]
"""Connects to the upstream server."""

Count = Callable[[Mode], None]
"""Notes that a mode took effect."""


class Link(Protocol):
    """A client's connection through the proxy."""

    async def serve(self) -> None:
        """Return when it has ended.

        Raises:
            OSError: a side is gone or cannot be reached.
            asyncio.IncompleteReadError: a side ended in the middle of a message.
        """

    def change(self, mode: Mode) -> None:
        """Take note of a mode that was set for everything from now on."""

    def abort(self) -> None:
        """Reset both sides."""

    async def close(self) -> None:
        """End both sides in order."""
