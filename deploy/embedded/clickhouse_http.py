"""ClickHouse's HTTP interface over the engine in this process, as a WSGI application.

Left out: sessions (`session_id` is taken, and every request is a session of its own: no temporary
table or SET outlives it), external data, native block framing (`compress=1`, `decompress=1`), users
other than `default`, progress headers, brotli. An answer is whole before its first byte leaves, so its
status is always the true one, and a body is whole before its insert begins, so half a body inserts
nothing. The query id names the request; the engine gives its own to `queryID()`.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import uuid
from typing import TYPE_CHECKING, Final

from werkzeug.datastructures import CombinedMultiDict, MultiDict
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wrappers import Request, Response

from deploy.embedded import clickhouse_native
from deploy.embedded.clickhouse_encodings import decoded, encoded
from deploy.embedded.clickhouse_engine import Answer, Engine, Execution
from deploy.embedded.clickhouse_errors import (
    AUTHENTICATION_FAILED,
    CANNOT_READ_ALL_DATA,
    NOT_IMPLEMENTED,
    READONLY,
    SYNTAX_ERROR,
    ClickHouseError,
)
from deploy.embedded.clickhouse_statements import Statement, parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from wsgiref.types import StartResponse, WSGIEnvironment

# Parameters that speak to the HTTP handler; every other one is a setting of the engine.
_NO_SETTINGS: Final = frozenset(
    (
        "buffer_size",
        "client_protocol_version",
        "close_session",
        "compress",
        "database",
        "decompress",
        "default_format",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "session_check",
        "session_id",
        "session_timeout",
        "stacktrace",
        "user",
        "wait_end_of_query",
    )
)
_MAX_QUERY_BYTES: Final = 262_144  # ClickHouse's default of max_query_size
# As much as cheroot copies in vain for each read of a body that came as one large chunk.
_READ_BYTES: Final = 1024 * 1024
_PLAIN: Final = "text/plain; charset=UTF-8"
_TYPES_OF_FORMATS: Final = {
    "text/tab-separated-values; charset=UTF-8": "TabSeparated TSV",
    "text/tab-separated-values; charset=UTF-8; header=present": "TabSeparatedWithNames TSVWithNames",
    "text/csv; charset=UTF-8; header=absent": "CSV",
    "text/csv; charset=UTF-8; header=present": "CSVWithNames",
    "application/json; charset=UTF-8": "JSON JSONCompact",
    "application/x-ndjson; charset=UTF-8": "JSONEachRow JSONCompactEachRow",
    "application/xml; charset=UTF-8": "XML",
    "application/octet-stream": "Native RowBinary Arrow ArrowStream Parquet Avro",
}
_CONTENT_TYPES: Final = {form: kind for kind, forms in _TYPES_OF_FORMATS.items() for form in forms.split()}


class _Request(Request):
    """A request whose form may be as long as its parameters need: clients send long ones so."""

    max_form_memory_size = None


class Application:
    """The WSGI application; safe for any number of threads.

    Args:
        engine: Runs the statements.
        bodies_dir: Where the data of an insert lie while it runs, in files without a name.
        server_name: For the X-ClickHouse-Server-Display-Name header.
    """

    def __init__(self, engine: Engine, bodies_dir: Path, server_name: str) -> None:
        self._engine = engine
        self._bodies_dir = bodies_dir
        self._server_name = server_name

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        """Answer one request."""
        if not environ.get("wsgi.input_terminated"):
            # cheroot says False where werkzeug asks whether it is said, and takes half a body for a whole one.
            environ.pop("wsgi.input_terminated", None)
        request = _Request(environ)
        return iter(self._respond(request)(environ, start_response))

    def _respond(self, request: Request) -> Response:
        if request.path in ("/ping", "/replicas_status"):
            return Response("Ok.\n", content_type=_PLAIN)
        if request.path not in ("/", "/query"):
            return Response(f"There is no handle {request.path}\n", 404, content_type=_PLAIN)
        if request.method not in ("GET", "HEAD", "POST", "PUT"):
            return Response(f"Method {request.method} is not supported\n", 501, content_type=_PLAIN)
        if request.method in ("GET", "HEAD") and "query" not in request.args:
            return Response("Ok.\n", content_type=_PLAIN)
        arguments = _arguments(request)
        try:
            response = self._execute(request, arguments)
        except ClickHouseError as error:
            _read_to_end(request)  # or the connection could not be used again
            response = Response(error.text(self._engine.version), error.http_status, content_type=_PLAIN)
            response.headers["X-ClickHouse-Exception-Code"] = str(error.code)
        response.headers["X-ClickHouse-Query-Id"] = arguments.get("query_id") or str(uuid.uuid4())
        response.headers["X-ClickHouse-Timezone"] = self._engine.timezone
        response.headers["X-ClickHouse-Server-Display-Name"] = self._server_name
        return response

    def _execute(self, request: Request, arguments: MultiDict[str, str]) -> Response:
        _refuse(request, arguments)
        chunks = decoded(_chunks(request), request.headers.get("Content-Encoding", ""))
        head = _head(arguments.get("query", "").encode().rstrip(), chunks)
        statement = parse(head)
        if statement.data_at is None:
            if next(chunks, b""):
                raise ClickHouseError(SYNTAX_ERROR, f"Max query size exceeded: {_MAX_QUERY_BYTES} bytes")
            answer = self._run(request, arguments, statement, None)
            return _answer(request, arguments, statement, answer)
        # /proc/self/fd opens the file although it has no name; whatever happens, none is left behind.
        with tempfile.TemporaryFile(dir=self._bodies_dir) as body:
            body.write(memoryview(head)[statement.data_at :])
            body.writelines(chunks)
            body.flush()
            answer = self._run(request, arguments, statement, f"/proc/self/fd/{body.fileno()}")
        return _answer(request, arguments, statement, answer)

    def _run(
        self, request: Request, arguments: MultiDict[str, str], statement: Statement, body_path: str | None
    ) -> Answer:
        parameters = {name[6:]: value for name, value in arguments.items() if name.startswith("param_")}
        settings = {name: value for name, value in arguments.items() if _is_setting(name)}
        if _wants_frames(arguments):
            settings |= clickhouse_native.SETTINGS
        execution = Execution(
            statement,
            body_path,
            database=arguments.get("database") or request.headers.get("X-ClickHouse-Database"),
            settings=settings,
            parameters=parameters,
            default_format=_default_format(request, arguments),
            read_only=request.method in ("GET", "HEAD"),
        )
        try:
            return self._engine.run(execution)
        except ClickHouseError as error:
            if error.code == READONLY[0] and execution.read_only:
                hint = "For queries over HTTP, method GET implies readonly. Use method POST for queries that write"
                raise ClickHouseError(READONLY, f"{error.message} {hint}") from error
            raise


def _arguments(request: Request) -> MultiDict[str, str]:
    """Return the URL's parameters and those of a multipart form, the URL's first."""
    if request.mimetype != "multipart/form-data":
        return request.args
    return CombinedMultiDict([request.args, request.form])


def _chunks(request: Request) -> Iterator[bytes]:
    """Yield what is left of the body as it came over the wire."""
    try:
        while chunk := request.stream.read(_READ_BYTES):
            yield chunk
    except (ClientDisconnected, OSError, ValueError) as error:  # ValueError is cheroot's, for chunks cut short
        raise ClickHouseError(CANNOT_READ_ALL_DATA, "The body ends too early") from error


def _read_to_end(request: Request) -> None:
    with contextlib.suppress(ClickHouseError):
        for _ in _chunks(request):
            pass


def _head(query: bytes, chunks: Iterator[bytes]) -> bytes:
    """Return the text a statement is read from: the URL's query, and the body as far as SQL may reach."""
    head = bytearray(query + b"\n" if query else b"")
    while len(head) <= _MAX_QUERY_BYTES and (chunk := next(chunks, None)) is not None:
        head += chunk
    return bytes(head)


def _refuse(request: Request, arguments: MultiDict[str, str]) -> None:
    """Raise for what this server cannot do, before it does something else instead."""
    user = request.authorization.username if request.authorization else None
    user = arguments.get("user") or request.headers.get("X-ClickHouse-User") or user or "default"
    if user != "default":
        raise ClickHouseError(AUTHENTICATION_FAILED, f"{user}: there is no such user, only `default`")
    for framing in ("compress", "decompress"):
        if arguments.get(framing, "0") not in ("0", ""):
            raise ClickHouseError(NOT_IMPLEMENTED, f"{framing}=1: use Content-Encoding or enable_http_compression")
    if request.mimetype == "multipart/form-data" and request.files:
        raise ClickHouseError(NOT_IMPLEMENTED, "External data are not supported")


def _is_setting(name: str) -> bool:
    return name not in _NO_SETTINGS and not name.startswith("param_")


def _wants_frames(arguments: MultiDict[str, str]) -> bool:
    """Tell whether Native has to come with frames: clickhouse-connect finds out itself, clickhouse-go does not."""
    revision = arguments.get("client_protocol_version", "0")
    return revision.isdecimal() and int(revision) >= clickhouse_native.REVISION


def _default_format(request: Request, arguments: MultiDict[str, str]) -> str:
    return arguments.get("default_format") or request.headers.get("X-ClickHouse-Format") or "TabSeparated"


def _answer(request: Request, arguments: MultiDict[str, str], statement: Statement, answer: Answer) -> Response:
    form = (statement.format if statement.data_at is None else None) or _default_format(request, arguments)
    body, coding = answer.body, None
    if form == "Native" and _wants_frames(arguments):
        body = clickhouse_native.framed(body)
    if arguments.get("enable_http_compression", "1") in ("1", "true"):
        body, coding = encoded(body, request.accept_encodings.values())
    response = Response(body, content_type=_PLAIN)
    if coding:
        response.headers["Content-Encoding"] = coding
    if answer.body or statement.selects:  # a client tells an empty result from none by this header
        response.headers["X-ClickHouse-Format"] = form
        response.content_type = _CONTENT_TYPES.get(form, _PLAIN)
    response.headers["X-ClickHouse-Summary"] = json.dumps(answer.summary, separators=(",", ":"))
    return response
