"""The listeners of one process and the connections that they have accepted, in one event loop."""

import asyncio
import errno
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Final

from ingest.server.connection import Connection
from ingest.server.ports import Handle

log = logging.getLogger(__name__)

_PAUSE_S: Final = 0.2
# Of incomplete heads, over all connections; the parsers hold as much again. At 10,000 connections it is 3 KB for each.
_HEADS_BYTES_MAX: Final = 32 * 1024 * 1024
_ACCEPTED_AT_ONCE: Final = 64  # then open connections get a turn
_SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NOBODY: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED})


class LoopServer:
    """Accepts connections and keeps their deadlines. One event loop uses it.

    Beyond the limit, the connection that has waited longest for a request is closed, so silent clients lock nobody
    out. When none waits, new connections stay in the listeners' queue.

    Args:
        handle: answers a request.
        connections_max: how many may be open.
        receive_timeout_s: a head, and then a body, must arrive within it.
        keepalive_s: a connection without a request is closed after it.
    """

    def __init__(self, handle: Handle, connections_max: int, receive_timeout_s: float, keepalive_s: float) -> None:
        self.handle = handle
        self.receive_timeout_s = receive_timeout_s
        self.keepalive_s = keepalive_s
        self.is_closing = False
        self._connections_max = connections_max
        self._connections: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}  # in the order in which they began to wait
        self._opening: set[asyncio.Task[object]] = set()
        self._listeners: Sequence[socket.socket] = ()
        self._heads: dict[Connection, int] = {}  # bytes of incomplete heads, the one that grew last at the end
        self._heads_bytes = 0
        self._accept_at_s = float("-inf")
        self._is_accepting = False

    @property
    def is_idle(self) -> bool:
        """Whether no connection is open."""
        return not self._connections and not self._opening

    def start(self, listeners: Sequence[socket.socket]) -> None:
        """Begin to accept."""
        self._listeners = listeners
        self._begin_accepting()

    def stop(self) -> None:
        """Stop accepting; close connections without a request now, the others after their answers."""
        self.is_closing = True
        self._cease_accepting()
        for listener in self._listeners:
            with suppress(OSError):
                listener.close()
        for connection in list(self._connections):
            connection.shut()

    def sweep(self) -> None:
        """Check the deadlines; call it a few times a second."""
        now_s = monotonic()
        for connection in [one for one in self._connections if one.deadline_s <= now_s]:
            connection.expire()
        if not self._is_accepting and not self.is_closing and now_s >= self._accept_at_s:
            self._begin_accepting()

    # What connections call.

    def began_waiting(self, connection: Connection) -> None:
        """Remember that a connection waits for a request."""
        self._connections.add(connection)
        self._waiting[connection] = None

    def stopped_waiting(self, connection: Connection) -> None:
        """Forget it."""
        self._waiting.pop(connection, None)

    def hold(self, connection: Connection, size_bytes: int) -> None:
        """Count a connection's incomplete head; beyond the limit, close those whose heads have grown least lately.

        Only connections with an incomplete head are closed: nothing else gives bytes back.
        """
        self.release(connection)
        self._heads[connection] = size_bytes
        self._heads_bytes += size_bytes
        while self._heads_bytes > _HEADS_BYTES_MAX:
            oldest = next(iter(self._heads))
            self.lost(oldest)
            oldest.drop()

    def release(self, connection: Connection) -> None:
        """Give back what a connection's head holds."""
        self._heads_bytes -= self._heads.pop(connection, 0)

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self.release(connection)
        self._connections.discard(connection)
        self._waiting.pop(connection, None)

    # Accepting.

    def _begin_accepting(self) -> None:
        self._is_accepting = True
        for listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    def _cease_accepting(self) -> None:
        self._is_accepting = False
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener.fileno())

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if len(self._connections) + len(self._opening) >= self._connections_max and not self._make_room():
                self._pause()
                return
            try:
                client, address = listener.accept()
            except OSError as error:
                if error.errno in _SHORT:
                    self._pause(error)
                elif error.errno not in _NOBODY:
                    log.exception("no connection can be accepted")
                return
            try:
                self._open(client, str(address[0]), str(listener.getsockname()[1]))
            except OSError:  # it has gone already
                client.close()

    def _open(self, client: socket.socket, peer: str, port: str) -> None:
        client.setblocking(False)  # noqa: FBT003  (the socket's signature)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        task: asyncio.Task[object] = loop.create_task(
            loop.connect_accepted_socket(lambda: Connection(self, peer, port), client)
        )
        self._opening.add(task)
        task.add_done_callback(partial(self._opened, client))

    def _opened(self, client: socket.socket, task: "asyncio.Task[object]") -> None:
        self._opening.discard(task)
        if task.cancelled() or task.exception() is not None:
            client.close()
            return
        if self.is_closing:
            for connection in list(self._waiting):
                connection.shut()

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for a request; False when none waits."""
        connection = next(iter(self._waiting), None)
        if connection is None:
            return False
        self.lost(connection)
        connection.drop()
        return True

    def _pause(self, error: OSError | None = None) -> None:
        """Leave new connections in the listeners' queue for a moment, until resources are free again."""
        if error is not None and monotonic() >= self._accept_at_s + _PAUSE_S:
            log.error("no connection can be accepted now: %s", error.strerror)
        self._accept_at_s = monotonic() + _PAUSE_S
        self._cease_accepting()
