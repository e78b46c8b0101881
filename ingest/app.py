"""The HTTP surface: Flask routes and answers, no rules of their own.

Every error is the same JSON document, whoever found it: {"error", "message", "statusCode", "details"}.
"""

import logging
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from ingest.door import exchange_of
from ingest.errors import Fault, Rejected, Unavailable
from ingest.intake import FAULTS_MAX, Intake, Origin, Verdict, key_of
from ingest.ledger import Account
from ingest.ports import Publisher, Record
from schemas.codec import Encoder
from schemas.event import Event

log = logging.getLogger(__name__)

_JSON: Final = "application/json"
_JSON_TYPES: Final = frozenset({"", _JSON, "text/plain"})
_encode_json: Final = msgspec.json.Encoder().encode


class Collector:
    """One request's way: body -> verdict -> Avro -> durable -> answer."""

    def __init__(self, intake: Intake, encoder: Encoder, publisher: Publisher) -> None:
        self._intake = intake
        self._encoder = encoder
        self._publisher = publisher

    def collect(self, body: bytes, origin: Origin, account: Account, traceparent: str = "") -> Response:
        """Take a request's events and answer with their pingIds; `account` hears what became of them.

        Raises:
            Rejected: the client must repair something; nothing was published.
            Unavailable: no durable place; the request may be sent again.
        """
        verdict = self._intake.read(body, origin)
        account.judge(len(verdict.entries))
        events = _accepted(verdict)
        headers = (("traceparent", traceparent.encode()),) if traceparent else ()
        self._publisher.publish([self._record(event, headers) for event in events])
        account.accept(len(events))
        return Response(answer_of([event["pingId"] for event in events]), 201, content_type=_JSON)

    def _record(self, event: Event, headers: tuple[tuple[str, bytes], ...]) -> Record:
        return Record(key_of(event).encode(), self._encoder.encode(event), headers)

    def is_ready(self) -> bool:
        """Tell whether events can be made durable now."""
        return self._publisher.is_ready()


def _accepted(verdict: Verdict) -> list[Event]:
    faults = verdict.faults
    if not faults:
        return verdict.events
    raise Rejected(400, f"bad_event_{faults[0].rule}", _headline(faults[0]), faults)


def _headline(fault: Fault) -> str:
    return "invalid event type" if fault.rule == "enum" else fault.message


def answer_of(ping_ids: Sequence[str]) -> bytes:
    """Return the body of a 201; a pingId is canonical, so nothing in it needs escaping."""
    elements = ", ".join(f'{{"headers": {{}}, "value": "{{\\"pingId\\": \\"{ping_id}\\"}}"}}' for ping_id in ping_ids)
    return f"[{elements}]".encode()


def create_app(collector: Collector, body_bytes_max: int, now_s: Callable[[], float] = time.time) -> Flask:
    """Return the WSGI application around a collector."""
    app = Flask("ingest", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = body_bytes_max
    _add_routes(app, collector, now_s)
    _add_errors(app)
    return app


def _add_routes(app: Flask, collector: Collector, now_s: Callable[[], float]) -> None:
    @app.post("/collect/event")
    def collect_event() -> Response:
        if request.mimetype not in _JSON_TYPES:
            raise Rejected(
                415, "content_type", f"Content-Type must be {_JSON} or text/plain, got {request.mimetype[:80]}"
            )
        exchange = exchange_of(request.environ)
        origin = Origin(
            received_at_ms=int(now_s() * 1000),
            ip=exchange.ip,
            user_agent=exchange.user_agent,
            trace_id=exchange.trace_id,
            idempotency_key=request.headers.get("Idempotency-Key", ""),
        )
        return collector.collect(request.get_data(cache=False), origin, exchange.account, exchange.traceparent)

    @app.get("/healthz")
    def healthz() -> Response:
        return Response('{"status": "ok"}', content_type=_JSON)

    @app.get("/readyz")
    def readyz() -> Response:
        if not collector.is_ready():
            raise Unavailable("not_ready", "events cannot be made durable now")
        return Response('{"status": "ready"}', content_type=_JSON)


def _add_errors(app: Flask) -> None:
    @app.errorhandler(Rejected)
    def rejected(error: Rejected) -> Response:
        exchange_of(request.environ).outcome = error.slug
        return error_response(error.status, error.message, error.faults)

    @app.errorhandler(Unavailable)
    def unavailable(error: Unavailable) -> Response:
        exchange_of(request.environ).outcome = error.slug
        response = error_response(error.status, error.message)
        response.headers["Retry-After"] = str(error.retry_after_s)
        return response

    @app.errorhandler(HTTPException)
    def refused_by_framework(error: HTTPException) -> Response:
        response = error_response(error.code or 500, error.description or "")
        if error.response is None:
            response.headers.extend((name, value) for name, value in error.get_headers() if name != "Content-Type")
        return response

    @app.errorhandler(Exception)
    def defect(error: Exception) -> Response:
        log.error("defect", exc_info=error, extra={"request_id": exchange_of(request.environ).request_id})
        return error_response(500, "the collector failed; the log has the cause under this request's id")


def error_response(status: int, message: str, faults: Sequence[Fault] = ()) -> Response:
    """Return the JSON document of an error."""
    document: dict[str, object] = {"error": HTTPStatus(status).phrase, "message": message, "statusCode": status}
    if faults:
        document["details"] = [
            {"index": fault.index, "pointer": fault.pointer, "rule": fault.rule, "message": fault.message}
            for fault in faults[:FAULTS_MAX]
        ]
    return Response(_encode_json(document), status, content_type=_JSON)
