"""Two ClickHouse servers that know each other as shards."""

from collections.abc import Iterator

import pytest

from tests.support.clickhouse_shards import TwoServers


@pytest.fixture(scope="module")
def two_servers() -> Iterator[TwoServers]:
    """Two servers that know each other as shards, for a module, as idle servers cost time; nobody stops them."""
    with TwoServers() as running:
        yield running
