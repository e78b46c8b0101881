"""The views under the clients that analysts bring: every view, every type, over HTTP, the native port, SQL and JDBC."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy
from clickhouse_driver import Client as NativeClient

from consumer.clickhouse.client import Connection
from consumer.clickhouse.products import products
from tests.support import jdbc
from tests.support.clickhouse import PASSWORD, USER
from tests.support.sold import sold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clickhouse import EmbeddedClickHouse

VIEWS = (*products("UTC"), "dead_letters_unique")
_EMPTY = {"misfits", "misfits_daily", "dead_letters_unique", "audit_daily", "complete_until"}
AMOUNT = Decimal("9.9900")


@pytest.fixture(scope="module")
def database(embedded_clickhouse: EmbeddedClickHouse) -> Iterator[Connection]:
    """A database that everybody may read, with the views over a visit that ends in a purchase."""
    with sold(embedded_clickhouse) as database:
        yield database


@pytest.mark.parametrize("view", VIEWS)
def test_the_native_port_gives_every_view(
    embedded_clickhouse: EmbeddedClickHouse, database: Connection, view: str
) -> None:
    """With clickhouse-driver; it knows no JSON, so the column `properties` is left out, as the page says."""
    columns_of = "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = {view:String}"
    with_json = database.query(f"{columns_of} AND startsWith(type, 'JSON')", {"view": view})
    left_out = f" EXCEPT ({', '.join(row['name'] for row in with_json)})" if with_json else ""
    client = NativeClient(
        "127.0.0.1", embedded_clickhouse.native_port, user=USER, password=PASSWORD, database=database.database
    )
    try:
        rows, columns = client.execute(f"SELECT *{left_out} FROM {view}", with_column_types=True)
    finally:
        client.disconnect()

    assert [name for name, _ in columns]
    assert len(rows) == len(database.query(f"SELECT * FROM {view}"))
    assert rows or view in _EMPTY


def test_sqlalchemy_reflects_a_view_and_reads_it(embedded_clickhouse: EmbeddedClickHouse, database: Connection) -> None:
    """As Superset does: through clickhouse-connect's dialect, and statements that SQLAlchemy makes."""
    address = f"{USER}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{embedded_clickhouse.port}"
    engine = sqlalchemy.create_engine(f"clickhousedb://{address}/{database.database}")
    try:
        view = sqlalchemy.Table("revenue_daily", sqlalchemy.MetaData(), autoload_with=engine)
        query = sqlalchemy.select(view.c.currency, sqlalchemy.func.sum(view.c.gross).label("gross")).group_by(
            view.c.currency
        )
        with engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(query)]
        names = set(sqlalchemy.inspect(engine).get_table_names()) | set(sqlalchemy.inspect(engine).get_view_names())
    finally:
        engine.dispose()

    assert found == [("EUR", AMOUNT)]
    assert names >= set(VIEWS)


# Grafana's data source expands these before it sends a query:
# https://grafana.com/docs/plugins/grafana-clickhouse-datasource/latest/query-editor/#macros
_FROM_S, _TO_S = 1_767_312_000, 1_767_398_400  # 2026-01-02
_FROM_MS, _TO_MS = f"fromUnixTimestamp64Milli({_FROM_S}000)", f"fromUnixTimestamp64Milli({_TO_S}000)"
MACROS = {
    r"\$__timeFilter_ms\((\w+)\)": rf"\1 >= {_FROM_MS} AND \1 <= {_TO_MS}",
    r"\$__timeFilter\((\w+)\)": rf"\1 >= toDateTime({_FROM_S}) AND \1 <= toDateTime({_TO_S})",
    r"\$__dateFilter\((\w+)\)": r"\1 >= toDate('2026-01-02') AND \1 <= toDate('2026-01-03')",
    r"\$__timeInterval_ms\((\w+)\)": r"toStartOfInterval(toDateTime64(\1, 3), INTERVAL 60000 millisecond)",
    r"\$__timeInterval\((\w+)\)": r"toStartOfInterval(toDateTime(\1), INTERVAL 60 second)",
    r"\$__interval_s": "60",
    r"\$__fromTime": f"toDateTime({_FROM_S})",
    r"\$__toTime": f"toDateTime({_TO_S})",
}
PANELS = {
    "SELECT $__timeInterval(minute) AS time, event_type, sum(events) AS events FROM events_per_minute"
    " WHERE $__timeFilter(minute) GROUP BY time, event_type ORDER BY time": 5,
    "SELECT $__timeInterval(occurred_at) AS time, uniqExact(anon_id) AS visitors FROM events_ready"
    " WHERE $__timeFilter(occurred_at) AND NOT is_bot GROUP BY time ORDER BY time": 4,
    "SELECT $__timeInterval_ms(occurred_at) AS time, count() AS events FROM events_unique"
    " WHERE $__timeFilter_ms(occurred_at) GROUP BY time ORDER BY time": 4,
    "SELECT toDateTime(day) AS time, currency, sum(net) AS net FROM revenue_daily WHERE $__dateFilter(day)"
    " GROUP BY time, currency ORDER BY time": 1,
    "SELECT count() / ($__toTime - $__fromTime) * $__interval_s AS per_minute FROM events_unique": 1,
}


@pytest.mark.parametrize("panel", PANELS)
def test_grafanas_queries_run(embedded_clickhouse: EmbeddedClickHouse, database: Connection, panel: str) -> None:
    """A time series needs a column of time; Grafana sends the macros' text over either protocol."""
    query = panel
    for macro, text in MACROS.items():
        query = re.sub(macro, text, query)
    client = NativeClient(
        "127.0.0.1", embedded_clickhouse.native_port, user=USER, password=PASSWORD, database=database.database
    )
    try:
        rows: list[Any] = client.execute(query)
    finally:
        client.disconnect()

    assert "$" not in query
    assert len(rows) == PANELS[panel] == len(database.query(query))


def test_jdbc_reads_every_view(embedded_clickhouse: EmbeddedClickHouse, database: Connection) -> None:
    """As DBeaver and Metabase do: every column of every row, as text."""
    url = f"jdbc:clickhouse://127.0.0.1:{embedded_clickhouse.port}/{database.database}"
    found = jdbc.rows(url, USER, *(f"SELECT * FROM {view}" for view in VIEWS), password=PASSWORD)

    assert ["EUR", "9.9900"] in [[row[3], row[8]] for row in found if len(row) > 8]
