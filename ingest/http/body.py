"""Reads request bodies: checks their type, reads under one cap, inflates under another, and counts JSON values.

Both caps are checked piece by piece, so what exceeds them is never in memory. Each piece takes its memory from the
process's budget. The count of JSON values bounds the objects that the parser may create.
"""

import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from ingest.errors import ErrorCode, IngestError, Rejected
from ingest.events.lines import count_nodes_of_lines
from ingest.events.structure import count_nodes
from ingest.memory import Body, Lease, MemoryBudget, Share, bytes_of_body

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

JSON: Final = "application/json"
_LINES: Final = "application/x-ndjson"
_LINES_TYPES: Final = frozenset({_LINES, "application/ndjson", "application/jsonl"})
_MEDIA_TYPES: Final = frozenset({"", JSON, "text/plain"}) | _LINES_TYPES
_CHARSETS: Final = frozenset({"", "utf-8", "utf8"})
_ENCODINGS: Final = "gzip, deflate, zstd, identity"
# RFC 9659: the window that every receiver of zstd must support. It bounds the memory that a frame may need.
_ZSTD_WINDOW_LOG: Final = 23
# Each member costs a copy of what follows it; 5 MiB never need more members.
_MEMBERS_MAX: Final = 256
_ZLIB_METHOD: Final = 8
# Read or inflated at once; ordinary bodies are one piece.
_PIECE_BYTES: Final = 128 * 1024


class Stream(Protocol):
    """The body of a request, as it arrives."""

    def take(self) -> bytes | None:
        """Return what was not read yet, if all of that is here; None when it has to be read."""

    async def read(self, size: int, /) -> bytes:
        """Return what is here, about `size` bytes; b"" at the end, and only there.

        Raises:
            Rejected: it did not arrive in time, or broke off.
        """


class Inflater(Protocol):
    """The part that zlib's and zstd's decompressors have in common."""

    @property
    def eof(self) -> bool:
        """Whether the member is complete."""

    @property
    def unused_data(self) -> bytes:
        """What follows the member."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Return up to `max_length` bytes of inflated `data`."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Caps on a body; all are settings."""

    sent_bytes_max: int = 1024 * 1024
    inflated_bytes_max: int = 5 * 1024 * 1024
    nodes_max: int = 100_000


class BodyHeaders(msgspec.Struct, frozen=True):
    """What a request's headers say about its body; `length` is None for a chunked one."""

    media_type: str
    charset: str
    encoding: str
    length: int | None


class BodyReader:
    """Reads bodies within their caps and the process's memory budget. Coroutines and threads share it."""

    def __init__(self, limits: BodyLimits, budget: MemoryBudget) -> None:
        self._limits = limits
        self._budget = budget

    def lease(self) -> Share:
        """Open a request's share of memory; leaving the block returns it."""
        return self._budget.lease()

    def take(self, stream: Stream, form: BodyHeaders, lease: Lease) -> bytes | None:
        """Return a body that is here already, as it was sent; None when `receive` has to read it, or to refuse it.

        Raises:
            Rejected: 415.
            Overloaded: the process has no memory left for it.
        """
        _check_media_type(form)
        _inflater_of(form.encoding)
        if form.length is None or form.length > self._limits.sent_bytes_max:
            return None
        sent = stream.take()
        if sent is not None:
            lease.grow(len(sent))
        return sent

    async def receive(self, stream: Stream, form: BodyHeaders, lease: Lease) -> bytes:
        """Return a body as it was sent, still compressed.

        Raises:
            Rejected: 415 or 413 before anything is read; 413, 400 or 408 while reading.
            Overloaded: the process has no memory left for it.
        """
        _check_media_type(form)
        _inflater_of(form.encoding)
        length, cap = form.length, self._limits.sent_bytes_max
        if length is not None and length > cap:
            raise Rejected(ErrorCode.TOO_LARGE, f"the body has {length} bytes, at most {cap} are taken")
        left = cap + 1 if length is None else length
        pieces: list[bytes] = []
        try:
            while left > 0 and (piece := await stream.read(min(left, _PIECE_BYTES))):
                lease.grow(len(piece))
                pieces.append(piece)
                left -= len(piece)
        except IngestError:  # our server's: too slow; the budget's: no memory
            raise
        except Exception as error:  # each server has its own exceptions for malformed bodies
            raise Rejected(ErrorCode.BAD_BODY, "the body broke off, or its chunks are malformed") from error
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if length is None and left <= 0:
            raise Rejected(ErrorCode.TOO_LARGE, f"the body has more than {cap} bytes")
        if length is not None and left > 0:
            raise Rejected(ErrorCode.TRUNCATED_BODY, f"the body ended after {len(body)} of {length} bytes")
        return body

    def inflate(self, sent: bytes, form: BodyHeaders, lease: Lease) -> Body:
        """Return the inflated body; `lease` has grown by what parsing may take.

        Raises:
            Rejected: 413 or 400.
            Overloaded: the process has no memory left for it.
        """
        limits = self._limits
        inflate = _inflater_of(form.encoding)
        text = sent if inflate is None else inflate(sent, _Room(limits.inflated_bytes_max, lease))
        is_lines = form.media_type in _LINES_TYPES
        nodes = (count_nodes_of_lines if is_lines else count_nodes)(text, limits.nodes_max)
        if nodes > limits.nodes_max:
            message = f"the body has more than {limits.nodes_max} JSON values, send fewer events at once"
            raise Rejected(ErrorCode.TOO_MANY_NODES, message)
        lease.grow(bytes_of_body(len(text), nodes))
        return Body(text, len(sent), lease, is_lines)


def _check_media_type(form: BodyHeaders) -> None:
    if form.media_type not in _MEDIA_TYPES:
        message = f"Content-Type must be {JSON}, {_LINES} or text/plain, got {form.media_type[:40]}"
        raise Rejected(ErrorCode.CONTENT_TYPE, message)
    if form.charset.lower() not in _CHARSETS:
        raise Rejected(ErrorCode.CONTENT_TYPE, f"the charset must be UTF-8, got {form.charset[:40]}")


def _inflater_of(encoding: str) -> Callable[[bytes, "_Room"], bytes] | None:
    """Return the function that decodes a Content-Encoding, None for identity."""
    if not encoding:
        return None
    names = [name for element in encoding.lower().split(",") if (name := element.strip()) not in {"", "identity"}]
    if not names:
        return None
    inflate = _INFLATERS.get(names[0])
    if inflate is None or len(names) > 1:
        message = f"Content-Encoding must be one of {_ENCODINGS}, got {encoding[:40]}"
        raise Rejected(ErrorCode.CONTENT_ENCODING, message, headers=(("Accept-Encoding", _ENCODINGS),))
    return inflate


class _Room:
    """The bytes that a body may still inflate to; each piece is counted before the next one is inflated."""

    def __init__(self, cap: int, lease: Lease) -> None:
        self._cap = self._left = cap
        self._lease = lease

    def take(self, size_bytes: int) -> None:
        self._left -= size_bytes
        if self._left < 0:
            raise Rejected(ErrorCode.TOO_LARGE, f"the body inflates to more than {self._cap} bytes")
        self._lease.grow(2 * size_bytes)  # the piece, and its copy in the joined body or in zstd's window


def _inflate(new: Callable[[], Inflater], sent: bytes, room: _Room, name: str) -> bytes:
    """Decode one coding, member by member."""
    pieces: list[bytes] = []
    for _ in range(_MEMBERS_MAX):
        member = new()
        for piece in _pieces_of(member, sent, name):
            room.take(len(piece))
            pieces.append(piece)
        sent = member.unused_data
        if not sent:
            return b"".join(pieces)
    raise Rejected(ErrorCode.BAD_ENCODING, f"the {name} body has more than {_MEMBERS_MAX} members")


def _pieces_of(member: Inflater, sent: bytes, name: str) -> Iterator[bytes]:
    """Yield the inflated pieces of a member."""
    while not member.eof:
        try:
            piece = member.decompress(sent, _PIECE_BYTES)
        except (zlib.error, zstd.ZstdError) as error:
            raise Rejected(ErrorCode.BAD_ENCODING, f"the body is not valid {name}") from error
        if not (piece or member.eof):
            raise Rejected(ErrorCode.BAD_ENCODING, f"the {name} body is truncated")
        yield piece
        sent = getattr(member, "unconsumed_tail", b"")  # zlib returns unread input; zstd keeps it


def _gunzip(sent: bytes, room: _Room) -> bytes:
    return _inflate(lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), sent, room, "gzip")


def _undeflate(sent: bytes, room: _Room) -> bytes:
    """Decode `deflate`: the zlib format of RFC 9110, or the raw stream that some clients send."""
    has_header = len(sent) > 1 and sent[0] & 0xF == _ZLIB_METHOD and int.from_bytes(sent[:2], "big") % 31 == 0
    bits = zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
    return _inflate(lambda: zlib.decompressobj(bits), sent, room, "deflate")


def _unzstd(sent: bytes, room: _Room) -> bytes:
    options: dict[Any, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    return _inflate(lambda: zstd.ZstdDecompressor(options=options), sent, room, "zstd")


_INFLATERS: Final = {"gzip": _gunzip, "x-gzip": _gunzip, "deflate": _undeflate, "zstd": _unzstd}
