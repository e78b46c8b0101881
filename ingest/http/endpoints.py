"""The collecting routes, as coroutines: Flask and the event loop call the same ones.

Nothing here blocks the loop: bodies are awaited as they arrive, and large ones are processed in threads.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, Final, TypeVar

from werkzeug.http import parse_options_header

from ingest.access.control import AccessControl
from ingest.errors import Rejected, Unavailable
from ingest.events.collector import Collector
from ingest.events.validator import Sender
from ingest.http.body import BodyHeaders, BodyReader
from ingest.http.context import RequestContext
from ingest.http.headers import prefers_lenient, prefers_minimal, read_idempotency_key
from ingest.http.inflight import LoadBound
from ingest.http.message import Answer
from ingest.http.pixel import QueryReader, check_purpose
from ingest.http.responses import JSON, accepted_body, validation_body
from ingest.memory import Body, Share
from ingest.ports import Metrics

T = TypeVar("T")

Endpoint = Callable[[RequestContext], Coroutine[Any, Any, Answer]]

# A larger body is processed in a thread, so that it does not delay other requests.
INLINE_BYTES_MAX: Final = 64 * 1024
_TYPES_CACHED: Final = 256
_NO_BODY: Final = BodyHeaders("", "", "", None)
_CREATED: Final = HTTPStatus.CREATED  # looking it up there takes 0.2 us


class CollectEndpoints:
    """The routes behind access control. One event loop uses them; who calls one answers its exceptions (`answer_to`).

    Args:
        collector: takes the events.
        access_control: hears what a request contained.
        bodies: reads them.
        load_bound: limits the requests in flight.
        metrics: hears of sizes.
        threads: process large bodies.
        now_s: Unix time.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (what it composes)
        self,
        collector: Collector,
        access_control: AccessControl,
        bodies: BodyReader,
        load_bound: LoadBound,
        metrics: Metrics,
        threads: Executor,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._collector = collector
        self._queries = QueryReader(collector.catalogue)
        self._promoted = collector.catalogue.promoted
        self._access_control = access_control
        self._bodies = bodies
        self._load_bound = load_bound
        self._metrics = metrics
        self._observe_sent = metrics.observer("body_bytes", form="sent")
        self._observe_inflated = metrics.observer("body_bytes", form="inflated")
        self._threads = threads
        self._now_s = now_s

    async def collect(self, context: RequestContext) -> Answer:
        """Answer POST /collect/event."""
        sender = self._sender(context)
        prefer = context.header("prefer")
        is_lenient = prefers_lenient(prefer)
        counter = context.counter
        prepare = partial(self._collector.prepare, origin=sender, counter=counter, lenient=is_lenient)
        with self._bodies.lease() as lease:
            form = _form_of(context)
            sent = self._bodies.take(context.stream, form, lease)
            if sent is None:
                sent = await self._receive(context, form, lease)
            with self._load_bound.work():
                work = partial(self._use, context, form, sent, lease, prepare)
                prepared = work() if _is_small(form, sent) else await self._in_thread(work)
                durability = await self._collector.publish(prepared, counter)
        headers = [("Content-Type", JSON), ("X-Durability", str(durability))]
        if is_lenient:
            headers.append(("Preference-Applied", "handling=lenient"))
        if prefers_minimal(prefer):
            headers.append(("Preference-Applied", "return=minimal"))
            return Answer(_CREATED, b"[]", headers)
        return Answer(_CREATED, accepted_body(prepared.entries), headers)

    async def validate(self, context: RequestContext) -> Answer:
        """Answer POST /collect/validate."""
        sender = self._sender(context)

        def examine(body: Body) -> bytes:
            examined = self._collector.validate(body, sender, context.counter)
            return validation_body(examined.result, examined.warnings, self._promoted)

        with self._bodies.lease() as lease:
            form = _form_of(context)
            sent = self._bodies.take(context.stream, form, lease)
            if sent is None:
                sent = await self._receive(context, form, lease)
            with self._load_bound.work():
                work = partial(self._use, context, form, sent, lease, examine)
                answer = work() if _is_small(form, sent) else await self._in_thread(work)
        return Answer(HTTPStatus.OK, answer, [("Content-Type", JSON)])

    async def pixel(self, context: RequestContext) -> Answer:
        """Answer GET and HEAD /collect/pixel.gif; the middleware puts the image into the answer."""
        sender = self._sender(context)
        if context.head.method == "HEAD":
            return Answer(HTTPStatus.OK)
        check_purpose(context.head.headers)
        event = self._queries.request_of(context.head.query)

        prepare = partial(self._collector.prepare, origin=sender, counter=context.counter)
        with self._bodies.lease() as lease, self._load_bound.work():
            prepared = self._use(context, _NO_BODY, event, lease, prepare)  # a query is small
            durability = await self._collector.publish(prepared, context.counter)
        return Answer(HTTPStatus.OK, headers=[("X-Durability", str(durability))])

    async def _receive(self, context: RequestContext, form: BodyHeaders, lease: Share) -> bytes:
        """Return a body as it was sent."""
        try:
            return await self._bodies.receive(context.stream, form, lease)
        except Rejected:
            self._access_control.spend(context.admission, 0, lease.size_bytes)
            raise

    def _use(
        self, context: RequestContext, form: BodyHeaders, sent: bytes, lease: Share, use: Callable[[Body], T]
    ) -> T:
        """Inflate a body and use it; then count it against the limit."""
        try:
            body = self._bodies.inflate(sent, form, lease)
        except Rejected:  # a refused body cost as much to inflate
            self._access_control.spend(context.admission, 0, lease.size_bytes)
            raise
        self._observe_sent(body.sent_bytes)
        self._observe_inflated(len(body.text))
        try:
            return use(body)
        finally:
            counter = context.counter
            size_bytes = max(len(body.text), counter.size_bytes)
            self._access_control.spend(context.admission, counter.events, size_bytes)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            job = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RuntimeError as error:  # the threads have ended
            raise Unavailable("not_ready", "the collector is shutting down") from error
        return await job

    def _sender(self, context: RequestContext) -> Sender:
        """Admit a request, and return what is known of it besides its body.

        Raises:
            Rejected: access control refuses it, or its Idempotency-Key is invalid.
        """
        context.admission.check()
        traceparent = context.traceparent
        return Sender(
            received_at_ms=int(self._now_s() * 1000),
            ip=context.ip,
            user_agent=context.user_agent,
            trace_id=context.trace_id,
            idempotency_key=read_idempotency_key(context.head.headers.get("idempotency-key")),
            client_id=context.admission.client_id,
            request_id=context.request_id,
            record_headers=(("traceparent", traceparent.encode()),) if traceparent else (),
        )


def _form_of(context: RequestContext) -> BodyHeaders:
    """Return what a request's head says of its body."""
    media_type, charset = _type_of(context.header("content-type"))
    return BodyHeaders(media_type, charset, context.header("content-encoding"), context.head.length)


def _is_small(form: BodyHeaders, sent: bytes) -> bool:
    """Tell whether a body delays nobody; a hundred compressed bytes may inflate to megabytes."""
    return not form.encoding and len(sent) <= INLINE_BYTES_MAX


@lru_cache(_TYPES_CACHED)
def _type_of(content_type: str) -> tuple[str, str]:
    """Return a Content-Type's media type in small letters, and its charset, "" for none."""
    media_type, params = parse_options_header(content_type)
    return media_type.lower(), params.get("charset", "")
