"""TLS in front of a server that has none: it ends TLS, and passes the bytes on both ways."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

_HOST: Final = "127.0.0.1"
_PIECE: Final = 65_536

Change = Callable[[bytes], bytes]


class TlsFront:
    """A listener on its own port, with threads.

    Attributes:
        port: where it listens.
        heard: what clients sent through it so far, decrypted.
    """

    def __init__(self, upstream_port: int, context: ssl.SSLContext, change: Change = bytes) -> None:
        """Listen; `change` is done to each piece that a client sends."""
        self.heard = bytearray()
        self._upstream_port, self._context, self._change = upstream_port, context, change
        self._listener = socket.create_server((_HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, name="tls-front", daemon=True).start()

    def close(self) -> None:
        """End the listener and all connections."""
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with (
            suppress(OSError),
            self._context.wrap_socket(plain, server_side=True) as client,
            socket.create_connection((_HOST, self._upstream_port)) as upstream,
        ):
            self._open |= {client, upstream}
            back = threading.Thread(target=_carry, args=(upstream, client, bytes), daemon=True)
            back.start()
            _carry(client, upstream, self._note)
            back.join()
            self._open -= {client, upstream}

    def _note(self, piece: bytes) -> bytes:
        self.heard += piece
        return self._change(piece)


def _carry(source: socket.socket, target: socket.socket, change: Change) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(change(piece))
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def tls_front(upstream_port: int, context: ssl.SSLContext, change: Change = bytes) -> Iterator[TlsFront]:
    """Run a front until the block is left."""
    front = TlsFront(upstream_port, context, change)
    try:
        yield front
    finally:
        front.close()
