"""Inserts blocks into a table, each under its token, and searches for the rows that it refuses.

ClickHouse reads the records' Avro itself: `INSERT … SELECT … FROM input('…') FORMAT Avro`. Each insert pins every
setting that the protocol depends on, because servers' defaults change.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from time import monotonic
from typing import Final

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.poison import PoisonSearch
from consumer.clickhouse.statements import PINNED
from consumer.delivery.ports import Block, Metrics, Poison, Record, Rows
from consumer.errors import Cause, ConsumerError, Rejected, Transient

log = logging.getLogger(__name__)

_GIVEN_UP: Final = 0.9  # the server's timeout as a share of the client's
GROWTH_MAX: Final = 8
"""An insert's time grows to so many times the one that it begins with; preflight's window counts on it."""
_TIMEOUTS_MAX: Final = 1000


class ClickHouseTable:
    """The `Table` of one target.

    `rows` makes the blocks of a search for poison; `schema_of` returns the text of a block's writer schema. It is None
    for a table whose rows are the worker's own: none of them is poison.
    """

    def __init__(
        self,
        connection: Connection,
        target: Target,
        rows: Rows,
        schema_of: Callable[[int], str] | None,
        metrics: Metrics,
    ) -> None:
        self._connection = connection
        self._target = target
        self._layout = connection.layout
        self._statement = replace(target, table=self._layout.over_all(target.table)).statement
        self._metrics = metrics
        self._timeouts: dict[str, int] = {}  # inserts without an answer, by token; the oldest first
        self._search = PoisonSearch(connection, target, rows, schema_of, metrics) if schema_of else None

    def insert(self, block: Block) -> None:
        """Insert a block under its token; after a timeout, the next try gets more time, up to a bound.

        Otherwise an insert that takes longer would be repeated for ever.
        """
        timeout_s = self._target.timeout_s * min(2 ** self._timeouts.get(block.token, 0), GROWTH_MAX)
        began_s, outcome = monotonic(), "inserted"
        try:
            self._send(block, timeout_s)
            self._timeouts.pop(block.token, None)
        except Transient as error:
            outcome = error.cause
            if error.cause is Cause.UNKNOWN and monotonic() - began_s >= _server_limit_s(timeout_s):
                self._count_timeout(block.token)
            raise
        except ConsumerError as error:
            outcome = type(error).__name__.lower()
            raise
        finally:
            self._metrics.observe("insert_seconds", monotonic() - began_s, table=self._target.table, outcome=outcome)

    def _send(self, block: Block, timeout_s: float) -> None:
        # The server gives up before the client, so that no insert continues unnoticed.
        settings = {"insert_deduplication_token": block.token, "max_execution_time": _server_limit_s(timeout_s)}
        settings |= self._layout.of_insert(block.shard) | self._layout.of_quorum(_server_limit_s(timeout_s))
        parameters = block.origin._asdict()
        if timeout_s == self._target.timeout_s:
            self._connection.command(self._statement, parameters, block.payload, PINNED | settings)
            return
        log.warning(
            "an insert got no answer: retrying it with a longer timeout",
            extra={"table": self._target.table, "timeout_s": timeout_s},
        )
        with closing(self._connection.patient(timeout_s)) as patient:
            patient.command(self._statement, parameters, block.payload, PINNED | settings)

    def _count_timeout(self, token: str) -> None:
        """Note an insert without an answer; tokens that nobody repeats any more are forgotten, the oldest first."""
        self._timeouts[token] = self._timeouts.pop(token, 0) + 1
        while len(self._timeouts) > _TIMEOUTS_MAX:
            self._timeouts.pop(next(iter(self._timeouts)), None)

    def find_poison(self, block: Block, refusal: Exception, records: Sequence[Record]) -> list[Poison]:
        """Return the rows of a refused block that the table refuses; the search writes nothing.

        Raises:
            Transient, Fatal: as they say.
        """
        if self._search is None or not isinstance(refusal, Rejected):
            return []
        return self._search.run(block, records)

    def screen(self, block: Block, records: Sequence[Record]) -> list[Poison]:
        """Return the rows of a block that it would refuse, as far as a query tells; none when it can't be asked."""
        with suppress(ConsumerError):  # the insert will say what is wrong
            return self._search.told(block, records) if self._search else []
        return []


def _server_limit_s(timeout_s: float) -> int:
    """Return when the server gives up an insert: in whole seconds, before its client does."""
    return max(1, int(timeout_s * _GIVEN_UP))
