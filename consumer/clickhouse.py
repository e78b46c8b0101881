"""ClickHouse, seen from the worker: one insert per block, under its token, and the search for rows it refuses.

The engine reads the Avro of the log itself: `INSERT … SELECT … FROM input('…') FORMAT Avro`. Every setting that the
protocol rests on is pinned in each insert, for servers' defaults move. What a failure means stands in outcomes.py.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Final
from uuid import uuid4

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, Error, NotSupportedError
from clickhouse_connect.driver.exceptions import DataError as BadDataError
from clickhouse_connect.driver.exceptions import ProgrammingError as MisuseError
from clickhouse_connect.driver.httputil import get_pool_manager
from clickhouse_connect.driver.summary import QuerySummary

from consumer.errors import Cause, ConsumerError, Halt, HaltCode, Misconfigured, Rejected, Transient
from consumer.isolate import Search
from consumer.outcomes import of_clickhouse, without_values
from consumer.ports import Block, Meter, Poison, Record, Rows
from consumer.statements import PINNED, insert_statement
from schemas.access import read_url
from schemas.codec import container_header
from schemas.tls import Tls

_SYSTEM: Final = Tls("CONSUMER_CLICKHOUSE_")
_SEARCHED_MAX: Final = 400  # then what is found is left out, and the rest goes on
_NOT_CONNECTED: Final = ("Connection refused", "NewConnectionError", "NameResolutionError", "ConnectTimeoutError")


class Connection:
    """The way to one ClickHouse server, opened at first use, so that a server may be away at the start."""

    def __init__(  # noqa: PLR0913  (one more than elsewhere, and none can be spared)
        self, url: str, user: str, password: str, database: str, timeout_s: float, *, tls: Tls = _SYSTEM
    ) -> None:
        self.database = database
        self._url = read_url(url, ("http", "https"), "the user and the password apart")
        self._tls = tls
        self._options: dict[str, Any] = {
            "interface": self._url.scheme,  # else the driver guesses it from the port
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
            self._options["client_cert"] = tls.certificate_file  # the driver then asks to be known by it
        self._client: Client | None = None
        self._lock = threading.Lock()

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
        """Return a client that has spoken to the server; here certificates that don't count need a person.

        Later they are waited for: somebody who has replaced one can do so again.
        """
        options: dict[str, Any] = {}
        try:
            if self._url.has_tls:
                options["ssl_context"] = self._tls.context()
            # A pool of ours, for the driver's own would go through proxies that the environment names.
            return clickhouse_connect.get_client(**self._options, pool_mgr=get_pool_manager(**options))
        except ValueError as error:
            raise Misconfigured(str(error)) from error
        except (ClickHouseError, OSError) as error:
            about_tls = self._tls.explain(error, self._url.address)
            if self._url.has_tls and not about_tls and not isinstance(error, DatabaseError):
                about_tls = self._tls.probe(self._url.host, self._url.port, self._url.address)
            raise (Misconfigured(about_tls) if about_tls else translate(error)) from error

    def _translated(self, error: Exception) -> ConsumerError:
        about_tls = self._tls.explain(error, self._url.address)
        return Transient(about_tls, Cause.AWAY) if about_tls else translate(error)

    def command(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        data: bytes | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Run a statement that returns no rows, and believe an answer only when it can be none but ClickHouse's.

        Raises:
            Transient, Rejected, Fatal: as outcomes.py says.
        """
        client = self.client()
        try:
            # ClickHouse puts a line's end between statement and data; a second one would be an empty row of data.
            answer = client.command(statement.rstrip(), dict(parameters or {}), data, dict(settings or {}))
        except (ClickHouseError, OSError) as error:
            raise self._translated(error) from error
        if not _is_success(answer):
            raise Transient("an answer that is not ClickHouse's, or not its last word: who is between?", Cause.UNKNOWN)

    def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return a query's rows by column name.

        Raises:
            Transient, Fatal: as outcomes.py says.
        """
        client = self.client()
        try:
            return list(client.query(statement, parameters=dict(parameters or {})).named_results())
        except (ClickHouseError, OSError) as error:
            raise self._translated(error) from error

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()


@dataclass(frozen=True, slots=True)
class Target:
    """Where blocks go.

    Attributes:
        table: its name, in the connection's database.
        schema_name: of the file that its columns come from.
        topic: what its rows' `_topic` says.
        timeout_s: an insert without an answer is given up after this.
    """

    table: str
    schema_name: str
    topic: str
    timeout_s: float

    @property
    def statement(self) -> str:
        """The insert."""
        return insert_statement(self.table, self.schema_name, self.topic)


class ClickHouseTable:
    """One table, as the target of blocks in one schema.

    `rows` makes the blocks of a search for poison; `schema_of` returns the text of a writer schema that a block of
    `rows` names, and None stands for a table whose rows are the worker's own: none of them is poison.
    """

    def __init__(
        self,
        connection: Connection,
        target: Target,
        rows: Rows,
        schema_of: Callable[[int], str] | None,
        meter: Meter,
    ) -> None:
        self._connection = connection
        self._target = target
        self._statement = target.statement
        self._rows = rows
        self._schema_of = schema_of
        self._meter = meter
        # The server gives up before the client does, so that no insert runs on unseen.
        self._settings = PINNED | {"max_execution_time": max(1, int(target.timeout_s * 0.9))}

    def insert(self, block: Block) -> None:
        """Insert a block under its token."""
        settings = self._settings | {"insert_deduplication_token": block.token}
        began_s, outcome = monotonic(), "inserted"
        try:
            self._run(self._statement, block, settings)
        except Transient as error:
            outcome = error.cause
            raise
        except ConsumerError as error:
            outcome = type(error).__name__.lower()
            raise
        finally:
            self._meter.observe("insert_seconds", monotonic() - began_s, table=self._target.table, outcome=outcome)

    def find_poison(self, block: Block, refusal: Exception, records: Sequence[Record]) -> list[Poison]:
        """Return the rows of a refused block that the table refuses; the search writes nothing.

        It asks a twin with the table's columns and constraints that keeps nothing, made for this search and dropped
        behind it: one that stays would not learn of the table's next column.

        Raises:
            Transient, Fatal: as they say.
        """
        if self._schema_of is None or not isinstance(refusal, Rejected):
            return []
        among = frozenset(block.offsets)
        mine = [record for record in records if record.offset in among]
        schema = self._schema_of(block.schema_id)
        twin = replace(self._target, table=f"{self._target.table}_probe_{uuid4().hex[:12]}")
        try:
            self._run(f"CREATE TABLE {twin.table} AS {self._target.table} ENGINE = Null")
            search = Search(
                block.offsets,
                lambda rows: self._probe(twin.statement, self._part(block, schema, [mine[row] for row in rows])),
                _SEARCHED_MAX,
            )
            return search.run(refusal)
        finally:
            with suppress(ConsumerError):  # an empty table without an engine's weight; `migrate` sweeps it
                self._connection.command(f"DROP TABLE IF EXISTS {twin.table}")

    def _part(self, block: Block, schema: str, records: Sequence[Record]) -> Block:
        """Return some of a block's records as a block; the head of a container alone has none."""
        if not records:
            return replace(block, payload=container_header(schema))
        return self._rows.blocks(records, block.topic_id, block.token)[0]

    def _probe(self, statement: str, part: Block) -> Rejected | None:
        self._meter.count("poison_probes", table=self._target.table)
        try:
            self._run(statement, part, self._settings)
        except Rejected as refusal:
            return refusal
        return None

    def _run(self, statement: str, block: Block | None = None, settings: Mapping[str, Any] | None = None) -> None:
        """Run a statement, with a block if it takes one.

        Raises:
            Transient, Rejected, Fatal: as outcomes.py says.
        """
        parameters, data = ({"topic_id": block.topic_id}, block.payload) if block else (None, None)
        self._connection.command(statement, parameters, data, settings)


def _is_success(answer: object) -> bool:
    """Tell whether this is how ClickHouse says that it is done: headers of its own, and no body.

    A page of whoever stands between has a body, or none of the headers; an exception that came behind the head is one.
    """
    return answer == "" or (isinstance(answer, QuerySummary) and bool(answer.summary.get("query_id")))


def translate(error: Exception) -> ConsumerError:
    """Return what the worker does about an error of the driver; its `code` is None when the server never answered."""
    code = error.code if isinstance(error, Error) else None
    if code is not None:
        return of_clickhouse(code, str(error))
    raw = str(error)
    message = f"{type(error).__name__}: {without_values(raw)}"
    if isinstance(error, MisuseError | NotSupportedError | BadDataError):  # by the driver itself, before sending
        return Halt(message, HaltCode.DEFECT)
    if not isinstance(error, DatabaseError | OSError):
        return Halt(message, HaltCode.DEFECT)
    if any(text in raw for text in _NOT_CONNECTED):
        return Transient("ClickHouse is away: no connection, refused or no such host", Cause.AWAY)
    return Transient(message, Cause.UNKNOWN)
