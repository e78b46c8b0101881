"""What the driver is given to send."""

from typing import Any

from clickhouse_connect.driver.summary import QuerySummary

from consumer.clickhouse.client import Connection


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
