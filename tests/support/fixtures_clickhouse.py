"""The session's ClickHouse, for tests that need one and do not care which; and the embedded one, for its own."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.support.clickhouse import ClickHouse, EmbeddedClickHouse, provide
from tests.support.clickhouse_events import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickhouse_connect.driver.client import Client


@pytest.fixture(scope="session")
def clickhouse(pytestconfig: pytest.Config) -> Iterator[ClickHouse]:
    """A ClickHouse that runs as long as the session; who stops or freezes it starts it again."""
    with provide() as running:
        passed_over = f" ({'; '.join(running.passed_over)})" if running.passed_over else ""
        pytestconfig.get_terminal_writer().line(f"\nClickHouse: {running.name} at {running.url}{passed_over}")
        yield running


@pytest.fixture(scope="session")
def embedded_clickhouse(clickhouse: ClickHouse) -> Iterator[EmbeddedClickHouse]:
    """The embedded server, whatever else there is; nobody stops it."""
    if isinstance(clickhouse, EmbeddedClickHouse):
        yield clickhouse
        return
    with EmbeddedClickHouse() as running:
        yield running


@pytest.fixture
def embedded_client(embedded_clickhouse: EmbeddedClickHouse) -> Iterator[Client]:
    """A client of the embedded server in its own database."""
    name = f"test_{uuid.uuid4().hex}"
    with connect(embedded_clickhouse) as first:
        first.command(f"CREATE DATABASE {name}")
        with connect(embedded_clickhouse, database=name) as ours:
            yield ours
        first.command(f"DROP DATABASE {name}")
