"""What is known of one request while it is answered."""

from ingest.access.control import ANYBODY
from ingest.counters import RequestCounter
from ingest.http.body import Stream
from ingest.http.message import RequestHead
from ingest.http.trace import new_id
from ingest.tracing import RequestSpan


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
