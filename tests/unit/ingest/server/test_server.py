"""The connections of one process: who makes room for whom."""

import asyncio

from ingest.http.body import Stream
from ingest.http.message import Answer, RequestHead
from ingest.server.connection import Connection
from ingest.server.server import LoopServer
from tests.support.wire import Wire

HALF = b"GET / HTTP/1.1\r\n" + (b"X: " + b"a" * 8000 + b"\r\n") * 7
WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def never(_: RequestHead, __: Stream) -> Answer:
    """Leave a request in flight."""
    return await asyncio.Future()


def connect(server: LoopServer) -> tuple[Connection, Wire]:
    """Open a connection."""
    connection, wire = Connection(server, "192.0.2.1", "8080"), Wire()
    connection.connection_made(wire)
    return connection, wire


def test_half_heads_of_many_clients_have_a_bound_together() -> None:
    """Beyond it those go that have waited longest; requests in flight stay."""

    async def scene() -> None:
        server = LoopServer(never, 10_000, 15, 75)
        busy, busy_wire = connect(server)
        busy.data_received(WHOLE)
        slow = [connect(server) for _ in range(700)]
        for connection, _ in slow:
            connection.data_received(HALF)
        await asyncio.sleep(0)

        ended = [wire.ended for _, wire in slow]
        gone = ended.count("aborted")
        assert 0 < gone < 200
        assert ended == ["aborted"] * gone + [""] * (700 - gone)
        assert (700 - gone) * len(HALF) <= 32 * 1024**2 < (701 - gone) * len(HALF)
        assert busy_wire.ended == ""

    asyncio.run(scene())


def test_only_connections_with_half_a_head_make_room_for_heads() -> None:
    """Idle ones give no bytes back, however long they wait; and what is dropped gives back all that it held."""

    async def scene() -> None:
        server = LoopServer(never, 10_000, 15, 75)
        idle = [connect(server) for _ in range(500)]
        for _ in range(3):
            slow = [connect(server) for _ in range(700)]
            for connection, _ in slow:
                connection.data_received(HALF)
            assert [wire.ended for _, wire in idle] == [""] * 500
            assert any(wire.ended == "aborted" for _, wire in slow)
            for connection, _ in slow:
                connection.connection_lost(None)

        alone, wire = connect(server)
        alone.data_received(HALF[:100])
        alone.data_received(HALF[100:])
        assert wire.ended == ""
        assert (len(server._heads), server._heads_bytes) == (1, len(HALF))  # noqa: SLF001  (nothing else shows a leak)

    asyncio.run(scene())


def test_one_client_that_crosses_the_bound_itself_leaves_no_bytes_behind() -> None:
    """The connection whose bytes are too many may be the one that has to go."""

    async def scene() -> None:
        server = LoopServer(never, 10_000, 15, 75)
        slow = [connect(server) for _ in range(600)]
        for size in (10, 30_000, len(HALF)):
            for connection, wire in slow:
                if wire.ended == "":
                    connection.data_received(HALF[: size - len(connection._head)])  # noqa: SLF001  (how much it has)
        held = sum(len(connection._head) for connection, _ in slow)  # noqa: SLF001  (as above)

        assert server._heads_bytes == held <= 32 * 1024**2  # noqa: SLF001  (as above)

    asyncio.run(scene())


def test_a_deadline_that_has_passed_is_seen_by_the_next_look() -> None:
    """And no other connection's."""

    async def scene() -> None:
        server = LoopServer(never, 10, 15, 75)
        (late, late_wire), (_, other_wire) = connect(server), connect(server)
        late.deadline_s = 0

        server.sweep()

        assert (late_wire.ended, other_wire.ended) == ("closed", "")

    asyncio.run(scene())


def test_an_end_closes_who_waits_and_nobody_else() -> None:
    """The others are closed behind their answers."""

    async def scene() -> None:
        server = LoopServer(never, 10, 15, 75)
        (_, idle_wire), (busy, busy_wire) = connect(server), connect(server)
        busy.data_received(WHOLE)
        await asyncio.sleep(0)

        server.stop()

        assert (idle_wire.ended, busy_wire.ended, server.is_idle) == ("closed", "", False)

    asyncio.run(scene())
