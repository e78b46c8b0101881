"""Trace and request ids: W3C trace context and X-Request-Id.

https://www.w3.org/TR/trace-context/, sections 3.2.2 and 4.3. Where no spans are recorded (ingest/tracing.py), a
caller's traceparent goes on unchanged with each record; `tracestate` is dropped.
"""

import re
from typing import Final

from ingest.events.ids import random_hex

# Later versions may append "-…" to the four fields of version 00; ff is no version. The appended part goes into every
# record of the request, so its length is bounded.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[A-Za-z0-9_.-]{0,64})?"
)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_NONE: Final = "0" * 32


def trace_id_of(traceparent: str) -> str:
    """Return the trace id of a traceparent header, 32 lower-case hexadecimal digits; "" for an invalid header.

    Two such headers arrive joined by a comma, which is invalid, as it should be.
    """
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match[1] == "00" and match[3] is not None):
        return ""
    return match[2]


def request_id_of(header: str) -> str:
    """Return the caller's X-Request-Id when it is 1 to 128 of A-Z a-z 0-9 . _ -, else ""."""
    return header if _REQUEST_ID.fullmatch(header) else ""


def trace_id_like(request_id: str) -> str:
    """Return the trace id that a UUID, or 32 hexadecimal digits, can also be; "" for other ids and for zero."""
    if not _UUID.fullmatch(request_id):
        return ""
    digits = request_id.replace("-", "").lower()
    return "" if digits == _NONE else digits


def new_id() -> str:
    """Return a fresh request or trace id: 32 lower-case hexadecimal digits by chance."""
    return random_hex(16)
