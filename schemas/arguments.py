"""Parses arguments that several programs take on their command lines: strictly; an error is one sentence."""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from re import fullmatch
from typing import Final

_SECONDS_MAX: Final = 86_400
_UNTIL_MS: Final = 10_413_792_000_000  # the year 2300, where the columns of times end


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
    if not 0 <= at_ms <= _UNTIL_MS:
        raise argparse.ArgumentTypeError(
            "must be a date or a time from 1970 to 2299, such as 2026-01-31T09:30:00+01:00"
        )
    return at_ms


def partition(text: str) -> tuple[str, int]:
    """Parse a partition's topic and number."""
    if not fullmatch(r"[A-Za-z0-9._-]{1,249}/[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError("must be topic/partition, such as events/3")
    topic, _, number = text.partition("/")
    return topic, int(number)
