"""Cross-origin rules for browsers: https://fetch.spec.whatwg.org/#http-cors-protocol.

Without credentials (no cookies), so any origin may be allowed. This is no access control: a page of another origin
can't read an answer, but what it sends as a simple request arrives; the client registry can refuse it.
"""

import re
from collections.abc import Sequence
from typing import Final

ANY: Final = "*"
_ORIGIN: Final = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?")
_MAX_AGE_S: Final = 24 * 3600
_METHODS: Final = "GET, POST"
_SENT: Final = (
    "Authorization, Content-Encoding, Content-Type, Idempotency-Key, Prefer, traceparent, tracestate, X-API-Key, "
    "X-Request-Id"
)
_EXPOSED: Final = (
    "Preference-Applied, Retry-After, X-Durability, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, "
    "X-Request-Id"
)

Headers = list[tuple[str, str]]


def read_origins(text: str) -> tuple[str, ...]:
    """Read allowed origins: "*" for any, else comma-separated origins as browsers write them; "" allows none.

    Raises:
        ValueError: an element is no origin (scheme, host in lower case, port if not the default; no path).
    """
    origins = tuple(element.strip() for element in text.split(",")) if text.strip() else ()
    for origin in origins:
        if origin != ANY and not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is no origin such as https://www.example.com")
    return origins


class CrossOrigin:
    """What browsers are told; immutable, so threads share it."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = ANY in origins
        self._origins = frozenset(origins)

    def answer_headers(self, origin: str) -> Headers:
        """Return the headers of an answer to a page of this origin ("" for no page); errors carry them too."""
        return [*self._allow(origin), ("Access-Control-Expose-Headers", _EXPOSED)] if origin else self._allow(origin)

    def preflight_headers(self, origin: str) -> Headers:
        """Return the headers of a preflight's answer, which a browser keeps for a day."""
        return [
            *self._allow(origin),
            ("Access-Control-Allow-Methods", _METHODS),
            ("Access-Control-Allow-Headers", _SENT),
            ("Access-Control-Max-Age", str(_MAX_AGE_S)),
        ]

    def _allow(self, origin: str) -> Headers:
        if self._any:
            return [("Access-Control-Allow-Origin", ANY)]
        allow = [("Access-Control-Allow-Origin", origin)] if origin in self._origins else []
        return [*allow, ("Vary", "Origin")]
