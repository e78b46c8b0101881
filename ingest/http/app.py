"""The HTTP surface: Flask routes and answers, no rules of their own.

Every error is the same JSON document, whoever found it: {"error", "message", "statusCode", "details"}.
"""

import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import parse_qs
from wsgiref.types import WSGIEnvironment

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from ingest.access.control import AccessControl, Admission
from ingest.counters import Metrics, RequestCounter
from ingest.errors import Rejected, Unavailable
from ingest.events.collector import Collector
from ingest.events.validator import Sender
from ingest.http.body import BodyHeaders, BodyReader
from ingest.http.headers import check_host, prefers_lenient, read_api_key, read_idempotency_key
from ingest.http.middleware import COLLECT, RequestContext, context_of
from ingest.http.responses import JSON, accepted_body, error_body, validation_body
from ingest.memory import Body

log = logging.getLogger(__name__)

T = TypeVar("T")

VALIDATE: Final = "/collect/validate"
COUNTED: Final = frozenset({COLLECT, VALIDATE})
"""The routes behind the gate."""


class _Application(Flask):
    """Flask, which answers OPTIONS by itself, but with an empty page of HTML."""

    def make_default_options_response(self) -> Response:
        """Say what the route takes, and nothing else."""
        answer = super().make_default_options_response()
        answer.status_code = HTTPStatus.NO_CONTENT
        answer.headers.remove("Content-Type")
        answer.headers["Allow"] = ", ".join(sorted(answer.allow))
        return answer


def create_app(
    collector: Collector,
    access_control: AccessControl,
    bodies: BodyReader,
    metrics: Metrics,
    now_s: Callable[[], float] = time.time,
) -> Flask:
    """Return the WSGI application around a collector; `now_s` is Unix time."""
    app = _Application("ingest", static_folder=None)
    app.url_map.merge_slashes = False  # //collect/event is no route, and no redirect
    _add_gate(app, access_control, now_s)
    _add_collecting(app, collector, access_control, bodies, metrics, now_s)
    _add_probes(app, collector)
    _add_errors(app, metrics)
    return app


def admission_of(access_control: AccessControl, environ: WSGIEnvironment, at_s: float) -> Admission:
    """Count a request and judge whether it may come in; `at_s` is Unix time."""
    key = "" if access_control.is_open else _key_of(environ)
    return access_control.admit(key, environ.get("HTTP_ORIGIN", ""), context_of(environ).address, at_s)


def _key_of(environ: WSGIEnvironment) -> str:
    query = parse_qs(environ.get("QUERY_STRING", "")).get("key", ("",))[0]
    return read_api_key(environ.get("HTTP_X_API_KEY", ""), environ.get("HTTP_AUTHORIZATION", ""), query)


def _add_gate(app: Flask, access_control: AccessControl, now_s: Callable[[], float]) -> None:
    """Count every request to a collecting route, whatever becomes of it, and say so on its answer."""

    @app.before_request
    def admit() -> None:
        if request.environ["PATH_INFO"].startswith("//"):
            raise NotFound  # werkzeug would take it for the route with one slash; the door, which counts, does not
        if request.path in COUNTED:
            g.admission = admission_of(access_control, request.environ, now_s())
        check_host(request.environ.get("HTTP_HOST"), request.environ.get("SERVER_PROTOCOL", ""))

    @app.after_request
    def stamp(response: Response) -> Response:
        if "admission" in g:
            response.headers.extend(g.admission.headers)
        return response


def _add_collecting(  # noqa: PLR0913, PLR0917  (what it composes)
    app: Flask,
    collector: Collector,
    access_control: AccessControl,
    bodies: BodyReader,
    metrics: Metrics,
    now_s: Callable[[], float],
) -> None:
    def admitted(context: RequestContext) -> Sender:
        """Return what is known of a request that may come in, besides its body."""
        admission: Admission = g.admission
        admission.check()
        return _origin(context, admission.client_id, int(now_s() * 1000))

    def use_body(counter: RequestCounter, use: Callable[[Body], T]) -> T:
        """Read the body and use it; its memory is the request's meanwhile, and then it has cost its sender."""
        with bodies.lease() as lease:
            try:
                body = bodies.read(request.environ["wsgi.input"], _form(), lease)
            except Rejected:
                access_control.spend(g.admission, 0, lease.size_bytes)  # what was inflated and refused has cost as much
                raise
            metrics.observe("body_bytes", body.sent_bytes, form="sent")
            metrics.observe("body_bytes", len(body.text), form="inflated")
            try:
                return use(body)
            finally:
                access_control.spend(g.admission, counter.events, max(len(body.text), counter.size_bytes))

    @app.post(COLLECT)
    def collect() -> Response:
        context = context_of(request.environ)
        origin, lenient = admitted(context), prefers_lenient(request.headers.get("Prefer", ""))
        counter = context.counter
        collected = use_body(counter, lambda body: collector.collect(body, origin, counter, lenient=lenient))
        response = Response(accepted_body(collected.entries), 201, content_type=JSON)
        response.headers["X-Durability"] = collected.durability
        if lenient:
            response.headers["Preference-Applied"] = "handling=lenient"
        return response

    @app.post(VALIDATE)
    def validate() -> Response:
        context = context_of(request.environ)
        origin = admitted(context)
        counter = context.counter
        examined = use_body(counter, lambda body: collector.validate(body, origin, counter))
        return Response(validation_body(examined.result, examined.warnings), content_type=JSON)


def _form() -> BodyHeaders:
    params = request.mimetype_params
    length = request.content_length
    if length is None and not request.environ.get("wsgi.input_terminated"):
        length = 0  # the server does not say where the body ends: there is none (PEP 3333)
    return BodyHeaders(request.mimetype, params.get("charset", ""), request.headers.get("Content-Encoding", ""), length)


def _origin(context: RequestContext, client_id: str, received_at_ms: int) -> Sender:
    traceparent = context.traceparent
    return Sender(
        received_at_ms=received_at_ms,
        ip=context.ip,
        user_agent=context.user_agent,
        trace_id=context.trace_id,
        idempotency_key=read_idempotency_key(request.headers.get("Idempotency-Key")),
        client_id=client_id,
        request_id=context.request_id,
        record_headers=(("traceparent", traceparent.encode()),) if traceparent else (),
    )


def _add_probes(app: Flask, collector: Collector) -> None:
    @app.get("/healthz")
    def healthz() -> Response:
        return Response('{"status": "ok"}', content_type=JSON)

    @app.get("/readyz")
    def readyz() -> Response:
        if not collector.is_ready():
            raise Unavailable("not_ready", "events cannot be made durable now")
        return Response('{"status": "ready"}', content_type=JSON)


def _add_errors(app: Flask, metrics: Metrics) -> None:
    @app.errorhandler(Rejected)
    def rejected(error: Rejected) -> Response:
        context_of(request.environ).outcome = error.code
        if error.status == HTTPStatus.TOO_MANY_REQUESTS:
            metrics.count("rate_limited_total")
        response = Response(error_body(error.status, error.message, error.faults), error.status, content_type=JSON)
        response.headers.extend(error.headers)
        return response

    @app.errorhandler(Unavailable)
    def unavailable(error: Unavailable) -> Response:
        context_of(request.environ).outcome = error.code
        response = Response(error_body(error.status, error.message), error.status, content_type=JSON)
        response.headers["Retry-After"] = str(error.retry_after_s)
        return response

    @app.errorhandler(HTTPException)
    def refused_by_framework(error: HTTPException) -> Response:
        status = error.code or 500
        response = Response(error_body(status, _sentence(error)), status, content_type=JSON)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(Exception)
    def defect(error: Exception) -> Response:
        log.error("defect", exc_info=error, extra={"request_id": context_of(request.environ).request_id})
        message = "the collector failed; the log has the cause under this request's id"
        return Response(error_body(500, message), 500, content_type=JSON)


def _sentence(error: HTTPException) -> str:
    if isinstance(error, NotFound):
        return "there is no such route"
    if isinstance(error, MethodNotAllowed):
        return f"the route takes {', '.join(sorted(error.valid_methods or ()))}"
    return error.description or error.name
