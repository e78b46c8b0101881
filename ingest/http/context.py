"""One request and its answer, whichever server receives it."""

from collections.abc import Mapping, Sequence
from time import monotonic
from urllib.parse import unquote_to_bytes

import msgspec

from ingest.access.control import ANYBODY
from ingest.counters import RequestCounter
from ingest.http.body import Stream
from ingest.http.trace import new_id
from ingest.tracing import RequestSpan

Headers = Sequence[tuple[str, str]]


class RequestHead(msgspec.Struct, frozen=True):
    """What stands before a request's body.

    Attributes:
        method: in capitals.
        path: decoded, as `path_of` does it; bytes are Latin-1, as in WSGI.
        query: as sent, without the question mark.
        protocol: HTTP/1.0 or HTTP/1.1.
        headers: by lower-case name; several of one name are joined by commas.
        length: of the body in bytes; None for a chunked one.
        peer: the address at the other end of the connection, "" when unknown.
        port: the port that the request came in on, "" when unknown.
        received_s: monotonic time at which the server began to deal with it.
    """

    method: str
    path: str
    query: str = ""
    protocol: str = "HTTP/1.1"
    headers: Mapping[str, str] = {}
    length: int | None = 0
    peer: str = ""
    port: str = ""
    received_s: float = msgspec.field(default_factory=monotonic)


def path_of(target: str) -> str:
    """Return the path of a request's target, which has no query any more.

    An encoded slash is no slash (RFC 3986, section 2.2): /collect%2fevent is another path than /collect/event, so a
    path with one in it stays as it was sent.
    """
    if "%" not in target or "%2f" in target or "%2F" in target:
        return target
    return unquote_to_bytes(target).decode("latin-1")


class Answer(msgspec.Struct, frozen=True):
    """What a client is told."""

    status: int
    body: bytes = b""
    headers: Headers = ()


class RequestContext:
    """One request and its answer.

    Attributes:
        head: what stands before the body.
        stream: the body.
        route: the path if it is a route, else "other".
        counter: the request's event counter.
        request_id: the caller's X-Request-Id when it is valid, else a fresh one.
        trace_id: from the caller's traceparent, else the request id if that can be one, else a fresh one.
        traceparent: the caller's, when it is valid, else "".
        address: the client's full address, used for limits only.
        ip: the part of the address that a row may keep.
        user_agent: the header's beginning; "" when a privacy signal forbids to keep it.
        admission: access control's decision; a blank one on other routes.
        is_preflight: a CORS preflight, which is answered and not counted.
        outcome: the error code; "" when the status says enough.
        span: the request's span; None when nothing is traced.
    """

    __slots__ = (
        "address",
        "admission",
        "counter",
        "head",
        "ip",
        "is_preflight",
        "outcome",
        "request_id",
        "route",
        "span",
        "stream",
        "trace_id",
        "traceparent",
        "user_agent",
    )  # fmt: skip

    def __init__(self, head: RequestHead, stream: Stream, route: str, counter: RequestCounter) -> None:
        self.head = head
        self.stream = stream
        self.route = route
        self.counter = counter
        self.request_id = self.trace_id = new_id()
        self.traceparent = self.address = self.ip = self.user_agent = self.outcome = ""
        self.admission = ANYBODY
        self.is_preflight = False
        self.span: RequestSpan | None = None

    def header(self, name: str) -> str:
        """Return a header by its lower-case name; "" when there is none."""
        return self.head.headers.get(name, "")
