"""Command-line arguments of `python -m consumer`: parsed strictly; an error is one sentence."""

import argparse
from datetime import date
from re import fullmatch
from typing import Final, NoReturn
from uuid import UUID

from consumer.clickhouse.streams import text_bytes
from consumer.operations.replay import typed
from schemas.codec import read_schema

_ID_BYTES_MAX: Final = 100_000  # a user's id has no bound in the contract
LIMIT_MAX: Final = 1_000_000
PARTITION_MAX: Final = 2**31 - 1
OFFSET_MAX: Final = 10**18 - 1


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"consumer: {message}\n")


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
