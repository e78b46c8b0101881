"""What the driver is given to send."""

from typing import Any

import pytest
from clickhouse_connect.driver import httputil
from clickhouse_connect.driver.summary import QuerySummary

from consumer.clickhouse import client
from consumer.clickhouse.client import Connection
from consumer.clickhouse.driver import close_pool, open_pool
from schemas.transport.access import read_url
from schemas.transport.tls import Tls


class Driver:
    """A client of the driver that keeps the data of the last command."""

    def __init__(self) -> None:
        self.data: Any = None

    def command(
        self, _statement: str, _parameters: dict[str, Any], data: Any, _settings: dict[str, Any], *, external_data: Any
    ) -> QuerySummary:
        """Answer as ClickHouse does after an insert."""
        assert external_data is None
        self.data = data
        return QuerySummary({"query_id": "1"})


def test_the_data_of_an_insert_is_sent_as_it_is_and_never_decoded() -> None:
    """The driver would make a text of all rows, only to look at the statement before them."""
    driver, ours = Driver(), Connection("http://127.0.0.1:1", "u", "", "d", 1)
    ours._client = driver  # type: ignore[assignment]  # noqa: SLF001  (no server)
    ours.command("INSERT INTO events FORMAT Avro", data=b"\xffrows")

    assert isinstance(driver.data, bytes)
    assert (bytes(driver.data), driver.data.decode("utf-8", "surrogateescape")) == (b"\xffrows", "")


def test_a_statement_without_data_has_none() -> None:
    """The driver sends an empty body as a second statement."""
    driver, ours = Driver(), Connection("http://127.0.0.1:1", "u", "", "d", 1)
    ours._client = driver  # type: ignore[assignment]  # noqa: SLF001  (no server)
    ours.command("SELECT 1")

    assert driver.data is None


def test_a_pool_is_let_go_with_its_host_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver keeps each pool that it has seen: connections to a host that is left would stay open for ever."""

    def seen(_options: object, _url: object, _tls: object, pool: object) -> Driver:
        httputil.check_conn_expiration(pool)  # type: ignore[arg-type]  # as each request does
        return Driver()

    monkeypatch.setattr(client, "open_client", seen)
    before = set(httputil.all_managers)
    ours = Connection("http://127.0.0.1:1,http://127.0.0.1:2", "u", "", "d", 1)
    ours.client()
    (first,) = set(httputil.all_managers) - before
    ours._hosts.leave(0)  # noqa: SLF001  (as a failure does)
    ours.client()
    (second,) = set(httputil.all_managers) - before
    assert second is not first
    monkeypatch.setattr(Driver, "close", lambda _: None, raising=False)
    ours.close()
    assert set(httputil.all_managers) == before


def test_a_pool_that_was_never_used_can_be_closed() -> None:
    """The driver does not know it."""
    close_pool(open_pool(read_url("http://127.0.0.1:1", ("http",), ""), Tls("X_")))
