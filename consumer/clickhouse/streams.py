"""Reads answers and sends files of any size, piece by piece; `Connection` reads and sends whole ones."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

from urllib3.exceptions import HTTPError

from consumer.clickhouse.client import Connection, ExternalTable
from consumer.errors import Cause, Transient

_PIECE_BYTES: Final = 1024 * 1024
# An error in the middle of an answer must not look like its end, nor like rows.
_WHOLE: Final = {"http_write_exception_in_output_format": 0}


def pieces(
    connection: Connection,
    statement: str,
    parameters: Mapping[str, Any] | None = None,
    rows: ExternalTable | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[bytes]:
    """Yield a query's answer in pieces, in the format that the statement names; it may read `rows` as a table.

    Raises:
        Transient, Rejected, Fatal: as errors.py says; Transient too when the answer breaks off.
    """
    sent = rows.sent if rows else None
    with connection.translating() as client:
        answer: Any = client.raw_stream(
            statement, dict(parameters or {}), _WHOLE | dict(settings or {}), external_data=sent
        )
    try:
        while piece := _read(connection, answer):
            yield piece
    finally:
        answer.close()


def _read(connection: Connection, answer: Any) -> bytes:
    try:
        with connection.translating():
            return bytes(answer.read(_PIECE_BYTES))
    except HTTPError as error:
        raise Transient(f"the answer broke off: {type(error).__name__}", Cause.UNKNOWN) from error


def lines(
    connection: Connection,
    statement: str,
    parameters: Mapping[str, Any] | None = None,
    rows: ExternalTable | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a query's rows by column name, as JSON has them: 64-bit numbers are numbers, times and UUIDs are texts.

    Foreign producers may write texts that are no UTF-8: each such byte is a lone surrogate here, which `text_bytes`
    turns into the byte again (PEP 383).

    Raises:
        Transient, Rejected, Fatal: as `pieces`.
    """
    rest = b""
    statement = f"{statement} FORMAT JSONEachRow"
    for piece in pieces(connection, statement, parameters, rows, {"output_format_json_quote_64bit_integers": 0}):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield json.loads(line.decode("utf-8", "surrogateescape"))
    if rest:
        raise Transient("the answer broke off within a row", Cause.UNKNOWN)


def text_bytes(text: str) -> bytes:
    """Return the bytes of a text of `lines`, or of a command line, as the table has them."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # JSON may name half a character; no row has it
        return text.encode("utf-8", "surrogatepass")


def send_file(
    connection: Connection, table: str, columns: list[str], file: BinaryIO, settings: Mapping[str, Any] | None = None
) -> None:
    """Insert a file of Parquet into a table; its columns are found by their names.

    Raises:
        Transient, Rejected, Fatal: as errors.py says.
    """
    pinned = {"async_insert": 0, "wait_end_of_query": 1, "optimize_on_insert": 0, "max_partitions_per_insert_block": 0}
    with connection.translating() as client:
        client.raw_insert(table, columns, file, pinned | dict(settings or {}), fmt="Parquet")
