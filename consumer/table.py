"""The table, seen from the worker: one insert per block, under its token, and the search for rows it refuses.

The engine reads the Avro of the log itself: `INSERT … SELECT … FROM input('…') FORMAT Avro`. Every setting that the
protocol rests on is pinned in each insert, for servers' defaults move.
"""

from collections.abc import Callable, Sequence
from time import monotonic

from consumer.clickhouse import Connection, Target
from consumer.errors import ConsumerError, Rejected, Transient
from consumer.poison import PoisonSearch
from consumer.ports import Block, Meter, Poison, Record, Rows
from consumer.statements import PINNED


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
        self._meter = meter
        # The server gives up before the client does, so that no insert runs on unseen.
        self._settings = PINNED | {"max_execution_time": max(1, int(target.timeout_s * 0.9))}
        self._search = PoisonSearch(connection, target, rows, schema_of, meter) if schema_of else None

    def insert(self, block: Block) -> None:
        """Insert a block under its token."""
        settings = self._settings | {"insert_deduplication_token": block.token}
        began_s, outcome = monotonic(), "inserted"
        try:
            self._connection.command(self._statement, {"topic_id": block.topic_id}, block.payload, settings)
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

        Raises:
            Transient, Fatal: as they say.
        """
        if self._search is None or not isinstance(refusal, Rejected):
            return []
        return self._search.run(block, records)
