"""From gunicorn's C parser to `RequestHead`, with the checks that the parser lacks.

The parser (tried with gunicorn_h1c 0.6.10) limits the request line, the header fields and their number, and the lines
of a chunked body. It refuses ambiguous requests: two lengths, a length and chunks, folded lines, bare CR or LF, control
characters. Added here: transfer codings other than chunked, a second space in the request line, an unknown Expect, and
a limit on the head as a whole.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from itertools import chain
from typing import Final, Protocol

import gunicorn_h1c

from ingest.http.message import RequestHead, path_of

HEAD_BYTES_MAX: Final = 64 * 1024
_LINE_BYTES_MAX: Final = 8190
_FIELDS_MAX: Final = 100
_CODINGS: Final = re.compile(rb"(?:^|\n)transfer-encoding[ \t]*:([^\r\n]*)", re.IGNORECASE)
_ABSOLUTE: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


class RefusedError(Exception):
    """A request that never reaches the application."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Callbacks(Protocol):
    """What a parser calls."""

    def on_head(self) -> None:
        """Take a request's head."""

    def on_body(self, piece: bytes) -> None:
        """Take a piece of a body."""

    def on_end(self) -> None:
        """Take a request's end."""


MALFORMED: Final = (ValueError, RefusedError)
"""What the parser (it has two ParseErrors) and the checks here raise; anything else is a defect."""


def new_parser(callbacks: Callbacks) -> gunicorn_h1c.H1CProtocol:
    """Return a parser that calls an object."""
    return gunicorn_h1c.H1CProtocol(
        on_headers_complete=callbacks.on_head,
        on_body=callbacks.on_body,
        on_message_complete=callbacks.on_end,
        limit_request_line=_LINE_BYTES_MAX,
        limit_request_fields=_FIELDS_MAX,
        limit_request_field_size=_LINE_BYTES_MAX,
        limit_remaining=0,  # within one read of the socket; the connection keeps later bytes
    )


def read_head(parser: gunicorn_h1c.H1CProtocol, sent: bytes, peer: str, port: str, received_s: float) -> RequestHead:
    """Return the head that a parser has just read; `sent` are the bytes that it read.

    Raises:
        RefusedError: the request is answered here.
    """
    method, target = parser.method, parser.path
    if not sent.lstrip(b"\r\n").startswith(b"%b %b HTTP/1." % (method, target)):
        raise _invalid()
    if len(sent) > HEAD_BYTES_MAX and sent.find(b"\r\n\r\n") > HEAD_BYTES_MAX:
        raise too_large()
    headers = _headers_of(parser.asgi_headers)
    coding = headers.get("transfer-encoding")
    if coding is not None and coding.strip(" \t").lower() != "chunked":
        raise _unknown_coding()
    if "expect" in headers and headers["expect"].lower() != "100-continue":
        raise RefusedError(HTTPStatus.EXPECTATION_FAILED, "Expect can only be 100-continue")
    whole, _, query = target.decode("latin-1").partition("?")
    return RequestHead(
        method=method.decode("latin-1"),
        path=path_of(whole if whole.startswith("/") else _ABSOLUTE.sub("", whole, count=1) or "/"),
        query=query,
        protocol=f"HTTP/1.{parser.http_version[1]}",
        headers=headers,
        length=None if parser.is_chunked else parser.content_length or 0,
        peer=peer,
        port=port,
        received_s=received_s,
    )


def _headers_of(fields: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by name; several of one name are joined by commas. No field has a line break in it."""
    texts = b"\n".join(chain.from_iterable(fields)).decode("latin-1").split("\n")
    headers = dict(zip(texts[::2], texts[1::2], strict=False))  # without fields there is one empty text
    if len(headers) < len(fields):
        headers.clear()
        for name, value in zip(texts[::2], texts[1::2], strict=True):
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def refusal_of(error: Exception, sent: bytes) -> RefusedError:
    """Return the refusal of a request that the parser rejects; it never quotes the request."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, gunicorn_h1c.LimitRequestLine):
        return RefusedError(HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long")
    if isinstance(error, gunicorn_h1c.LimitRequestHeaders):
        return too_large()
    if isinstance(error, gunicorn_h1c.InvalidHeader) and _has_other_coding(sent):
        return _unknown_coding()
    return _invalid()


def _has_other_coding(sent: bytes) -> bool:
    """Tell whether a head's Transfer-Encoding has anything but chunked in it."""
    head = sent.partition(b"\r\n\r\n")[0]
    codings = (coding for match in _CODINGS.finditer(head) for coding in match[1].split(b","))
    return any(coding.strip(b" \t").lower() != b"chunked" for coding in codings)


def too_large() -> RefusedError:
    """Return what a client is told of a head that is too large."""
    return RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too many or too large")


def _unknown_coding() -> RefusedError:
    return RefusedError(HTTPStatus.NOT_IMPLEMENTED, "the Transfer-Encoding must be chunked")


def _invalid() -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, "the request is not valid HTTP")
