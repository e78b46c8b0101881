"""ClickHouse is killed while it answers: an answer that ends early is never taken for an empty one, or for success."""

from collections.abc import Iterator
from typing import Any

import pytest

from consumer.clickhouse.client import Connection
from consumer.errors import Transient
from tests.support.clickhouse import PASSWORD, USER, ClickHouse
from tests.support.proxy import Answer, CutAnswer, FaultProxy, Mode, Pass

CUTS = range(0, 1400, 29)  # within the head, which comes in pieces, and behind it


@pytest.fixture
def proxy(clickhouse: ClickHouse) -> Iterator[FaultProxy]:
    """Stands before the session's ClickHouse."""
    host, _, port = clickhouse.url.removeprefix("http://").rpartition(":")
    with FaultProxy(host, int(port)) as running:
        yield running


@pytest.fixture
def behind(proxy: FaultProxy) -> Iterator[Connection]:
    """A connection through the proxy, which is open."""
    made = Connection(proxy.url, USER, PASSWORD, "default", 10)
    made.client()
    yield made
    made.close()


def test_a_query_has_its_rows_or_fails(behind: Connection, proxy: FaultProxy) -> None:
    """No rows would say that nothing was inserted, or counted; a driver takes an answer without a length as it ends."""
    modes: list[Mode] = [Answer(200), *map(CutAnswer, CUTS), Pass()]
    seen = [rows_of(behind, proxy, mode) for mode in modes]

    assert seen[0] is None
    assert all(rows in (None, [{"n": 0}, {"n": 1}, {"n": 2}]) for rows in seen)
    assert seen[-1]
    assert behind.query("SELECT 1 AS n WHERE 0") == []


def rows_of(behind: Connection, proxy: FaultProxy, mode: Mode) -> list[dict[str, Any]] | None:
    """Return a query's rows, or None when it fails."""
    proxy.set(mode)
    try:
        return behind.query("SELECT number AS n FROM numbers(3)")
    except Transient:
        return None
