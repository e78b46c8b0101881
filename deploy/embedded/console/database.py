"""Reads ClickHouse over HTTP, as the account that may only read and has no password."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

_TIMEOUT_S: Final = 60.0
_MESSAGE_MAX: Final = 400
_SETTINGS: Final[Mapping[str, object]] = {
    "database": "headrace",
    "default_format": "JSONCompact",
    "wait_end_of_query": 1,  # an error has its own status, not the end of an answer
    "http_write_exception_in_output_format": 0,
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_decimals": 0,
    "output_format_json_quote_denormals": 0,
}


class DatabaseError(Exception):
    """ClickHouse did not answer, or refused; the message is for the page."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query, and what they cost.

    Attributes:
        columns: pairs of a column's name and ClickHouse type.
        rows: one list per row, in the columns' order.
        seconds: what ClickHouse needed.
        rows_read: how many rows it read.
        bytes_read: how many bytes it read, decompressed.
    """

    columns: tuple[tuple[str, str], ...]
    rows: list[list[Any]]
    seconds: float = 0.0
    rows_read: int = 0
    bytes_read: int = 0

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield each row as values by column."""
        names = [name for name, _ in self.columns]
        return (dict(zip(names, row, strict=True)) for row in self.rows)


class Database:
    """A ClickHouse at an http URL. Threads may share it: each query has its own connection."""

    def __init__(self, url: str, timeout_s: float = _TIMEOUT_S) -> None:
        self._address, self._timeout_s = urlsplit(url).netloc, timeout_s

    def ask(self, query: str, settings: Mapping[str, object] | None = None, **parameters: object) -> Answer:
        """Run a query; `{name:Type}` in it stands for a parameter.

        Raises:
            DatabaseError: ClickHouse is away, or refuses.
        """
        given = {f"param_{name}": value for name, value in parameters.items()}
        target = "/?" + urlencode({**_SETTINGS, **(settings or {}), **given})
        connection = HTTPConnection(self._address, timeout=self._timeout_s)
        try:
            connection.request("POST", target, query.encode())
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            raise DatabaseError("ClickHouse does not answer") from error
        finally:
            connection.close()
        if response.status != HTTPStatus.OK:
            raise DatabaseError(body.decode("utf-8", "replace").strip()[:_MESSAGE_MAX])
        return _answer(json.loads(body))


def _answer(told: Mapping[str, Any]) -> Answer:
    statistics = told["statistics"]
    columns = tuple((column["name"], column["type"]) for column in told["meta"])
    return Answer(columns, told["data"], statistics["elapsed"], statistics["rows_read"], statistics["bytes_read"])
