"""Parses request headers: text, Host, Prefer, Idempotency-Key and API keys."""

import re
from functools import lru_cache
from typing import Final
from urllib.request import parse_http_list

from ingest.errors import ErrorCode, Rejected

_KEY_LENGTH_MAX: Final = 200
_PORT_MAX: Final = 65535
_HOSTS_CACHED: Final = 256  # of 8 KiB at most, by the server's limit
# RFC 3986's registered names, as far as they name hosts; container names may contain "_".
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,255})(:(?P<port>[0-9]{0,5}))?")


def header_text(value: str) -> str:
    """Return a header's text. WSGI gives its bytes as Latin-1 (PEP 3333): read them as UTF-8 when they are valid."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def check_host(host: str | None, protocol: str) -> None:
    """Check a request's Host: a name or an address, optionally with a port. Only HTTP/1.0 may omit it.

    Raises:
        Rejected: 400 (RFC 9112, section 3.2).
    """
    if host is None and protocol == "HTTP/1.0":
        return
    if not _is_host(host or ""):
        raise Rejected(ErrorCode.BAD_HOST, "Host must be a name or an address, and perhaps a port")


@lru_cache(_HOSTS_CACHED)
def _is_host(host: str) -> bool:
    match = _HOST.fullmatch(host)
    return match is not None and int(match["port"] or 0) <= _PORT_MAX


def prefers_lenient(prefer: str) -> bool:
    """Tell whether a Prefer header (RFC 7240) asks for `handling=lenient`, alone or among others."""
    return bool(prefer) and _preference(prefer, "handling") == "lenient"


def prefers_minimal(prefer: str) -> bool:
    """Tell whether a Prefer header asks for `return=minimal`: an answer whose body says as little as it can."""
    return bool(prefer) and _preference(prefer, "return") == "minimal"


def _preference(prefer: str, wanted: str) -> str:
    """Return a preference's value in small letters, "" when it is not there; of several the first counts."""
    for preference in parse_http_list(prefer):
        name, _, word = preference.partition(";")[0].partition("=")
        if name.strip().lower() == wanted:
            return word.strip().strip('"').lower()
    return ""


def read_idempotency_key(header: str | None) -> str:
    """Return the Idempotency-Key, "" when the request has none.

    Raises:
        Rejected: 400, the key is empty or longer than 200 characters.
    """
    if header is None:
        return ""
    key = header_text(header)
    if not 1 <= len(key) <= _KEY_LENGTH_MAX:
        message = f"Idempotency-Key must have 1 to {_KEY_LENGTH_MAX} characters, got {len(key)}"
        raise Rejected(ErrorCode.BAD_IDEMPOTENCY_KEY, message)
    return key


def read_api_key(header: str, authorization: str, query: str) -> str:
    """Return a request's API key: X-API-Key, else a bearer token, else the query's; "" when there is none."""
    scheme, _, token = authorization.partition(" ")
    return header_text(header or (token.strip() if scheme.lower() == "bearer" else "")) or query
