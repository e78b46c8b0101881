"""Ids: UUIDv7 for what has none, UUIDv5 for what a client repeats, and the digest that tells a repeated event."""

import hashlib
import os
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import msgspec

try:
    from ingest.events.fresh_ids import FreshIds
except ImportError:  # there was no compiler
    IS_COMPILED = False
else:
    IS_COMPILED = True

NIL: Final = "00000000-0000-0000-0000-000000000000"
_SHAPE: Final = NIL.encode()
_DIGITS_TO_0: Final = bytes.maketrans(b"123456789abcdefABCDEF", b"0" * 21)  # a third of a regular expression's time
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://headrace.dev/idempotency")
_VARIANT: Final = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))  # its two upper bits are 10
_LOWER_HALF: Final = dict(zip("0123456789abcdef", "01234567" * 2, strict=True))  # its upper bit is 0
_DRAWN_BYTES: Final = 4096
_encode_sorted: Final = msgspec.json.Encoder(order="deterministic").encode


class _Pool(threading.local):
    """One thread's random digits that are not used yet."""

    digits = ""
    at = 0


_pool: Final = _Pool()


def _forget_digits() -> None:
    _pool.digits = ""


os.register_at_fork(after_in_child=_forget_digits)  # no two processes may use the same


def random_hex(size_bytes: int) -> str:
    """Return fresh random bytes from the system, at most _DRAWN_BYTES, as hexadecimal digits.

    They are drawn for about a hundred requests at once: each draw is a system call, and lets other threads interrupt.
    """
    at, end = _pool.at, _pool.at + 2 * size_bytes
    if end > len(_pool.digits):
        _pool.digits, at, end = os.urandom(_DRAWN_BYTES).hex(), 0, 2 * size_bytes
    _pool.at = end
    return _pool.digits[at:end]


def uuid7(at_ms: int) -> str:
    """Return a fresh UUIDv7 (RFC 9562, section 5.7) for a Unix time in milliseconds."""
    return next(uuid7s(at_ms))


def uuid7s(at_ms: int) -> Iterator[str]:
    """Return fresh UUIDv7 for one moment, each greater than the one before; 2**23 of them at least.

    The random bits are taken once, at the first id: 73 of them are the first id's, and 24 the distance from each to the
    next (RFC 9562, section 6.2, method 2: a random number as a counter, whose upper bit begins as 0, in random steps).
    """
    return FreshIds(partial(_drawn, at_ms)) if IS_COMPILED else uuid7s_in_python(at_ms)


def uuid7s_in_python(at_ms: int) -> Iterator[str]:
    """Do what `uuid7s` does."""
    begin, first, step = _drawn(at_ms)
    for counter in range(1 << 48 | first, 2 << 48, step):
        yield begin + hex(counter)[3:]  # behind 0x1, which keeps the zeros


def _drawn(at_ms: int) -> tuple[str, int, int]:
    """Return what the ids of a moment begin with, the counter of the first, and the step."""
    time, chance = f"{at_ms:012x}", random_hex(13)
    begin = f"{time[:8]}-{time[8:]}-7{chance[:3]}-{_VARIANT[chance[3]]}{chance[4:7]}-"
    return begin, int(_LOWER_HALF[chance[7]] + chance[8:19], 16), 1 + int(chance[20:], 16)


def uuid5(client_id: str, key: str, index: int, content: bytes) -> str:
    """Return the id of the event at `index` in a request with this Idempotency-Key: the same for every retry.

    `content` stands for what the event says: another event under a used key gets another id, so nobody can replace what
    somebody else sent. Who sends it (an address, a connection) is no part: a retry may come by another way.
    """
    digest = hashlib.sha256(content).hexdigest()
    return str(uuid.uuid5(_NAMESPACE, f"{len(client_id)}:{client_id}{index}:{digest}:{key}"))


def canonical_json(value: Any) -> bytes:
    """Return one text for a parsed JSON value, whatever its white space, escapes and order of members were.

    Numbers follow their value within their kind: 1e2 and 100.0 are one float, 100 is an integer, and so something else.
    """
    return _encode_sorted(value)


def canonical_uuid(value: Any) -> str | None:
    """Return a UUID (8-4-4-4-12 hexadecimal digits, any case) in lower case, or None."""
    if type(value) is str and value.isascii() and value.encode().translate(_DIGITS_TO_0) == _SHAPE:
        return value.lower()
    return None
