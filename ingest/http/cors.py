"""Cross-origin rules for browsers: https://fetch.spec.whatwg.org/#http-cors-protocol.

This is no access control: a page of another origin can't read an answer, but its simple requests arrive all the same;
the client registry can refuse them. Credentials are allowed because `navigator.sendBeacon` always sends in that mode.
No cookie is ever read, so nothing depends on them.
"""

import re
from collections.abc import Sequence
from typing import Final

from ingest.access.origins import ANY

# Origins that are echoed: as browsers write them, without spaces and commas.
_ECHOED_ORIGIN: Final = re.compile(r"[!-+\--~]{1,512}")
# A list of header names (RFC 9110, section 5.6.2); a page with several agents asks for about 200 characters.
_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_ECHOED_NAMES: Final = re.compile(rf"{_NAME}(?:[ \t]*+,[ \t]*+{_NAME})*")
_NAMES_LENGTH_MAX: Final = 2000
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


class CorsPolicy:
    """The CORS headers of answers and preflights. Immutable, so threads share it."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = ANY in origins
        self._origins = frozenset(origins)

    def answer_headers(self, origin: str, *, is_shared: bool = True) -> Headers:
        """Return the headers of an answer to a page of this origin ("" for no page); errors carry them too.

        With `is_shared` False, requests with credentials are not permitted: no page can read what a proxy protects
        with a cookie (metrics, documentation).
        """
        if not (origin and self._allows(origin)):
            return [("Vary", "Origin")]
        permission = _allow(origin) if is_shared else _allow(origin)[:1]
        return [*permission, ("Access-Control-Expose-Headers", _EXPOSED), ("Vary", "Origin")]

    def preflight_headers(self, origin: str, asked: str, *, is_private: bool = False) -> Headers:
        """Return the headers of a preflight's answer; a browser may cache it for a day.

        Args:
            origin: the page's origin.
            asked: its Access-Control-Request-Headers; all well-formed names are allowed.
            is_private: the page asks to reach a private network from a public one.
        """
        headers = [
            ("Access-Control-Allow-Methods", _METHODS),
            ("Access-Control-Allow-Headers", asked if _are_names(asked) else _SENT),
            ("Access-Control-Max-Age", str(_MAX_AGE_S)),
            ("Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Private-Network"),
        ]
        if not self._allows(origin):
            return headers
        if is_private:
            headers.append(("Access-Control-Allow-Private-Network", "true"))
        return [*_allow(origin), *headers]

    def _allows(self, origin: str) -> bool:
        return origin in self._origins or (self._any and _ECHOED_ORIGIN.fullmatch(origin) is not None)


def _allow(origin: str) -> Headers:
    return [("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Credentials", "true")]


def _are_names(asked: str) -> bool:
    return len(asked) <= _NAMES_LENGTH_MAX and _ECHOED_NAMES.fullmatch(asked) is not None
