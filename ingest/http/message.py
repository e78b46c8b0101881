"""A request's head and an answer, whichever server has them."""

from collections.abc import Mapping, Sequence
from time import monotonic
from urllib.parse import unquote_to_bytes

import msgspec

Headers = Sequence[tuple[str, str]]


class RequestHead(msgspec.Struct, frozen=True):
    """What stands before a request's body.

    Attributes:
        method: in capitals.
        path: decoded, as `path_of` does it; bytes are Latin-1, as in WSGI.
        query: as sent, without the question mark.
        protocol: HTTP/1.0 or HTTP/1.1.
        headers: by lower-case name; several of one name are joined by commas.
        length: of the body in bytes; None for a chunked one.
        peer: the address at the other end of the connection, "" when unknown.
        port: the port that the request came in on, "" when unknown.
        received_s: monotonic time at which the server began to deal with it.
    """

    method: str
    path: str
    query: str = ""
    protocol: str = "HTTP/1.1"
    headers: Mapping[str, str] = {}
    length: int | None = 0
    peer: str = ""
    port: str = ""
    received_s: float = msgspec.field(default_factory=monotonic)


def path_of(target: str) -> str:
    """Return the path of a request's target, which has no query any more.

    An encoded slash is no slash (RFC 3986, section 2.2): /collect%2fevent is another path than /collect/event, so a
    path with one in it stays as it was sent.
    """
    if "%" not in target or "%2f" in target or "%2F" in target:
        return target
    return unquote_to_bytes(target).decode("latin-1")


class Answer(msgspec.Struct, frozen=True):
    """What a client is told."""

    status: int
    body: bytes = b""
    headers: Headers = ()
