"""Ids and times: UUIDv7 for what has no id, UUIDv5 for what a client repeats, and the client's clock."""

import os
import re
import uuid
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://headrace.dev/idempotency")


def uuid7(at_ms: int) -> str:
    """Return a fresh UUIDv7 (RFC 9562, section 5.7) for a Unix time in milliseconds; 74 bits of it are random."""
    bits = int.from_bytes(os.urandom(10), "big")
    text = f"{at_ms:012x}7{bits >> 68:03x}{bits >> 6 & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uuid5(client_id: str, key: str, index: int) -> str:
    """Return the id of the event at `index` in a request with this Idempotency-Key: the same for every retry."""
    return str(uuid.uuid5(_NAMESPACE, f"{len(client_id)}:{client_id}{index}:{key}"))


def canonical_uuid(value: Any) -> str | None:
    """Return a UUID (8-4-4-4-12 hexadecimal digits, any case) in lower case, or None."""
    if type(value) is not str:
        return None
    text = value.lower()
    return text if _UUID.fullmatch(text) else None


def client_time_ms(value: Any) -> int | None:
    """Return the Unix milliseconds that a client's timestamp means, or None.

    ISO 8601 (without an offset: UTC) or epoch milliseconds, as a number or as digits; a browser's own clock gives
    fractions (performance.timeOrigin + performance.now()), which are dropped.
    """
    if type(value) is str:
        return int(value) if value.isascii() and value.isdigit() and len(value) <= 15 else _iso_ms(value)  # noqa: PLR2004  (15 digits reach year 33658)
    if type(value) is int or (type(value) is float and isfinite(value)):
        return int(value)
    return None


def _iso_ms(text: str) -> int | None:
    try:
        at = datetime.fromisoformat(text)
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
