"""A proxy before one node of Kafka that can hide all brokers from clients: metadata then lists topics and no broker.

So does a node that knows itself fenced: for a moment after it was frozen, or when all nodes of a cluster restart.
"""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from tests.support.ports import free_port

_HOST: Final = "127.0.0.1"
_METADATA: Final = 3  # the API key
_FLEXIBLE: Final = 9  # from this version on, fields are compact and tagged: https://kafka.apache.org/protocol
_SIZE: Final = struct.Struct(">i")
_REQUEST: Final = struct.Struct(">hhi")


class MetadataProxy:
    """Listens on `port`; a node that advertises it is reached through here alone.

    Attributes:
        hides: metadata lists no broker.
    """

    def __init__(self) -> None:
        """Take a port; nothing listens yet."""
        self.port = free_port()
        self.hides = False

    @property
    def address(self) -> str:
        """Host and port, for clients, and for the node to advertise."""
        return f"{_HOST}:{self.port}"

    @contextmanager
    def listening(self, node_port: int) -> Iterator[None]:
        """Listen, and pass on to a node, until the block is left."""
        with socket.create_server((_HOST, self.port)) as server, ExitStack() as threads:
            links: list[socket.socket] = []
            _start(threads, self._accept, server, node_port, links)
            try:
                yield
            finally:
                for end in (server, *links):
                    _hang_up(end)

    def _accept(self, server: socket.socket, node_port: int, links: list[socket.socket]) -> None:
        with ExitStack() as threads:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                links.append(client)
                _start(threads, self._link, client, node_port)

    def _link(self, client: socket.socket, node_port: int) -> None:
        with suppress(OSError), client, socket.create_connection((_HOST, node_port)) as node, ExitStack() as threads:
            versions: dict[int, int] = {}
            _start(threads, self._answer, node, client, versions)
            self._forward(client, node, versions)

    def _forward(self, client: socket.socket, node: socket.socket, versions: dict[int, int]) -> None:
        for request in _messages(client, node):
            key, version, number = _REQUEST.unpack_from(request)
            if key == _METADATA:
                versions[number] = version
            _send(node, request)

    def _answer(self, node: socket.socket, client: socket.socket, versions: dict[int, int]) -> None:
        for answer in _messages(node, client):
            version = versions.pop(_SIZE.unpack_from(answer)[0], None)
            shown = answer
            if version is not None and self.hides:
                shown = _without_brokers(answer, version)
            _send(client, shown)


def _send(target: socket.socket, message: bytes) -> None:
    with suppress(OSError):  # it has hung up
        target.sendall(_SIZE.pack(len(message)) + message)


def _messages(source: socket.socket, other: socket.socket) -> Iterator[bytes]:
    """Yield what comes, without its size; at the end hang up on both sides."""
    try:
        with source.makefile("rb") as stream:
            while head := stream.read(_SIZE.size):
                size = _SIZE.unpack(head)[0] if len(head) == _SIZE.size else 0
                message = stream.read(size)
                if not size or len(message) < size:
                    return
                yield message
    except OSError:
        return
    finally:
        for end in (source, other):
            _hang_up(end)


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):  # the other side was faster
        end.shutdown(socket.SHUT_RDWR)


def _start(threads: ExitStack, call: Callable[..., None], *arguments: object) -> None:
    thread = threading.Thread(target=call, args=arguments, daemon=True)
    thread.start()
    threads.callback(thread.join)


def _without_brokers(answer: bytes, version: int) -> bytes:
    """Return a flexible answer with an empty list of brokers."""
    assert version >= _FLEXIBLE
    begin = at = 4 + 1 + 4  # the correlation id, no tags, the throttle time
    count, at = _varint(answer, at)
    for _ in range(count - 1):
        at += 4  # the id
        at = _skip_text(answer, at) + 4  # host, port
        at = _skip_text(answer, at) + 1  # rack, no tags
    return answer[:begin] + b"\x01" + answer[at:]


def _skip_text(data: bytes, at: int) -> int:
    size, at = _varint(data, at)
    return at + max(size - 1, 0)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:  # no more follows
            return value, at
        shift += 7
