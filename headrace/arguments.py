"""Command-line arguments of `headrace`: parsed strictly; an error is one sentence."""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from re import fullmatch
from typing import Final

_SECONDS_MAX: Final = 31_536_000
_LATEST_MS: Final = 10_413_705_600_000  # 2299-12-31, as in the tables


def seconds(text: str) -> float:
    """Parse a number of seconds, above 0."""
    if not fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or not 0 < float(text) <= _SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"must be above 0, and {_SECONDS_MAX} at most")
    return float(text)


def moment_ms(text: str) -> int:
    """Parse a date or a time (ISO 8601; UTC unless it has an offset) to Unix ms."""
    try:
        moment = datetime.fromisoformat(text)
        at_ms = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        at_ms = -1
    if not 0 <= at_ms <= _LATEST_MS:
        raise argparse.ArgumentTypeError(
            "must be a date or a time from 1970 to 2299, such as 2026-01-31T09:30:00+01:00"
        )
    return at_ms


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers within bounds."""

    def read(text: str) -> int:
        if not fullmatch("-?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}")
        return int(text)

    return read


def partition(text: str) -> tuple[str, int]:
    """Parse a partition's topic and number."""
    if not fullmatch(r"[A-Za-z0-9._-]{1,249}/[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError("must be topic/partition, such as events/3")
    topic, _, number = text.partition("/")
    return topic, int(number)


def condition(text: str) -> tuple[str, str]:
    """Parse a member's name and its value."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("must be NAME=VALUE, such as url=https://example.org/")
    return name, value
