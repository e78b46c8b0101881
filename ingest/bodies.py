"""The request's body: which kinds are taken, read under one cap and inflated under another.

Both caps hold while reading and while inflating: what a client sends beyond them is never in memory.
"""

import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ingest.errors import Rejected, Slug

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

JSON: Final = "application/json"
_MEDIA_TYPES: Final = frozenset({"", JSON, "text/plain"})
_CHARSETS: Final = frozenset({"", "utf-8", "utf8"})
_ENCODINGS: Final = "gzip, deflate, zstd, identity"
# RFC 9659: what a sender may expect a receiver of the zstd coding to hold. It bounds the memory that a frame asks for.
_ZSTD_WINDOW_LOG: Final = 23
# Each member costs a copy of what follows it; nobody who sends 5 MiB needs more.
_MEMBERS_MAX: Final = 256
_ZLIB_METHOD: Final = 8


class Stream(Protocol):
    """What a WSGI server gives to read from (PEP 3333)."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; b"" at the end."""


class Inflater(Protocol):
    """The common part of zlib's and zstd's decompressors."""

    @property
    def eof(self) -> bool:
        """Whether the member is complete."""

    @property
    def unused_data(self) -> bytes:
        """What follows the member."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Return up to `max_length` bytes of what `data` inflates to."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Caps on a body; both are settings."""

    sent_bytes_max: int = 1024 * 1024
    inflated_bytes_max: int = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Form:
    """What the head of a request says of its body; `length` is None for a chunked one."""

    media_type: str
    charset: str
    encoding: str
    length: int | None


def read_body(stream: Stream, form: Form, limits: BodyLimits) -> tuple[bytes, int]:
    """Return a body as the client wrote it, and its size as sent.

    Raises:
        Rejected: 415 or 413 before anything is read; 413, 400 or 408 while reading and inflating.
    """
    _check_media_type(form)
    inflate = _inflater_of(form.encoding)
    sent = _read(stream, form.length, limits.sent_bytes_max)
    return (sent if inflate is None else inflate(sent, limits.inflated_bytes_max)), len(sent)


def _check_media_type(form: Form) -> None:
    if form.media_type not in _MEDIA_TYPES:
        message = f"Content-Type must be {JSON} or text/plain, got {form.media_type[:40]}"
        raise Rejected(Slug.CONTENT_TYPE, message)
    if form.charset.lower() not in _CHARSETS:
        raise Rejected(Slug.CONTENT_TYPE, f"the charset must be UTF-8, got {form.charset[:40]}")


def _inflater_of(encoding: str) -> Callable[[bytes, int], bytes] | None:
    """Return what undoes a Content-Encoding, None for identity."""
    names = [name for element in encoding.lower().split(",") if (name := element.strip()) not in {"", "identity"}]
    if not names:
        return None
    inflate = _INFLATERS.get(names[0])
    if inflate is None or len(names) > 1:
        message = f"Content-Encoding must be one of {_ENCODINGS}, got {encoding[:40]}"
        raise Rejected(Slug.CONTENT_ENCODING, message, headers=(("Accept-Encoding", _ENCODINGS),))
    return inflate


def _read(stream: Stream, length: int | None, cap: int) -> bytes:
    if length is not None and length > cap:
        raise Rejected(Slug.TOO_LARGE, f"the body has {length} bytes, at most {cap} are taken")
    left = cap + 1 if length is None else length
    pieces: list[bytes] = []
    try:
        while left > 0 and (piece := stream.read(left)):
            pieces.append(piece)
            left -= len(piece)
    except Rejected:  # the server's own verdict: too slow
        raise
    except Exception as error:  # each server has its own exceptions for a body that it can't make out
        raise Rejected(Slug.BAD_BODY, "the body broke off, or its chunks are malformed") from error
    body = b"".join(pieces)
    if length is None and left <= 0:
        raise Rejected(Slug.TOO_LARGE, f"the body has more than {cap} bytes")
    if length is not None and left > 0:
        raise Rejected(Slug.TRUNCATED_BODY, f"the body ended after {len(body)} of {length} bytes")
    return body


def _inflate(new: Callable[[], Inflater], sent: bytes, cap: int, name: str) -> bytes:
    """Undo one coding, member by member."""
    pieces: list[bytes] = []
    left = cap
    for _ in range(_MEMBERS_MAX):
        member = new()
        try:
            piece = member.decompress(sent, left + 1)
        except (zlib.error, zstd.ZstdError) as error:
            raise Rejected(Slug.BAD_ENCODING, f"the body is not valid {name}") from error
        if len(piece) > left:
            raise Rejected(Slug.TOO_LARGE, f"the body inflates to more than {cap} bytes")
        if not member.eof:
            raise Rejected(Slug.BAD_ENCODING, f"the {name} body is truncated")
        pieces.append(piece)
        left -= len(piece)
        sent = member.unused_data
        if not sent:
            return b"".join(pieces)
    raise Rejected(Slug.BAD_ENCODING, f"the {name} body has more than {_MEMBERS_MAX} members")


def _gunzip(sent: bytes, cap: int) -> bytes:
    return _inflate(lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), sent, cap, "gzip")


def _undeflate(sent: bytes, cap: int) -> bytes:
    """Undo `deflate`: the zlib format as RFC 9110 says, or the bare stream that some clients send."""
    has_header = len(sent) > 1 and sent[0] & 0xF == _ZLIB_METHOD and int.from_bytes(sent[:2], "big") % 31 == 0
    bits = zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
    return _inflate(lambda: zlib.decompressobj(bits), sent, cap, "deflate")


def _unzstd(sent: bytes, cap: int) -> bytes:
    options: dict[Any, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    return _inflate(lambda: zstd.ZstdDecompressor(options=options), sent, cap, "zstd")


_INFLATERS: Final = {"gzip": _gunzip, "x-gzip": _gunzip, "deflate": _undeflate, "zstd": _unzstd}
