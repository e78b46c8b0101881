"""Command-line arguments of `headrace` alone; what other programs take too is in schemas/arguments.py."""

import argparse
from re import fullmatch
from typing import Final

_SECONDS_MAX: Final = 31_536_000


def seconds(text: str) -> float:
    """Parse a number of seconds, above 0."""
    if not fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or not 0 < float(text) <= _SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"must be above 0, and {_SECONDS_MAX} at most")
    return float(text)


def condition(text: str) -> tuple[str, str]:
    """Parse a member's name and its value."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("must be NAME=VALUE, such as url=https://example.org/")
    return name, value
