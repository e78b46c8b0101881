"""What a request's headers ask for, as far as it takes more than reading them."""

from typing import Final
from urllib.request import parse_http_list

from ingest.errors import Rejected, Slug

_KEY_LENGTH_MAX: Final = 200


def prefers_lenient(prefer: str) -> bool:
    """Tell whether a Prefer header (RFC 7240) asks for `handling=lenient`, alone or among others.

    Names and values are compared without regard to case. Of several `handling` preferences the first counts.
    """
    if not prefer:
        return False
    for preference in parse_http_list(prefer):
        name, _, word = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "handling":
            return word.strip().strip('"').lower() == "lenient"
    return False


def read_idempotency_key(header: str | None) -> str:
    """Return the Idempotency-Key, "" when the request has none.

    Raises:
        Rejected: 400, it is empty or longer than 200 characters.
    """
    if header is None:
        return ""
    if not 1 <= len(header) <= _KEY_LENGTH_MAX:
        message = f"Idempotency-Key must have 1 to {_KEY_LENGTH_MAX} characters, got {len(header)}"
        raise Rejected(Slug.BAD_IDEMPOTENCY_KEY, message)
    return header


def read_api_key(header: str, authorization: str, query: str) -> str:
    """Return the key that a request shows: X-API-Key, else a bearer token, else the query's; "" when it shows none."""
    scheme, _, token = authorization.partition(" ")
    return header or (token.strip() if scheme.lower() == "bearer" else "") or query
