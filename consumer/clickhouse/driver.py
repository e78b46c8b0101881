"""The driver, clickhouse-connect: its client, what it is given to send, and what its answers and errors mean."""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError as DriverError
from clickhouse_connect.driver.exceptions import (
    DatabaseError,
    Error,
    NotSupportedError,
    OperationalError,
)
from clickhouse_connect.driver.exceptions import DataError as BadDataError
from clickhouse_connect.driver.exceptions import ProgrammingError as MisuseError
from clickhouse_connect.driver.external import ExternalData
from clickhouse_connect.driver.httputil import all_managers, get_pool_manager_options
from clickhouse_connect.driver.summary import QuerySummary

from consumer.clickhouse.errors import of_clickhouse, of_http, without_values
from consumer.clickhouse.pool import NotingPool
from consumer.errors import Cause, ConsumerError, Halt, HaltCode, Misconfigured, Transient
from schemas.transport.access import Url
from schemas.transport.tls import Tls

__all__ = [
    "Client",
    "DriverError",
    "ExternalTable",
    "RowsText",
    "close_pool",
    "foreign",
    "is_success",
    "open_client",
    "open_pool",
    "translate",
]

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


class RowsText(bytes):
    """The data behind a statement.

    clickhouse-connect 1.12 decodes a command's data as text, to see whether it is a query that may be sent twice. That
    takes a tenth of a worker's time, and four times the memory; the statement before it tells the same.
    """

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002  (the signature of bytes)
        """Return no text."""
        return ""


def open_pool(url: Url, tls: Tls) -> NotingPool:
    """Return our pool: the driver's would use the proxies that the environment names.

    Raises:
        Misconfigured: a file of the TLS settings can't be used.
    """
    try:
        options: dict[str, Any] = {"ssl_context": tls.context()} if url.has_tls else {}
        return NotingPool(**get_pool_manager_options(**options))
    except ValueError as error:
        raise Misconfigured(str(error)) from error
    except OSError as error:
        raise translate(error) from error


def close_pool(pool: NotingPool) -> None:
    """Close a pool's idle connections; those in use close when they are done.

    clickhouse-connect keeps each pool that it has seen, whether anybody uses it or not.
    """
    pool.clear()
    all_managers.pop(pool, None)


def open_client(options: Mapping[str, Any], url: Url, tls: Tls, pool: NotingPool) -> Client:
    """Return a client that has reached the server. A certificate that is not trusted is Misconfigured.

    Later it is Transient: a certificate that was replaced can be replaced again.
    """
    place: dict[str, Any] = {"interface": url.scheme, "host": url.host, "port": url.port, "proxy_path": url.path}
    try:
        return clickhouse_connect.get_client(**options, **place, pool_mgr=pool)
    except ValueError as error:
        raise Misconfigured(str(error)) from error
    except (DriverError, OSError) as error:
        about_tls = tls.explain(error, url.address)
        if url.has_tls and not about_tls and isinstance(error, OperationalError | OSError):
            about_tls = tls.probe(url.host, url.port, url.address)
        raise (Misconfigured(about_tls) if about_tls else translate(error)) from error


def foreign() -> Transient:
    """Return the error for an answer that ClickHouse has not sent, or not to its end."""
    return Transient("incomplete or foreign response; is a proxy in between?", Cause.UNKNOWN)


def is_success(answer: object) -> bool:
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
