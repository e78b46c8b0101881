"""The fault proxy before an HTTP server: each fault is the one that was asked for."""

import http.client
import time
from collections.abc import Iterable, Iterator

import pytest

from tests.support.http_recorder import Recorder, serve
from tests.support.proxy import (
    Answer,
    BlackHole,
    CutBody,
    DelayAnswer,
    DelayRequest,
    DropAnswer,
    FaultProxy,
    Pass,
    Refuse,
    Reset,
)

CUT_OFF = (ConnectionError, http.client.HTTPException)  # RemoteDisconnected is both


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
    """A client that keeps its connection and gives up after a minute."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
    yield connection
    connection.close()


def post(client: http.client.HTTPConnection, body: bytes | Iterable[bytes]) -> tuple[int, bytes]:
    """Send a body, in chunks when it is no bytes; return status and answer."""
    client.request("POST", "/", body, encode_chunked=not isinstance(body, bytes))
    answer = client.getresponse()
    return answer.status, answer.read()


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
    impatient.timeout = 60
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
    proxy.set(DelayAnswer(3), times=1)
    start_s = time.monotonic()
    client.request("POST", "/", b"z")
    while not upstream.applied:
        assert time.monotonic() < start_s + 2.9, "the request waits too"
        time.sleep(0.01)
    assert client.getresponse().read() == b"1 bytes"
    assert time.monotonic() - start_s >= 3


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_a_cut_body_is_seen_in_part(
    client: http.client.HTTPConnection, proxy: FaultProxy, upstream: Recorder, size: int
) -> None:
    """The server gets the head and exactly so many bytes, applies nothing, and the client is reset."""
    proxy.set(CutBody(size), times=1)
    with pytest.raises(CUT_OFF):
        post(client, b"w" * 200_000)
    deadline_s = time.monotonic() + 60
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


def post_once(proxy: FaultProxy, path: str, body: bytes, timeout_s: float = 60) -> bytes:
    """Send a body over a connection of its own and return the answer's."""
    client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout_s)
    try:
        client.request("POST", path, body)
        return client.getresponse().read()
    finally:
        client.close()


def test_only_the_requests_of_a_kind_are_struck(proxy: FaultProxy, upstream: Recorder) -> None:
    """The others pass, and don't use up the number of blows."""
    proxy.set(Reset(), times=1, only="INSERT")
    assert post_once(proxy, "/?query=SELECT", b"a") == b"1 bytes"
    with pytest.raises(ConnectionError):
        post_once(proxy, "/?query=INSERT", b"b")
    assert post_once(proxy, "/?query=INSERT", b"c") == b"1 bytes"
    assert (upstream.applied, proxy.count(Reset), proxy.count(Pass)) == ([b"a", b"c"], 1, 2)


def test_a_delayed_request_is_applied_when_nobody_waits_any_more(proxy: FaultProxy, upstream: Recorder) -> None:
    """The client has given up, and another request has passed it by."""
    proxy.set(DelayRequest(2), times=1)
    with pytest.raises(TimeoutError):
        post_once(proxy, "/", b"late", timeout_s=0.1)
    assert post_once(proxy, "/", b"soon") == b"4 bytes"
    assert upstream.applied == [b"soon"]
    proxy.await_count(DelayRequest, 1)
    assert upstream.applied == [b"soon", b"late"]
