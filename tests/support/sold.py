"""A visit that ends in a purchase, as rows of `events`: something in every view."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from consumer.clickhouse.client import Connection
from consumer.clickhouse.migrations import create_database
from consumer.clickhouse.products import make_products
from tests.support.clickhouse import ClickHouse
from tests.support.fixtures_consumer import open_database
from tests.support.migrated import make_tables

_PAGE = "00000000-0000-7000-8000-00000000000a"
_WALL = {"paywall_id": "w", "paywall_type": "hard"}
_EVENTS = (
    ("2026-01-02 12:00:00", "VIEW", {"content_id": "a", "url": "https://x/a?utm_source=letter"}),
    ("2026-01-02 12:00:15", "PING", {"content_id": "a", "active": "1"}),
    ("2026-01-02 12:01:00", "VIEW", {"content_id": "a"} | _WALL),
    ("2026-01-02 12:02:00", "CLICK", {"content_id": "a"} | _WALL),
    (
        "2026-01-02 12:03:00",
        "PURCHASE",
        {"user_id": "u", "content_id": "a", "amount": "9.99", "currency": "EUR"} | _WALL,
    ),
)


@contextmanager
def sold(clickhouse: ClickHouse) -> Iterator[Connection]:
    """Yield a database that everybody may read, with the views over the visit."""
    name = f"headrace_{uuid.uuid4().hex}"
    first = open_database(clickhouse, "")
    create_database(first, name, time.sleep)
    ours = open_database(clickhouse, name)
    make_tables(ours)
    make_products(ours, "UTC", time.sleep)
    _sell(ours)
    yield ours
    ours.close()
    for each in (name, f"{name}_dbt"):  # the second one is dbt's
        first.command(f"DROP DATABASE IF EXISTS {each}")
    first.close()


def _sell(database: Connection) -> None:
    """Insert the visit."""
    for number, (at, kind, fields) in enumerate(_EVENTS):
        columns = {"event_id": f"00000000-0000-7000-8000-00000000000{number}", "ping_id": _PAGE, "anon_id": "v"}
        columns |= {"client_id": "web", "event_type": kind, "occurred_at": at, "received_at": at} | fields
        values = ", ".join(f"{{{name}:String}}" for name in columns)
        names = f"_inserted_at, {', '.join(columns)}"
        database.command(f"INSERT INTO events ({names}) SELECT now64(3, 'UTC'), {values}", columns)
