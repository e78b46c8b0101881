"""The fault proxy before an HTTP server: each fault is the one that was asked for."""

import http.client
import socket
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.http_recorder import Recorder, serve
from tests.support.ports import free_port
from tests.support.proxy import (
    Answer,
    BlackHole,
    CutBody,
    DelayAnswer,
    DropAnswer,
    FaultProxy,
    Mode,
    Pass,
    Refuse,
    Reset,
)

CUT_OFF = (ConnectionError, http.client.HTTPException)  # RemoteDisconnected is both
HEAD_OF_CUT = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"


@pytest.fixture
def upstream() -> Iterator[Recorder]:
    """A running server."""
    with serve() as server:
        yield server


@pytest.fixture
def proxy(upstream: Recorder) -> Iterator[FaultProxy]:
    """A proxy before it that passes everything."""
    with FaultProxy("127.0.0.1", upstream.port) as started:
        yield started


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[http.client.HTTPConnection]:
    """A client that keeps its connection and gives up after 10 s."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    yield connection
    connection.close()


def post(client: http.client.HTTPConnection, body: bytes | Iterable[bytes]) -> tuple[int, bytes]:
    """Send a body, in chunks when it is no bytes; return status and answer."""
    client.request("POST", "/", body, encode_chunked=not isinstance(body, bytes))
    answer = client.getresponse()
    return answer.status, answer.read()


def get(client: http.client.HTTPConnection, path: str, method: str = "GET") -> bytes:
    """Return the body of an answer with status 200."""
    client.request(method, path)
    answer = client.getresponse()
    assert answer.status == 200
    return answer.read()


def test_requests_pass_over_one_connection(
    client: http.client.HTTPConnection, proxy: FaultProxy, upstream: Recorder
) -> None:
    """Bodies with a length and in chunks, answers with a length, in chunks and for HEAD keep the connection."""
    assert post(client, b"x" * 100) == (200, b"100 bytes")
    assert post(client, iter([b"ab", b"c" * 70_000])) == (200, b"70002 bytes")
    assert get(client, "/", "HEAD") == b""
    assert get(client, "/chunks") == b"one two"
    assert get(client, "/") == b"length"
    assert upstream.applied == [b"x" * 100, b"ab" + b"c" * 70_000]
    assert (proxy.connections, proxy.count(Pass)) == (1, 5)


def test_an_answer_may_end_with_its_connection(client: http.client.HTTPConnection) -> None:
    """Where neither length nor chunks tell the end, the close does."""
    assert get(client, "/until-close") == b"no length"
    assert get(client, "/") == b"length"


def test_a_large_body_arrives_unchanged(client: http.client.HTTPConnection, upstream: Recorder) -> None:
    """Twenty megabytes pass as they are."""
    body = bytes(range(256)) * 80_000
    assert post(client, body)[0] == 200
    assert upstream.applied == [body]


def test_many_clients_pass_at_once(proxy: FaultProxy, upstream: Recorder) -> None:
    """Forty connections at the same time do not disturb each other."""

    def one(number: int) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
        try:
            return post(connection, b"x" * number)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(one, range(1, 41))) == [(200, b"%d bytes" % size) for size in range(1, 41)]
    assert len(upstream.applied) == 40


def test_refused_connections_end_where_the_server_is_back(
    client: http.client.HTTPConnection, proxy: FaultProxy
) -> None:
    """A closed port refuses, kept connections are gone too, and afterwards the same port serves."""
    post(client, b"before")
    proxy.set(Refuse())
    with pytest.raises(CUT_OFF):
        post(client, b"on the kept connection")
    client.close()
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            post(client, b"on a new one")
        client.close()
    proxy.set(Pass())
    assert post(client, b"after") == (200, b"5 bytes")


def test_a_reset_strikes_so_many_times(
    client: http.client.HTTPConnection, proxy: FaultProxy, upstream: Recorder
) -> None:
    """The next two requests are reset unseen by the server, the third passes."""
    proxy.set(Reset(), times=2)
    for _ in range(2):
        with pytest.raises(CUT_OFF):
            post(client, b"lost")
        client.close()
    assert post(client, b"seen") == (200, b"4 bytes")
    assert (upstream.applied, proxy.count(Reset)) == ([b"seen"], 2)


def test_a_black_hole_takes_and_never_answers(proxy: FaultProxy, upstream: Recorder) -> None:
    """The client's own timeout ends it; the server saw nothing, and a new connection passes."""
    impatient = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=0.5)
    proxy.set(BlackHole(), times=1)
    with pytest.raises(TimeoutError):
        post(impatient, b"lost")
    impatient.close()
    assert post(impatient, b"seen")[0] == 200
    impatient.close()
    assert (upstream.applied, proxy.count(BlackHole)) == ([b"seen"], 1)


def test_a_dropped_answer_was_applied(
    client: http.client.HTTPConnection, proxy: FaultProxy, upstream: Recorder
) -> None:
    """The server has the whole body; the client gets a reset and not one byte."""
    proxy.set(DropAnswer(), times=1)
    with pytest.raises(ConnectionError) as failure:
        post(client, b"y" * 100_000)
    assert isinstance(failure.value, ConnectionResetError)
    proxy.await_count(DropAnswer, 1)
    assert upstream.applied == [b"y" * 100_000]


def test_a_delayed_answer_was_applied_at_once(
    client: http.client.HTTPConnection, proxy: FaultProxy, upstream: Recorder
) -> None:
    """The answer comes late and whole; the server applied the request meanwhile."""
    proxy.set(DelayAnswer(0.6), times=1)
    start_s = time.monotonic()
    client.request("POST", "/", b"z")
    while not upstream.applied:
        assert time.monotonic() < start_s + 0.5, "the request waits too"
        time.sleep(0.01)
    assert client.getresponse().read() == b"1 bytes"
    assert 0.6 <= time.monotonic() - start_s < 5


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_a_cut_body_is_seen_in_part(
    client: http.client.HTTPConnection, proxy: FaultProxy, upstream: Recorder, size: int
) -> None:
    """The server gets the head and exactly so many bytes, applies nothing, and the client is reset."""
    proxy.set(CutBody(size), times=1)
    with pytest.raises(CUT_OFF):
        post(client, b"w" * 200_000)
    deadline_s = time.monotonic() + 10
    while not upstream.partial:
        assert time.monotonic() < deadline_s, "the server was not reset"
        time.sleep(0.01)
    assert [len(body) for body in upstream.partial] == [size]
    assert (upstream.applied, proxy.count(CutBody)) == ([], 1)


def test_a_made_up_answer_is_not_forwarded(
    client: http.client.HTTPConnection, proxy: FaultProxy, upstream: Recorder
) -> None:
    """Status, headers and body are the test's, the server sees nothing, and the connection goes on."""
    proxy.set(Answer(500, {"X-ClickHouse-Exception-Code": "252"}, b"Code: 252. Too many parts"), times=1)
    client.request("POST", "/", b"x" * 100_000)
    answer = client.getresponse()
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (500, "252")
    assert answer.read() == b"Code: 252. Too many parts"
    assert post(client, b"seen") == (200, b"4 bytes")
    assert (upstream.applied, proxy.connections) == ([b"seen"], 1)


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(proxy: FaultProxy, upstream: Recorder) -> None:
    """Expect: 100-continue is answered by the proxy, so a dropped answer is dropped after the body."""
    proxy.set(DropAnswer(), times=1)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert raw.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(b"body")
        with pytest.raises(ConnectionResetError):
            raw.recv(100)
    assert upstream.applied == [b"body"]


def test_a_server_that_is_away_is_a_reset_until_it_is_back(upstream: Recorder) -> None:
    """The proxy outlives its upstream and dials the new address at the next connection."""
    gone = free_port()
    with FaultProxy("127.0.0.1", gone) as proxy:
        client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
        with pytest.raises(CUT_OFF):
            post(client, b"lost")
        client.close()
        proxy.upstream = ("127.0.0.1", upstream.port)
        assert post(client, b"seen")[0] == 200
        client.close()


def test_a_client_that_leaves_in_the_middle_is_cut_upstream(proxy: FaultProxy, upstream: Recorder) -> None:
    """A body that its client does not finish is not finished for the server either."""
    with socket.create_connection(("127.0.0.1", proxy.port)) as raw:
        raw.sendall(HEAD_OF_CUT.encode() + b"\r\nhalf")
        deadline_s = time.monotonic() + 10
        while proxy.connections < 1:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
    while not upstream.partial:
        assert time.monotonic() < deadline_s, "the server still waits for the rest"
        time.sleep(0.01)
    assert upstream.applied == []


def test_closing_ends_waiting_clients_and_frees_the_port(upstream: Recorder) -> None:
    """Close is bounded even while a client sits in a black hole; a second close does nothing."""
    proxy = FaultProxy("127.0.0.1", upstream.port)
    proxy.set(BlackHole())
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        proxy.await_count(BlackHole, 1)
        start_s = time.monotonic()
        proxy.close()
        proxy.close()
        assert time.monotonic() - start_s < 5
        with pytest.raises(ConnectionResetError):
            raw.recv(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=1)


@pytest.mark.parametrize(
    ("mode", "times", "http_aware"), [(Refuse(), 1, True), (Reset(), 0, True), (Answer(200), None, False)]
)
def test_a_mode_that_cannot_be_had_is_refused(mode: Mode, times: int | None, http_aware: bool) -> None:  # noqa: FBT001 - a parameter of the table above
    """A mistake in a test is told where it is made."""
    with FaultProxy("127.0.0.1", 1, http=http_aware) as proxy, pytest.raises(ValueError, match=r"times|HTTP"):
        proxy.set(mode, times)
