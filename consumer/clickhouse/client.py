"""Sends statements and queries to ClickHouse. errors.py says what each failure means."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from typing import Any, Final, SupportsBytes, TypeVar
from uuid import uuid4

from consumer.clickhouse.driver import (
    Client,
    DriverError,
    ExternalTable,
    RowsText,
    close_pool,
    foreign,
    is_success,
    open_client,
    open_pool,
    translate,
)
from consumer.clickhouse.hosts import HostList, Hosts, OneHost
from consumer.clickhouse.layout import SINGLE, Layout
from consumer.clickhouse.pool import NotingPool
from consumer.clickhouse.statements import Target
from consumer.errors import Cause, ConsumerError, Transient
from schemas.transport.access import Url, read_url
from schemas.transport.tls import Tls

__all__ = ["Connection", "ExternalTable", "Target"]

_SYSTEM: Final = Tls("CONSUMER_CLICKHOUSE_")
_SENT_MAX: Final = 100  # to reach one server behind a balancer

_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class _Pin:
    """The server behind an address whose answers are taken; "" until the first one has answered."""

    name: str = ""


class Connection:
    """A connection to ClickHouse, opened at first use, because the server may be away at the start.

    `url` may be several addresses, comma-separated: one is used until it gives no answer, or its answer is not known;
    then the next one is. `layout` says how the tables lie on the servers.
    """

    def __init__(  # noqa: PLR0913  (all are needed)
        self,
        url: str,
        user: str,
        password: str,
        database: str,
        timeout_s: float,
        *,
        tls: Tls = _SYSTEM,
        layout: Layout = SINGLE,
    ) -> None:
        self.database = database
        self.layout = layout
        login = "the user and the password apart"
        self.urls = tuple(read_url(text, ("http", "https"), login) for text in url.split(","))
        self._hosts: Hosts = HostList(self.urls)
        self._tls = tls
        self._options: dict[str, Any] = {
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
        self._number = 0  # of the client's host
        self._pool: NotingPool | None = None
        self._pin: _Pin | None = None
        self._lock = threading.Lock()

    @property
    def timeout_s(self) -> float:
        """An answer is waited for so long."""
        return float(self._options["send_receive_timeout"])

    @property
    def address(self) -> str:
        """Host and port of the server in use."""
        return self._hosts.url(self._hosts.number).address

    def client(self) -> Client:
        """Return the driver's client; threads share it.

        Raises:
            Transient, Fatal: the server is away, or refuses us.
        """
        return self._connected()[0]

    def _connected(self) -> tuple[Client, int]:
        """Return the driver's client, and the number of its host."""
        with self._lock:
            number = self._hosts.number
            if self._client is None or self._number != number:
                try:
                    url = self._hosts.url(number)
                    self._leave_pool()
                    self._pool = open_pool(url, self._tls)
                    self._client = open_client(self._options, url, self._tls, self._pool)
                    self._number = number
                except Transient:
                    self._hosts.leave(number)
                    raise
            return self._client, number

    def _translated(self, error: Exception, size_bytes: int, number: int) -> ConsumerError:
        about_tls = self._tls.explain(error, self._hosts.url(number).address)
        return Transient(about_tls, Cause.AWAY) if about_tls else translate(error, size_bytes)

    @contextmanager
    def translating(self, size_bytes: int = 0) -> Iterator[Client]:
        """Yield the driver's client, and translate its errors. `size_bytes` is the request's size.

        Where the server is away, or the outcome is not known, the next host is used from then on.
        """
        client, number = self._connected()
        try:
            yield client
        except (DriverError, OSError) as error:
            translated = self._translated(error, size_bytes, number)
            self._leave(translated, number)
            raise translated from error
        except Transient as error:
            self._leave(error, number)
            raise

    def _leave(self, error: ConsumerError, number: int) -> None:
        if isinstance(error, Transient) and error.cause in (Cause.AWAY, Cause.UNKNOWN):
            self._hosts.leave(number)

    def command(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        data: SupportsBytes | None = None,
        settings: Mapping[str, Any] | None = None,
        *,
        rows: ExternalTable | None = None,
    ) -> None:
        """Run a statement that returns no rows; succeed only on an answer that only ClickHouse can have sent.

        The statement may read `rows` as a table; then it has no data.

        Raises:
            Transient, Rejected, Fatal: as errors.py says.
        """
        # ClickHouse puts a newline between statement and data; a second one would be an empty row.
        body = None if data is None else RowsText(bytes(data))
        beside = rows.sent if rows else None

        def send() -> None:
            with self.translating(len(body or b"")) as client:
                answer = client.command(
                    statement.rstrip(), dict(parameters or {}), body, dict(settings or {}), external_data=beside
                )
                if not is_success(answer):
                    raise foreign()

        self._sticking(send)

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

        def ask() -> list[dict[str, Any]]:
            with self.translating(len(rows.payload) if rows else 0) as client:
                answer = client.query(statement, dict(parameters or {}), dict(settings or {}), external_data=sent)
                found = list(answer.named_results())
                if not answer.summary.get("query_id"):
                    raise foreign()
            return found

        return self._sticking(ask)

    def define(self, statement: str) -> None:
        """Run a statement that creates or changes tables or views, in the form that the layout needs.

        Raises:
            Transient, Rejected, Fatal: as errors.py says.
        """
        for text in self.layout.statements(statement, self.database):
            self.command(text, settings=self.layout.settings_of(text, self.timeout_s))

    def create(self, prefix: str, definition: str) -> str:
        """Create a table of a name that nobody else has, and return the name.

        Args:
            prefix: how the name begins.
            definition: what stands behind the name in CREATE TABLE.

        Raises:
            Transient, Rejected, Fatal: as errors.py says.
        """
        made: list[str] = []

        def send() -> None:
            name = prefix + uuid4().hex[:12]
            self._send(f"CREATE TABLE {name} {definition}")
            made.append(name)

        self._sticking(send)
        for stray in made[:-1]:  # behind a balancer others have made one, which is never used
            self._drop_stray(stray)
        return made[-1]

    def _drop_stray(self, name: str) -> None:
        for _ in range(_SENT_MAX):
            with suppress(ConsumerError):
                return self._send(f"DROP TABLE {name}")
            self.redial()
        return None

    def _send(self, statement: str) -> None:
        with self.translating() as client:
            if not is_success(client.command(statement)):
                raise foreign()

    def _sticking(self, call: Callable[[], _Answer]) -> _Answer:
        """Make a call, again and again until the pinned server has answered it, if one is pinned."""
        if self._pin is None:
            return call()
        for _ in range(_SENT_MAX):
            answer, failure = None, None
            try:
                answer = call()
            except ConsumerError as error:
                failure = error
            name = self._pool.answered_by if self._pool else ""
            if failure is None:
                self._pin.name = self._pin.name or name
            if name in ("", self._pin.name) or not self._pin.name:
                if failure is not None:
                    raise failure
                return answer  # type: ignore[return-value]  # it was given
            self.redial()
        raise Transient(f"the server {self._pin.name} does not answer behind its balancer", Cause.BUSY)

    def redial(self) -> None:
        """Open new connections from now on: behind a balancer they may lead to another server."""
        with self._lock:
            if self._client is not None:
                self._client.close_connections()

    def sticky(self) -> "Connection":
        """Return a connection to one server, for statements of which each needs the ones before it; nobody closes it.

        Of several hosts it is the one in use. Behind a balancer it is the server that answers first; what others
        answer is ignored, so a statement may reach them too.
        """
        if self._pin is not None:
            return self
        client, number = self._connected()
        other = copy(self)
        other._hosts, other._client, other._number = OneHost(self._hosts, number), client, number  # noqa: SLF001  (of the same class)
        other._pin, other._lock = _Pin(), threading.Lock()  # noqa: SLF001  (as above)
        return other

    def to(self, url: Url, server: str | None = None) -> "Connection":
        """Return a connection to one address, or to one server behind it, by its display name. The caller closes it."""
        other = self._changed()
        other.urls, other._hosts = (url,), HostList((url,))  # noqa: SLF001  (of the same class)
        other._pin = None if server is None else _Pin(server)  # noqa: SLF001  (as above)
        return other

    def whoami(self) -> str:
        """Return the display name of the server that answers a query now; "" when it has none, or a proxy hides it.

        Raises:
            Transient, Fatal: as errors.py says.
        """
        self.query("SELECT 1 AS n")
        return self._pool.answered_by if self._pool else ""

    @property
    def server(self) -> str:
        """The pinned server's display name; "" when none has answered."""
        return self._pin.name if self._pin else ""

    def patient(self, timeout_s: float) -> "Connection":
        """Return a connection to the same servers and database with another timeout; the caller closes it."""
        return self._changed(send_receive_timeout=timeout_s)

    def beside(self, database: str, layout: Layout = SINGLE) -> "Connection":
        """Return a connection to another database of the same servers; the caller closes it."""
        other = self._changed(database=database)
        other.database, other.layout = database, layout
        return other

    def _changed(self, **options: object) -> "Connection":
        other = copy(self)
        other._options = self._options | options  # noqa: SLF001  (of the same class)
        other._client, other._pool, other._lock = None, None, threading.Lock()  # noqa: SLF001  (as above)
        return other

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
        self._leave_pool()

    def _leave_pool(self) -> None:
        pool, self._client, self._pool = self._pool, None, None
        if pool is not None:
            close_pool(pool)
