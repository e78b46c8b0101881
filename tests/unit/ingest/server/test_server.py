"""The connections of one process: who makes room for whom."""

import asyncio

from ingest.http.body import Stream
from ingest.http.context import Answer, RequestHead
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
