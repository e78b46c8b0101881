"""The fault proxy strikes the requests that it is told to, late and at their last byte too."""

import http.client
import time
from collections.abc import Iterator

import pytest

from tests.support.http_recorder import Recorder, serve
from tests.support.proxy import CutBody, DelayRequest, FaultProxy, Pass, Profile, Reset
from tests.support.proxy_http_wire import Head


@pytest.fixture
def upstream() -> Iterator[Recorder]:
    """A running server."""
    with serve() as server:
        yield server


@pytest.fixture
def proxy(upstream: Recorder) -> Iterator[FaultProxy]:
    """A proxy before it."""
    with FaultProxy("127.0.0.1", upstream.port) as started:
        yield started


def post(proxy: FaultProxy, path: str, body: bytes, timeout_s: float = 10) -> bytes:
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
    assert post(proxy, "/?query=SELECT", b"a") == b"1 bytes"
    with pytest.raises(ConnectionError):
        post(proxy, "/?query=INSERT", b"b")
    assert post(proxy, "/?query=INSERT", b"c") == b"1 bytes"
    assert (upstream.applied, proxy.count(Reset), proxy.count(Pass)) == ([b"a", b"c"], 1, 2)


def test_a_delayed_request_is_applied_when_nobody_waits_any_more(proxy: FaultProxy, upstream: Recorder) -> None:
    """The client has given up, and another request has passed it by."""
    proxy.set(DelayRequest(0.6), times=1)
    with pytest.raises(TimeoutError):
        post(proxy, "/", b"late", timeout_s=0.1)
    assert post(proxy, "/", b"soon") == b"4 bytes"
    assert upstream.applied == [b"soon"]
    proxy.await_count(DelayRequest, 1)
    assert upstream.applied == [b"soon", b"late"]


def test_a_delayed_request_is_answered_to_who_waits(proxy: FaultProxy) -> None:
    """Late, and whole."""
    proxy.set(DelayRequest(0.3), times=1)
    start_s = time.monotonic()
    assert post(proxy, "/", b"z") == b"1 bytes"
    assert time.monotonic() - start_s >= 0.3


def test_a_body_may_lack_its_last_byte(proxy: FaultProxy, upstream: Recorder) -> None:
    """A number below 0 counts from the end."""
    proxy.set(CutBody(-1), times=1)
    with pytest.raises(ConnectionError):
        post(proxy, "/", b"x" * 1000)
    assert post(proxy, "/", b"seen") == b"4 bytes"
    assert (upstream.applied, proxy.count(CutBody)) == ([b"seen"], 1)


def test_a_profile_sets_what_the_client_does_not(proxy: FaultProxy, upstream: Recorder) -> None:
    """The request itself is the same."""
    head = Head("POST /?a=1&query=x HTTP/1.1", ()).with_settings({"a": 2, "b": 3})
    assert head.line == "POST /?a=1&query=x&b=3 HTTP/1.1"
    proxy.set(Profile({"b": 3}), times=1)
    assert post(proxy, "/?a=1", b"xy") == b"2 bytes"
    assert (upstream.applied, proxy.count(Profile)) == ([b"xy"], 1)
