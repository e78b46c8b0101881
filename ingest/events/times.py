"""The client's clock: what a `timestamp` means, in each of the forms that clients send."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_tz
from math import isfinite
from typing import Any, Final

SECONDS_BELOW: Final = 10**11  # as seconds that is the year 5138, as milliseconds 1973
MS_BELOW: Final = 10**14
_US_BELOW: Final = 1e17
_TEXT_LENGTH_MAX: Final = 64
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_DAY_MS: Final = 24 * 3600 * 1000
# Eight digits are ISO 8601's basic date: as seconds they would be 1970, as milliseconds the same.
_NUMBER: Final = re.compile(r"(?!\d{8}\Z)\d{1,17}(\.\d{1,9})?", re.ASCII)
_END_OF_DAY: Final = re.compile(r"(.+[T ])24(?=(?::?00(?::?00(?:[.,]0+)?)?)?(?:Z|[+-]|\Z))(.*)", re.ASCII)
# RFC 2822, section 3.3, with the zones that 4.3 gives a meaning to. Others mean anything, so they are not guessed.
_MAIL_DATE: Final = re.compile(
    r"(?:[A-Z]{3},)?\s*\d{1,2}\s+[A-Z]{3}\s+(?:\d{4}|\d{2})\s+\d{2}:\d{2}(?::\d{2})?\s+"
    r"(?:[+-]\d{4}|UTC?|GMT|Z|[ECMP][SD]T)(?:\s*\([^()]*\))?",
    re.ASCII | re.IGNORECASE,
)


def client_time_ms(value: Any) -> int | None:
    """Return the Unix milliseconds that a client's timestamp means, or None.

    Epoch seconds, milliseconds or microseconds, as a number or as digits, told apart by magnitude; ISO 8601 (without an
    offset: UTC); RFC 2822. What is finer than a millisecond is dropped: a browser's own clock gives fractions
    (performance.timeOrigin + performance.now()).
    """
    kind = type(value)
    if kind is int and SECONDS_BELOW <= value < MS_BELOW:  # what most clients send
        return int(value)
    if kind is int or (kind is float and isfinite(value)):
        return _epoch_ms(value)
    if kind is str and len(value) <= _TEXT_LENGTH_MAX:
        return _text_ms(value.strip())
    return None


def _epoch_ms(number: float) -> int | None:
    size = abs(number)
    if size < SECONDS_BELOW:
        return round(number * 1_000_000) // 1000  # a double is not exact to the millisecond, but to the microsecond
    if size < MS_BELOW:
        return int(number // 1)
    return int(number // 1000) if size < _US_BELOW else None


def _text_ms(text: str) -> int | None:
    if text[-1:].isdigit() and "-" not in text and _NUMBER.fullmatch(text):
        return _epoch_ms(float(text) if "." in text else int(text))
    try:
        return _iso_ms(text)
    except ValueError:
        return _mail_ms(text)


def _iso_ms(text: str) -> int:
    """Read ISO 8601: dates, week dates and times, basic or extended, and 24:00 for the end of a day.

    Raises:
        ValueError: it is something else. Ordinal dates (2027-015) and months (2027-01) are among it.
    """
    text = text.upper()
    midnight = _END_OF_DAY.fullmatch(text) if "24" in text else None
    if midnight is not None:  # Python takes it from 3.13 on
        return _iso_ms(f"{midnight[1]}00{midnight[2]}") + _DAY_MS
    at = datetime.fromisoformat(text)
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // _MS


def _mail_ms(text: str) -> int | None:
    parts = parsedate_tz(text) if _MAIL_DATE.fullmatch(text) else None
    if parts is None:
        return None
    try:
        return (datetime(*parts[:6], tzinfo=UTC) - _EPOCH) // _MS - (parts[9] or 0) * 1000
    except ValueError:
        return None
