"""Command-line arguments of `python -m consumer`: parsed strictly; an error is one sentence."""

import argparse
from collections.abc import Callable
from datetime import UTC, date, datetime
from re import fullmatch
from typing import Final, NoReturn
from uuid import UUID

from consumer.clickhouse.streams import text_bytes
from consumer.operations.replay import UNTIL_MS, typed
from schemas.codec import read_schema

_SECONDS_MAX: Final = 86_400
_ID_BYTES_MAX: Final = 100_000  # a user's id has no bound in the contract
LIMIT_MAX: Final = 1_000_000
PARTITION_MAX: Final = 2**31 - 1
OFFSET_MAX: Final = 10**18 - 1


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"consumer: {message}\n")


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers within bounds."""

    def read(text: str) -> int:
        if not fullmatch("-?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}")
        return int(text)

    return read


def seconds(text: str) -> float:
    """Parse a number of seconds."""
    if not fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or float(text) > _SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"must be from 0 to {_SECONDS_MAX}")
    return float(text)


def moment_ms(text: str) -> int:
    """Parse a date or a time (ISO 8601; UTC unless it has an offset) to Unix ms."""
    try:
        moment = datetime.fromisoformat(text)
        at_ms = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        at_ms = -1
    if not 0 <= at_ms <= UNTIL_MS:
        raise argparse.ArgumentTypeError(
            "must be a date or a time from 1970 to 2299, such as 2026-01-31T09:30:00+01:00"
        )
    return at_ms


def letter(text: str) -> str:
    """Parse the name of a dead letter."""
    if not fullmatch(r"[A-Za-z0-9._-]{1,249}/[0-9]{1,10}/[0-9]{1,19}(@[0-9]{1,10})?", text):
        raise argparse.ArgumentTypeError("must be topic/partition/offset, such as events/3/1234")
    return text


def identifier(text: str) -> str:
    """Parse a user's or a visitor's id."""
    if not text or len(text_bytes(text)) > _ID_BYTES_MAX:
        raise argparse.ArgumentTypeError(f"must have 1 to {_ID_BYTES_MAX} bytes")
    return text


def event_id(text: str) -> str:
    """Parse an event's id to its usual form."""
    try:
        return str(UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError("must be a UUID") from None


def day(text: str) -> date:
    """Parse a day of UTC."""
    try:
        found = date.fromisoformat(text) if fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else date.min
    except ValueError:
        found = date.min
    if not date(1970, 1, 1) <= found <= date(2299, 12, 31):
        raise argparse.ArgumentTypeError("must be a day from 1970 to 2299, such as 2026-01-31")
    return found


def partition(text: str) -> tuple[str, int]:
    """Parse a partition's topic and number."""
    if not fullmatch(r"[A-Za-z0-9._-]{1,249}/[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError("must be topic/partition, such as events/3")
    topic, _, number = text.partition("/")
    return topic, int(number)


def repair(text: str) -> tuple[str, str]:
    """Parse a field's name and its new value as text; the schema checks both later."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("must be FIELD=VALUE")
    try:
        typed(read_schema("event"), name, value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name, value
