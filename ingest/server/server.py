"""gunicorn's own parts, in our form: its log lines are JSON like all others, and so is what it refuses itself.

What gunicorn's threaded worker does by itself (27.0): it waits 5 s for the first byte of a new connection before it
puts it aside; from that byte on it reads head and body without any limit in time, so that a client which sends a byte
now and then holds a thread for ever. It answers malformed requests in HTML, and asks for the body of an `Expect:
100-continue` request before the application has seen its head. It closes connections in the thread that accepts them,
and waits up to 2 s there for a client that does not close its own end.
"""

import logging.config
import math
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from socket import socket
from time import monotonic
from typing import Any, Final

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http import errors as refusals
from gunicorn.http.body import LengthReader
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn, ThreadWorker

from ingest.errors import Rejected
from ingest.http.responses import JSON, error_body
from ingest.http.trace import new_id
from ingest.logs import REFUSALS, log_config
from ingest.server.connection import ClientSocket

log = logging.getLogger(REFUSALS)

_MOMENT_S: Final = 0.01
_DRAINED_BYTES_MAX: Final = 60 * 1024  # gunicorn.http.parser drains less than 64 KiB
_REFUSED: Final = "refused_by_server"
_ANSWERS: Final[dict[type[Exception], tuple[HTTPStatus, str]]] = {
    refusals.LimitRequestLine: (HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long"),
    refusals.LimitRequestHeaders: (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too many or too large"),
    refusals.UnsupportedTransferCoding: (HTTPStatus.NOT_IMPLEMENTED, "the Transfer-Encoding must be chunked"),
    refusals.ExpectationFailed: (HTTPStatus.EXPECTATION_FAILED, "Expect can only be 100-continue"),
    refusals.ForbiddenProxyRequest: (HTTPStatus.FORBIDDEN, "the PROXY protocol is not allowed from this address"),
    refusals.ParseException: (HTTPStatus.BAD_REQUEST, "the request is not valid HTTP"),
}
_DEFECT: Final = (
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "the collector failed; the log has the cause under this request's id",
)


class ServerLog(Logger):
    """Sends what gunicorn says to the process's log; there is no access log."""

    def setup(self, cfg: Config) -> None:
        """Configure logging; gunicorn calls it at start and again when it reloads its configuration."""
        super().setup(cfg)
        logging.config.dictConfig(log_config(cfg.loglevel.upper()))


class Worker(ThreadWorker):
    """gunicorn's threaded worker, with an end to everything that a client can make a thread wait for."""

    receive_timeout_s = 15.0
    """For a request's head, and again for its body; deploy/gunicorn.conf.py sets it."""

    def handle(self, conn: TConn) -> Any:
        """Serve one request of a connection, or put it aside; whoever is refused gets time to read why."""
        client = _connection_of(conn)
        client.expect("the request's head", self.receive_timeout_s)
        stays = super().handle(conn)
        if not stays:
            client.linger() if _may_be_sending(conn, client) else client.finish()
        return stays

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """Serve one request whose head is here.

        Raises:
            UnsupportedTransferCoding: gunicorn passes gzip and deflate on, still compressed.
        """
        if _has_other_coding(req):
            raise refusals.UnsupportedTransferCoding("")
        if any(name == "EXPECT" for name, _ in req.headers):
            req.force_close()  # the body of a refused one may come or not
        req.should_close = partial(_ends_connection, req, req.should_close)
        client = _connection_of(conn)
        client.expect("the request's body", self.receive_timeout_s)
        try:
            return bool(super().handle_request(req, conn)) and not client.owes_continue
        finally:
            client.expect("", math.inf)  # what is left unread has gunicorn's own limits

    def handle_error(self, req: Any, client: socket, addr: Any, exc: BaseException) -> None:  # noqa: ARG002  (gunicorn's signature)
        """Answer a request that never reached the application."""
        if isinstance(client, ClientSocket):
            client.lose_track()
        status, message = _answer_of(exc)
        request_id = new_id()
        if status is HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log.error("the server failed to handle a request", exc_info=exc, extra={"request_id": request_id})
        log.info("request refused", extra={"request_id": request_id, "status": int(status), "outcome": _REFUSED})
        body = error_body(status, message)
        head = (
            f"HTTP/1.1 {status:d} {status.phrase}\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
            f"X-Request-Id: {request_id}\r\nConnection: close\r\n\r\n"
        )
        try:
            client.sendall(head.encode() + body)
        except OSError:
            return  # the client has gone


def _has_other_coding(req: Any) -> bool:
    """Tell whether a request's Transfer-Encoding has anything but chunked in it."""
    codings = (coding for name, value in req.headers if name == "TRANSFER-ENCODING" for coding in value.split(","))
    return any(coding.strip(" \t").lower() != "chunked" for coding in codings)


def _ends_connection(req: Any, decide: Callable[[], bool]) -> bool:
    """Tell, when the answer's head is written, whether it ends the connection: the client must hear of it there.

    gunicorn drains a body that nobody read, but only so much of it, and then closes a connection that it promised to
    keep. Of a chunked body nobody knows how much is left.
    """
    reader = req.body.reader
    left = reader.length if isinstance(reader, LengthReader) else math.inf if reader.parser is not None else 0
    return left > _DRAINED_BYTES_MAX or decide()


def _connection_of(conn: TConn) -> ClientSocket:
    """Return a connection's socket, in our form from the first time on."""
    if not isinstance(conn.sock, ClientSocket):
        conn.sock = ClientSocket(conn.sock)
    return conn.sock


def _may_be_sending(conn: TConn, client: ClientSocket) -> bool:
    """Tell whether a client can have more to say than was read of its request."""
    if client.has_lost_track or client.owes_continue or not isinstance(conn.parser, RequestParser):
        return True
    return not conn.parser.finish_body(deadline=monotonic() + _MOMENT_S)  # type: ignore[func-returns-value]  # the stubs are of gunicorn 23


def _answer_of(exc: BaseException) -> tuple[HTTPStatus, str]:
    """Return the status and the sentence for an exception; never what the client sent."""
    if isinstance(exc, Rejected):
        return HTTPStatus(exc.status), exc.message
    if isinstance(exc, refusals.InvalidHeader) and exc.req is not None and _has_other_coding(exc.req):
        return _ANSWERS[refusals.UnsupportedTransferCoding]
    # gunicorn's InvalidResponse… are kinds of its InvalidHeader…, but our own fault.
    kinds = () if type(exc).__name__.startswith("InvalidResponse") else _ANSWERS
    return next((_ANSWERS[kind] for kind in kinds if isinstance(exc, kind)), _DEFECT)
