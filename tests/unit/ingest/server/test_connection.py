"""One connection, byte by byte: what is a request, what is not, and how each connection ends."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ingest.errors import Rejected
from ingest.http.body import Stream
from ingest.http.message import Answer, RequestHead
from tests.support.wire import Client

HEAD = b"POST /collect/event HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = HEAD + b"Content-Length: 3\r\n\r\nabc"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def run(scene: Callable[[], Awaitable[None]]) -> None:
    """Play a scene in a separate loop."""
    asyncio.run(scene())  # type: ignore[arg-type]  # each is a coroutine function


async def refuse_unread(_: RequestHead, __: Stream) -> Answer:
    """Answer without a look at the body."""
    return Answer(415, b"no")


@pytest.mark.parametrize("piece", [1, 2, 7, 64, 1 << 20])
def test_requests_are_the_same_however_their_bytes_arrive(piece: int) -> None:
    """Three in a row, with a length, in chunks and without a body, are answered in order, once each."""

    async def scene() -> None:
        client = Client()
        await client.send(POST + CHUNKED + b"2;x=y\r\nde\r\n1\r\nf\r\n0\r\nT: t\r\n\r\n" + GET, piece)
        for _ in range(3):
            await client.settle()

        assert client.bodies == [b"abc", b"def", b""]
        assert client.statuses == [200, 200, 200]
        assert [head.method for head in client.requests] == ["POST", "POST", "GET"]
        assert client.connection in client.waiting

    run(scene)


def test_the_wait_for_the_server_begins_with_the_whole_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes long over its head has waited for itself."""
    now_s = [100.0]
    monkeypatch.setattr("ingest.server.connection.monotonic", lambda: now_s[0])

    async def scene() -> None:
        client = Client()
        await client.send(GET[:9])
        now_s[0] = 108.0
        await client.send(GET[9:])

        (head,) = client.requests
        assert head.received_s == 108.0

    run(scene)


def test_an_empty_line_between_requests_is_nothing() -> None:
    """Some clients send one after a body: no deadline starts with it, and the next request is whole."""

    async def scene() -> None:
        client = Client()
        await client.send(POST)
        idle_s = client.connection.deadline_s
        await client.send(b"\r\n")
        assert client.connection.deadline_s == idle_s
        await client.send(b"\r\n" + POST)

        assert client.statuses == [200, 200]
        assert client.bodies == [b"abc", b"abc"]

    run(scene)


def test_a_large_read_is_parsed_in_pieces() -> None:
    """Requests and chunks may lie across them, and more than one request may be in a read."""

    async def scene() -> None:
        client = Client()
        body = bytes(range(256)) * 400
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        await client.send(CHUNKED + chunks + b"0\r\n\r\n" + GET + HEAD + b"Content-Length: 102400\r\n\r\n" + body + GET)
        for _ in range(4):
            await client.settle()

        assert client.bodies == [body, b"", body, b""]

    run(scene)


def test_a_request_waits_for_the_answer_of_the_one_before() -> None:
    """A client that sends ahead is read so far, and no further."""
    is_open = asyncio.Event()

    async def slowly(_: RequestHead, __: Stream) -> Answer:
        await is_open.wait()
        return Answer(200)

    async def scene() -> None:
        client = Client(slowly)
        await client.send(GET + GET)
        await client.send(GET * 3000)
        assert (len(client.requests), client.wire.is_paused) == (1, True)
        is_open.set()
        for _ in range(1000):
            await client.settle()

        assert client.statuses == [200] * 3002
        assert not client.wire.is_paused

    run(scene)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET  /a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /a  HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (b"GET /a\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (HEAD + b"Content-Length: +3\r\n\r\nabc", 400),
        (HEAD + b"Content-Length: 3, 3\r\n\r\nabc", 400),
        (HEAD + b"Content-Length: 3\r\ncontent-length: 3\r\n\r\nabc", 400),
        (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (HEAD + b"Transfer-Encoding: identity\r\n\r\n", 501),
        (HEAD + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n", 501),
        (HEAD + b"Expect: 200-ok\r\n\r\n", 417),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /a HTTP/1.1\r\n" + b"X: a\r\n" * 101 + b"\r\n", 431),
        (b"GET /a HTTP/1.1\r\n" + (b"X: " + b"a" * 8000 + b"\r\n") * 9 + b"\r\n", 431),
    ],
)
@pytest.mark.parametrize("piece", [1000, 1 << 20])
def test_what_is_no_request_is_refused_and_ends_the_connection(sent: bytes, status: int, piece: int) -> None:
    """The application hears nothing of it, nor of a request that hides behind it."""

    async def scene() -> None:
        client = Client()
        await client.send(sent + GET, piece)

        assert client.requests == []
        assert client.statuses == [status]
        assert b"\r\nConnection: close\r\n" in client.wire.sent
        assert client.wire.has_sent_eof
        await client.send(b"x" * 100)
        assert client.wire.ended == ""
        client.connection.expire()
        assert client.wire.ended == "aborted"

    run(scene)


def test_a_head_without_an_end_is_refused_once_it_is_too_large() -> None:
    """Each line is a good one, and there are not too many of them."""

    async def scene() -> None:
        client = Client()
        await client.send(b"GET /a HTTP/1.1\r\n" + (b"X: " + b"a" * 8000 + b"\r\n") * 9, 4000)

        assert client.statuses == [431]

    run(scene)


@pytest.mark.parametrize("end", ["completed", "refused", "timed out", "lost"])
def test_what_is_kept_of_half_a_head_is_counted_until_it_is_dropped(end: str) -> None:
    """The server bounds the sum over all connections."""

    async def scene() -> None:
        client = Client()
        half = b"GET /a HTTP/1.1\r\nHost: x\r\n"
        await client.send(half, 5)
        assert client.held_bytes == len(half)
        if end == "timed out":
            client.connection.expire()
        elif end == "lost":
            client.connection.connection_lost(None)
        else:
            await client.send(b"\r\n" if end == "completed" else b"no colon\r\n\r\n")

        assert client.held_bytes == 0

    run(scene)


@pytest.mark.parametrize(
    "rest",
    [b"zz\r\n", b"3 \r\nabc\r\n", b"0x3\r\nabc\r\n", b"3\nabc\r\n", b"3\r\nabcd\r\n", b"3\r\nabc\n0\r\n\r\n", b"\r\n",
     b"fffffffffffffffff\r\n", b"0\r\nContent-Length: 5\r\n\r\n"],
)  # fmt: skip
def test_a_body_that_can_not_be_made_out_is_refused_and_nothing_behind_it_is_a_request(rest: bytes) -> None:
    """Malformed chunks: nobody knows where the next request would begin."""
    told: list[Rejected] = []

    async def read(_: RequestHead, stream: Stream) -> Answer:
        try:
            while await stream.read(1 << 16):
                pass
        except Rejected as error:
            told.append(error)
            return Answer(error.status)
        return Answer(200)

    async def scene() -> None:
        client = Client(read)
        await client.send(CHUNKED + rest + GET)

        assert (len(client.requests), client.statuses) == (1, [400])
        assert b"\r\nConnection: close\r\n" in client.wire.sent
        assert len(told) == 1

    run(scene)


def test_behind_malformed_chunks_nothing_is_read_any_more() -> None:
    """Whatever follows, and however late the answer is: it could be anything."""
    is_open = asyncio.Event()

    async def unread(_: RequestHead, __: Stream) -> Answer:
        await is_open.wait()
        return Answer(415)

    async def scene() -> None:
        client = Client(unread)
        await client.send(CHUNKED + b"3 \r\n")
        await client.send(b"3\r\nabc\r\n0\r\n\r\n" + GET)
        await client.send(GET * 3000)
        assert client.wire.is_paused
        is_open.set()
        await client.settle()

        assert (len(client.requests), client.statuses) == (1, [415])
        assert b"Connection: close" in client.wire.sent
        assert client.wire.has_sent_eof

    run(scene)


def test_a_body_that_is_here_is_here_whatever_becomes_of_its_client() -> None:
    """A request that was received in full is dealt with, though nobody will read the answer."""
    is_open = asyncio.Event()
    bodies: list[bytes] = []

    async def later(_: RequestHead, stream: Stream) -> Answer:
        await is_open.wait()
        bodies.append(await stream.read(1 << 16))
        return Answer(200)

    async def scene() -> None:
        client = Client(later)
        await client.send(POST)
        client.wire.abort()
        client.connection.connection_lost(ConnectionResetError())
        is_open.set()
        await client.settle()

        assert (bodies, client.statuses) == ([b"abc"], [])

    run(scene)


@pytest.mark.parametrize(
    ("sent", "says"),
    [(HEAD + b"Content-Length: 10\r\n\r\nabc", "after 3 of 10 bytes"), (CHUNKED + b"3\r\nabc\r\n", "broke off")],
)
@pytest.mark.parametrize("how", ["half-closed", "reset"])
def test_a_body_that_stops_is_never_its_end(sent: bytes, says: str, how: str) -> None:
    """The reader is told, whether the client sends no more or is gone."""
    told: list[str] = []

    async def read(_: RequestHead, stream: Stream) -> Answer:
        try:
            while await stream.read(1 << 16):
                pass
        except Rejected as error:
            told.append(error.message)
        return Answer(400)

    async def scene() -> None:
        client = Client(read)
        await client.send(sent)
        assert told == []
        if how == "reset":
            client.wire.abort()
            client.connection.connection_lost(ConnectionResetError())
        else:
            assert client.connection.eof_received() is True
        await client.settle()

        assert len(told) == 1
        assert how == "reset" or says in told[0]
        assert client.statuses == ([] if how == "reset" else [400])

    run(scene)


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (HEAD + b"Content-Length: 10\r\n\r\nabc", None),
        (CHUNKED + b"3\r\nabc\r\n", None),
        (HEAD + b"Content-Length: 3\r\n\r\nabc", b"abc"),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (HEAD + b"Content-Length: 0\r\n\r\n", b""),
    ],
)
def test_only_a_whole_body_is_taken_at_once(sent: bytes, taken: bytes | None) -> None:
    """Half of one may look like a whole one: its lines are events."""
    found: list[bytes | None] = []

    async def take(_: RequestHead, stream: Stream) -> Answer:
        found.append(stream.take())
        return Answer(200)

    async def scene() -> None:
        await Client(take).send(sent)

        assert found == [taken]

    run(scene)


def test_the_deadlines_of_head_body_and_idle_connection() -> None:
    """408 for half a head and for half a body; a client that has sent nothing is closed silently."""

    async def refused(_: RequestHead, stream: Stream) -> Answer:
        try:
            await stream.read(1)
        except Rejected as error:
            return Answer(error.status, error.message.encode())
        return Answer(200)

    async def scene() -> None:
        silent, half_head, half_body = Client(refused), Client(refused), Client(refused)
        await half_head.send(b"GET / HT")
        await half_body.send(HEAD + b"Content-Length: 5\r\n\r\n")
        assert half_head.connection.deadline_s < silent.connection.deadline_s - 50
        for client in (silent, half_head, half_body):
            client.connection.expire()
            await client.settle()

        assert (silent.wire.sent, silent.wire.ended) == (b"", "closed")
        assert half_head.statuses == half_body.statuses == [408]
        assert b"the request's head did not arrive within 15 s" in half_head.wire.sent
        assert b"the request's body did not arrive within 15 s" in half_body.wire.sent
        assert all(b"Connection: close" in client.wire.sent for client in (half_head, half_body))

    run(scene)


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize(("size", "goes_on"), [(50_000, True), (70_000, False)])
def test_behind_a_body_that_nobody_read(framing: str, size: int, goes_on: bool) -> None:  # noqa: FBT001  (a row)
    """A small one is drained and the next request answered; behind a large one, or one without an end, it is over."""

    async def scene() -> None:
        client = Client(refuse_unread)
        head = b"Content-Length: %d\r\n\r\n" % size if framing == "length" else b"Transfer-Encoding: chunked\r\n\r\n"
        await client.send(HEAD + head)
        body = b" " * size if framing == "length" else b"%x\r\n" % size + b" " * size + b"\r\n0\r\n\r\n"
        await client.send(body + GET, 10_000)

        keeps = goes_on and framing == "length"
        assert client.statuses == ([415, 415] if keeps else [415])
        assert client.wire.sent.count(b"Connection: keep-alive") == (2 if keeps else 0)
        assert client.wire.has_sent_eof is not keeps

    run(scene)


def test_a_body_is_invited_when_somebody_reads_it() -> None:
    """Expect: 100-continue: a refusal comes instead of the invitation, and ends the connection."""

    async def scene() -> None:
        expect = HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        wanted, refused, at_once = Client(), Client(refuse_unread), Client()
        await wanted.send(expect)
        assert wanted.wire.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wanted.send(b"abc" + GET)
        await refused.send(expect)
        await at_once.send(expect + b"abc")

        assert (wanted.statuses, wanted.bodies) == ([100, 200, 200], [b"abc", b""])
        assert refused.statuses == [415]
        assert b"Connection: close" in refused.wire.sent
        assert at_once.statuses == [200]
        assert b"Connection: keep-alive" in at_once.wire.sent

    run(scene)


def test_an_offer_to_upgrade_is_not_taken_and_costs_no_body() -> None:
    """Java's client offers HTTP/2 with its first request; the body follows as HTTP/1.1 has it."""

    async def scene() -> None:
        client = Client()
        offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
        await client.send(HEAD + offer + b"Content-Length: 3\r\n\r\nabc" + GET)

        assert client.bodies == [b"abc", b""]
        assert client.statuses == [200, 200]

    run(scene)


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n", False),
    ],
)
def test_how_long_a_connection_lives_is_the_clients_to_say(head: bytes, keeps: bool) -> None:  # noqa: FBT001  (a row)
    """HTTP/1.1 goes on unless told otherwise, HTTP/1.0 only when asked."""

    async def scene() -> None:
        client = Client()
        await client.send(head)

        assert client.statuses == [200]
        assert (b"Connection: keep-alive" in client.wire.sent) is keeps
        assert client.wire.ended == ("" if keeps else "closed")

    run(scene)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a/b?c=d?e", "/a/b", "c=d?e"),
        (b"http://a.example:80/a?b", "/a", "b"),
        (b"HTTPS://a.example", "/", ""),
        (b"http://a.example?b", "/", "b"),
        (b"/%61", "/a", ""),
        (b"/a%2fb%61", "/a%2fb%61", ""),
        (b"//a", "//a", ""),
    ],
)
def test_a_target_is_a_path_and_a_query(target: bytes, path: str, query: str) -> None:
    """Absolute ones too (RFC 9112, section 3.2.2); an encoded slash is no slash."""

    async def scene() -> None:
        client = Client()
        await client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target)

        assert [(head.path, head.query) for head in client.requests] == [(path, query)]

    run(scene)


def test_the_answer_to_head_has_no_body() -> None:
    """Else a client would take it for the next answer."""

    async def scene() -> None:
        client = Client()
        await client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")

        assert client.wire.sent.endswith(b"Content-Length: 5\r\nConnection: keep-alive\r\n\r\n")

    run(scene)


def test_who_does_not_take_answers_gets_no_further_ones() -> None:
    """What waits to be sent is bounded, and after a while the connection is given up."""

    async def scene() -> None:
        client = Client()
        client.connection.pause_writing()
        await client.send(GET * 3)
        assert client.statuses == [200]
        client.connection.resume_writing()
        client.connection.pause_writing()
        await client.settle()
        assert client.statuses == [200, 200]
        client.connection.expire()

        assert client.wire.ended == "aborted"

    run(scene)


def test_an_ending_server_lets_requests_finish() -> None:
    """A connection without a request is closed at once, one with a request behind its answer."""
    is_open = asyncio.Event()

    async def slowly(_: RequestHead, __: Stream) -> Answer:
        await is_open.wait()
        return Answer(200)

    async def scene() -> None:
        idle, busy = Client(slowly), Client(slowly)
        await busy.send(GET)
        for client in (idle, busy):
            client.is_closing = True
            client.connection.shut()
        assert (idle.wire.ended, busy.wire.ended) == ("closed", "")
        is_open.set()
        await busy.settle()

        assert busy.statuses == [200]
        assert b"Connection: close" in busy.wire.sent
        assert busy.wire.ended == "closed"

    run(scene)


def test_an_answer_with_a_line_break_in_a_header_is_never_sent(caplog: pytest.LogCaptureFixture) -> None:
    """It would be two answers."""

    async def split(_: RequestHead, __: Stream) -> Answer:
        return Answer(200, b"", [("X", "a\r\nSet-Cookie: b")])

    async def scene() -> None:
        client = Client(split)
        await client.send(GET)

        assert (client.wire.sent, client.wire.ended) == (b"", "aborted")

    run(scene)
    assert "line break" in str(caplog.records[-1].exc_info)


def test_a_defect_is_told_and_not_taken_for_bad_http(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection ends without an answer, and the log has the traceback."""

    async def scene() -> None:
        client = Client()
        monkeypatch.setattr(client, "stopped_waiting", None)
        await client.send(GET)

        assert (client.wire.sent, client.wire.ended) == (b"", "aborted")

    run(scene)
    assert caplog.records[-1].exc_info is not None


def test_a_large_body_waits_in_the_socket_until_it_is_read() -> None:
    """What was received and not read is bounded."""
    is_open = asyncio.Event()

    async def later(_: RequestHead, stream: Stream) -> Answer:
        await is_open.wait()
        size = 0
        while piece := await stream.read(1 << 16):
            size += len(piece)
        return Answer(200, b"%d" % size)

    async def scene() -> None:
        client = Client(later)
        await client.send(HEAD + b"Content-Length: 600000\r\n\r\n" + b" " * 300_000)
        assert client.wire.is_paused
        is_open.set()
        await client.settle()
        assert not client.wire.is_paused
        await client.send(b" " * 300_000)

        assert client.wire.sent.endswith(b"600000")

    run(scene)
