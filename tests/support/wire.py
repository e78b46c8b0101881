"""A client's connection in memory: bytes go in, and what the server writes is kept."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from ingest.http.body import Stream
from ingest.http.message import Answer, RequestHead
from ingest.server.connection import Connection

Handle = Callable[[RequestHead, Stream], Awaitable[Answer]]


class Wire(asyncio.Transport):
    """A transport without a socket.

    Attributes:
        sent: what was written.
        is_paused: whether the server reads no more for now.
        has_sent_eof: whether it said that no more comes.
        ended: "", "closed" or "aborted".
    """

    def __init__(self) -> None:
        """Be open."""
        super().__init__()
        self.sent = b""
        self.is_paused = self.has_sent_eof = False
        self.ended = ""

    def write(self, data: Any) -> None:
        """Keep it."""
        assert not self.ended
        self.sent += data

    def write_eof(self) -> None:
        """Remember."""
        self.has_sent_eof = True

    def close(self) -> None:
        """Remember the first end."""
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        """Remember the first end."""
        self.ended = self.ended or "aborted"

    def is_closing(self) -> bool:
        """Tell."""
        return bool(self.ended)

    def pause_reading(self) -> None:
        """Remember."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Remember."""
        self.is_paused = False

    def get_write_buffer_size(self) -> int:
        """Have sent everything."""
        return 0


class Client:
    """A client of one connection, whose requests `handle` answers. Use it inside a running loop.

    Attributes:
        requests: the heads that arrived.
        waiting: how many connections wait for a request.
    """

    receive_timeout_s = 15.0
    keepalive_s = 75.0

    def __init__(self, handle: Handle | None = None) -> None:
        """Connect."""
        self.is_closing = False
        self.requests: list[RequestHead] = []
        self.bodies: list[bytes] = []
        self.waiting: set[Connection] = set()
        self.held_bytes = 0
        self.wire = Wire()
        self._handle = handle or self._read_all
        self.connection = Connection(self, "192.0.2.1", "8080")
        self.connection.connection_made(self.wire)

    async def handle(self, head: RequestHead, stream: Stream) -> Answer:
        """Answer a request."""
        self.requests.append(head)
        return await self._handle(head, stream)

    async def _read_all(self, _: RequestHead, stream: Stream) -> Answer:
        body = b""
        while piece := await stream.read(1 << 16):
            body += piece
        self.bodies.append(body)
        return Answer(200, b"got %d" % len(body))

    def began_waiting(self, connection: Connection) -> None:
        """Remember."""
        self.waiting.add(connection)

    def stopped_waiting(self, connection: Connection) -> None:
        """Forget."""
        self.waiting.discard(connection)

    def hold(self, connection: Connection, size_bytes: int) -> None:
        """Note."""
        del connection
        self.held_bytes = size_bytes

    def release(self, connection: Connection) -> None:
        """Note."""
        del connection
        self.held_bytes = 0

    def lost(self, connection: Connection) -> None:
        """Forget."""
        self.waiting.discard(connection)

    async def send(self, data: bytes, piece: int = 1 << 30) -> None:
        """Send bytes, so many at a time, and let the server work."""
        for at in range(0, len(data), piece):
            self.connection.data_received(data[at : at + piece])
        await self.settle()

    async def settle(self) -> None:
        """Let the server's coroutines go as far as they can."""
        for _ in range(8):
            await asyncio.sleep(0)

    @property
    def statuses(self) -> list[int]:
        """The statuses of the answers so far."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", self.wire.sent)]
