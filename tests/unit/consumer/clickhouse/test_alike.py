"""Which rows a search for poison takes for one: those that no expression of the table can tell apart."""

import re
from collections.abc import Sequence
from importlib.resources import files
from unittest.mock import Mock

import pytest

from consumer.clickhouse.alike import inputs_of
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.explain import Shape
from consumer.clickhouse.poison import PoisonSearch
from consumer.clickhouse.rows import EventRows
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block
from consumer.errors import Rejected
from schemas.registry import LocalSchemas
from tests.support.fixtures_consumer import TOPIC, encoded, record

COLUMNS = re.findall(
    r"^    (\w+) +(\S.*?) +(?:(?:DEFAULT|MATERIALIZED|ALIAS) (.+?) )?COMMENT '",
    files("schemas").joinpath("clickhouse", "0001_events.sql").read_text("utf-8"),
    re.MULTILINE,
)
TYPES = {name: column_type for name, column_type, _ in COLUMNS}
OURS = {name: expression for name, _, expression in COLUMNS if expression}


def shape(column_type: str) -> Shape:
    """Return the shape of the table, with this type of a column for a documented member."""
    return Shape(TYPES | {"num_of_cta": column_type}, OURS, {})


@pytest.mark.parametrize(("column_type", "decides"), [("Nullable(Int64)", False), ("Int64", True)])
def test_a_column_of_ours_that_an_operator_changed_may_refuse_rows(column_type: str, *, decides: bool) -> None:
    """Without a NULL it refuses all events that lack the member, so that member decides; ours refuse nothing."""
    assert ("properties" in inputs_of("event", TOPIC, shape(column_type))) is decides


class Table(PoisonSearch):
    """A table that refuses some offsets, in a way that no query tells."""

    bad: frozenset[int] = frozenset()

    def probe(self, probe_table: tuple[Connection, str], part: Block) -> Rejected | None:
        """Refuse a part that has one of them."""
        del probe_table
        return Rejected("NULL", 349) if self.bad & set(part.offsets) else None

    def part(self, block: Block, schema: str, records: Sequence[object]) -> Block:
        """Return a block without rows where there are none."""
        made = super().part(block, schema, records)  # type: ignore[arg-type]  # records they are
        return made if records else Block(made.schema_id, made.origin, made.token, (), made.payload)


def test_good_rows_between_bad_ones_are_not_blamed() -> None:
    """The first and the last row are refused; those between them have the member."""
    schemas = LocalSchemas()
    rows = EventRows(schemas)
    batch = [record(n, encoded(n, properties='{"numOfCta":1}' if 0 < n < 9 else "{}")) for n in range(10)]
    assert rows.screen(batch) == []
    (block,) = rows.blocks(batch, Origin("id"), "token")
    parts = [("column", shape("Int64").types), ("expression", OURS)]
    told = [{"part": part, "name": name, "text": text} for part, texts in parts for name, text in texts.items()]
    connection = Mock(database="d", query=lambda statement, *_, **__: told if "system.columns" in statement else [])
    table = Table(connection, Target("events", "event", TOPIC, 30), rows, schemas.schema_of, Mock())
    table.bad = frozenset({0, 9})

    assert [item.offset for item in table.run(block, batch)] == [0, 9]
