"""The end of a connection whose client may still be sending."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ingest.server.connection import ClientSocket

LINGERING = 3


@pytest.fixture
def pairs() -> Iterator[list[tuple[ClientSocket, socket.socket]]]:
    """Connections with their clients, one more than may linger; the clients say nothing, and stay."""
    with ExitStack() as stack:
        found = []
        for _ in range(LINGERING + 1):
            served, client = socket.socketpair()
            found.append((stack.enter_context(ClientSocket(served)), stack.enter_context(client)))
        yield found


def test_only_a_few_linger_and_nobody_waits_for_them(pairs: list[tuple[ClientSocket, socket.socket]]) -> None:
    """One more than may linger is closed at once, while the others go on, and these end with their clients."""
    *some, (last, _) = pairs
    threads = [threading.Thread(target=connection.linger) for connection, _ in some]
    for (_, client), thread in zip(some, threads, strict=True):
        thread.start()
        assert client.recv(1) == b""  # it was told that no more comes: it lingers now

    last.linger()
    assert last.recv(1) == b""  # it is over, and does not wait
    assert all(thread.is_alive() for thread in threads)
    for _, client in some:
        client.close()
    for thread in threads:
        thread.join()


def test_who_has_lingered_makes_room(pairs: list[tuple[ClientSocket, socket.socket]]) -> None:
    """One after another, each may: what it sent is read, so that closing does not destroy its answer."""
    for connection, client in pairs:
        client.sendall(b"more")
        client.shutdown(socket.SHUT_WR)
        connection.linger()
        connection.close()
        assert client.recv(1) == b""  # no reset
