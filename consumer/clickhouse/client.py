"""Sends statements and queries to ClickHouse. errors.py says what each failure means."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import (
    ClickHouseError,
    DatabaseError,
    Error,
    NotSupportedError,
    OperationalError,
)
from clickhouse_connect.driver.exceptions import DataError as BadDataError
from clickhouse_connect.driver.exceptions import ProgrammingError as MisuseError
from clickhouse_connect.driver.external import ExternalData
from clickhouse_connect.driver.httputil import get_pool_manager
from clickhouse_connect.driver.summary import QuerySummary

from consumer.clickhouse.errors import of_clickhouse, of_http, without_values
from consumer.clickhouse.statements import insert_statement
from consumer.errors import Cause, ConsumerError, Halt, HaltCode, Misconfigured, Transient
from schemas.transport.access import read_url
from schemas.transport.tls import Tls

_SYSTEM: Final = Tls("CONSUMER_CLICKHOUSE_")
_NOT_CONNECTED: Final = ("Connection refused", "NewConnectionError", "NameResolutionError", "ConnectTimeoutError")
_STATUS: Final = re.compile(r"^HTTP driver received HTTP status (\d{3})\b")


class ExternalTable(NamedTuple):
    """Rows that a query reads beside the tables, under a name; ClickHouse forgets them with its answer.

    They are in no log of ClickHouse either.
    """

    name: str
    structure: str
    payload: bytes
    form: str = "Avro"

    @property
    def sent(self) -> ExternalData:
        """The rows as the driver sends them."""
        return ExternalData(file_name=self.name, data=self.payload, fmt=self.form, structure=self.structure)


class _Rows(bytes):
    """The data behind a statement.

    clickhouse-connect 1.12 decodes a command's data as text, to see whether it is a query that may be sent twice. That
    takes a tenth of a worker's time, and four times the memory; the statement before it tells the same.
    """

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002  (the signature of bytes)
        """Return no text."""
        return ""


class Connection:
    """A connection to one ClickHouse server, opened at first use, because the server may be away at the start."""

    def __init__(  # noqa: PLR0913  (all are needed)
        self, url: str, user: str, password: str, database: str, timeout_s: float, *, tls: Tls = _SYSTEM
    ) -> None:
        self.database = database
        self._url = read_url(url, ("http", "https"), "the user and the password apart")
        self._tls = tls
        self._options: dict[str, Any] = {
            "interface": self._url.scheme,  # otherwise the driver guesses it from the port
            "host": self._url.host,
            "port": self._url.port,
            "proxy_path": self._url.path,
            "username": user,
            "password": password,
            "database": database,
            "send_receive_timeout": timeout_s,
            "connect_timeout": 5,
            "autogenerate_session_id": False,  # a session serialises its queries
            "query_retries": 0,
        }
        if tls.certificate_file and not password:
            self._options["client_cert"] = tls.certificate_file  # the driver then authenticates with it
        self._client: Client | None = None
        self._lock = threading.Lock()

    @property
    def timeout_s(self) -> float:
        """An answer is waited for so long."""
        return float(self._options["send_receive_timeout"])

    @property
    def address(self) -> str:
        """Host and port."""
        return self._url.address

    def client(self) -> Client:
        """Return the driver's client; threads share it.

        Raises:
            Transient, Fatal: the server is away, or refuses us.
        """
        with self._lock:
            if self._client is None:
                self._client = self._opened()
            return self._client

    def _opened(self) -> Client:
        """Return a client that has reached the server. Here a certificate that is not trusted is Misconfigured.

        Later it is Transient: a certificate that was replaced can be replaced again.
        """
        options: dict[str, Any] = {}
        try:
            if self._url.has_tls:
                options["ssl_context"] = self._tls.context()
            # Our own pool, because the driver's would use the proxies that the environment names.
            return clickhouse_connect.get_client(**self._options, pool_mgr=get_pool_manager(**options))
        except ValueError as error:
            raise Misconfigured(str(error)) from error
        except (ClickHouseError, OSError) as error:
            about_tls = self._tls.explain(error, self._url.address)
            if self._url.has_tls and not about_tls and isinstance(error, OperationalError | OSError):
                about_tls = self._tls.probe(self._url.host, self._url.port, self._url.address)
            raise (Misconfigured(about_tls) if about_tls else translate(error)) from error

    def _translated(self, error: Exception, size_bytes: int = 0) -> ConsumerError:
        about_tls = self._tls.explain(error, self._url.address)
        return Transient(about_tls, Cause.AWAY) if about_tls else translate(error, size_bytes)

    @contextmanager
    def translating(self, size_bytes: int = 0) -> Iterator[Client]:
        """Yield the driver's client, as `client` does, and translate its errors. `size_bytes` is the request's size."""
        client = self.client()
        try:
            yield client
        except (ClickHouseError, OSError) as error:
            raise self._translated(error, size_bytes) from error

    def command(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        data: bytes | None = None,
        settings: Mapping[str, Any] | None = None,
        *,
        rows: ExternalTable | None = None,
    ) -> None:
        """Run a statement that returns no rows; succeed only on an answer that only ClickHouse can have sent.

        The statement may read `rows` as a table; then it has no data.

        Raises:
            Transient, Rejected, Fatal: as errors.py says.
        """
        with self.translating(len(data or b"")) as client:
            # ClickHouse puts a newline between statement and data; a second one would be an empty row.
            body = None if data is None else _Rows(data)
            beside = rows.sent if rows else None
            answer = client.command(
                statement.rstrip(), dict(parameters or {}), body, dict(settings or {}), external_data=beside
            )
        if not _is_success(answer):
            raise _foreign()

    def query(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        rows: ExternalTable | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Return a query's rows by column name, of an answer that only ClickHouse can have sent.

        The query may read `rows` as a table.

        Raises:
            Transient, Rejected, Fatal: as errors.py says.
        """
        sent = rows.sent if rows else None
        with self.translating(len(rows.payload) if rows else 0) as client:
            answer = client.query(statement, dict(parameters or {}), dict(settings or {}), external_data=sent)
            found = list(answer.named_results())
        if not answer.summary.get("query_id"):
            raise _foreign()
        return found

    def patient(self, timeout_s: float) -> "Connection":
        """Return a connection to the same server and database with another timeout; the caller closes it."""
        return self._changed(send_receive_timeout=timeout_s)

    def beside(self, database: str) -> "Connection":
        """Return a connection to another database of the same server; the caller closes it."""
        other = self._changed(database=database)
        other.database = database
        return other

    def _changed(self, **options: object) -> "Connection":
        other = copy(self)
        other._options = self._options | options  # noqa: SLF001  (of the same class)
        other._client, other._lock = None, threading.Lock()  # noqa: SLF001  (as above)
        return other

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()


@dataclass(frozen=True, slots=True)
class Target:
    """The table that blocks are inserted into.

    Attributes:
        table: its name, in the connection's database.
        schema_name: the name of the schema file that its columns come from.
        topic: the value of its rows' `_topic`.
        timeout_s: an unanswered insert is given up after this.
    """

    table: str
    schema_name: str
    topic: str
    timeout_s: float

    @property
    def statement(self) -> str:
        """The insert statement."""
        return insert_statement(self.table, self.schema_name, self.topic)


def _foreign() -> Transient:
    return Transient("incomplete or foreign response; is a proxy in between?", Cause.UNKNOWN)


def _is_success(answer: object) -> bool:
    """Tell whether this is ClickHouse's answer for success: its own headers, and no body.

    A proxy's page has a body, or lacks the headers; an exception after the headers is a body too. A server that is
    killed may have sent the beginning of its headers, which the driver takes for an empty answer; the query's id comes
    in their last piece, with how the body ends.
    """
    return answer == "" or (isinstance(answer, QuerySummary) and bool(answer.summary.get("query_id")))


def translate(error: Exception, size_bytes: int = 0) -> ConsumerError:
    """Translate an error of the driver; its `code` is None when ClickHouse did not answer.

    `size_bytes` is the size of the request.
    """
    code = error.code if isinstance(error, Error) else None
    if code is not None:
        return of_clickhouse(code, str(error))
    raw = str(error)
    message = f"{type(error).__name__}: {without_values(raw)}"
    if isinstance(error, MisuseError | NotSupportedError | BadDataError):  # raised by the driver before sending
        return Halt(message, HaltCode.DEFECT)
    if not isinstance(error, DatabaseError | OSError):
        return Halt(message, HaltCode.DEFECT)
    if status := _STATUS.search(raw):
        return of_http(int(status[1]), size_bytes)
    if any(text in raw for text in _NOT_CONNECTED):
        return Transient("ClickHouse is away: connection refused, or no such host", Cause.AWAY)
    return Transient(message, Cause.UNKNOWN)
