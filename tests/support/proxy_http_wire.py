"""As much of HTTP/1.1 as a proxy needs to know where a message ends (RFC 9112, section 6)."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from tests.support.proxy_modes import Answer

_PIECE: Final = 64 * 1024
_BODILESS: Final = frozenset({"204", "304"})
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"  # what a client that sent "Expect" waits for before its body


@dataclass(frozen=True)
class Head:
    """The first line and the headers of a request or an answer."""

    line: str
    headers: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """Return a header's value in lower case, or nothing; ``name`` is in lower case."""
        return next((value.lower() for key, value in self.headers if key.lower() == name), "")

    @property
    def method(self) -> str:
        """The first word of a request's line."""
        return self.line.split(" ", maxsplit=1)[0]

    @property
    def status(self) -> str:
        """The three digits of an answer's line."""
        return self.line.split(" ", maxsplit=2)[1]

    @property
    def is_interim(self) -> bool:
        """An answer that another one follows."""
        return self.status.startswith("1")

    @property
    def is_last(self) -> bool:
        """The connection ends after this message."""
        return self.get("connection") == "close" or (self.line.endswith("HTTP/1.0") and not self.get("connection"))

    def ends_itself(self, method: str) -> bool:
        """Tell whether this answer to a request of that method shows its end; else it ends with its connection."""
        return self.has_no_body(method) or bool(self.get("content-length")) or self.is_chunked

    def has_no_body(self, method: str) -> bool:
        """Tell whether this answer to a request of that method is its head alone, whatever its headers say."""
        return method == "HEAD" or self.status in _BODILESS

    @property
    def is_chunked(self) -> bool:
        """The body comes in chunks that carry their sizes."""
        return self.get("transfer-encoding").endswith("chunked")

    def without(self, name: str) -> "Head":
        """Return the same head less one header."""
        return Head(self.line, tuple(pair for pair in self.headers if pair[0].lower() != name))

    def with_host(self, host: str) -> "Head":
        """Return the same head for a server of another name."""
        return Head(self.line, tuple((key, host if key.lower() == "host" else value) for key, value in self.headers))

    def with_settings(self, settings: Mapping[str, int]) -> "Head":
        """Return the same head with further parameters in its URL, where it does not have them."""
        verb, url, version = self.line.split(" ")
        more = [f"{name}={value}" for name, value in settings.items() if not re.search(rf"[?&]{name}=", url)]
        return Head(" ".join((verb, "&".join((url, *more)), version)), self.headers)

    def encode(self) -> bytes:
        """Return the bytes on the wire, the empty line at the end included."""
        lines = [self.line, *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read up to the empty line; None when the connection ended before the first byte.

    Raises:
        asyncio.IncompleteReadError: it ended in the middle.
        asyncio.LimitOverrunError: the head is above 64 KiB.
    """
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise
        return None
    line, *fields = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (item.partition(":") for item in fields)
    return Head(line, tuple((name, value.strip()) for name, _, value in pairs))


async def request_body(head: Head, reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    """Yield the body of a request as it comes, chunk sizes included.

    Raises:
        asyncio.IncompleteReadError: the connection ended in the middle.
    """
    if head.is_chunked:
        async for piece in _chunks(reader):
            yield piece
    else:
        async for piece in _counted(reader, int(head.get("content-length") or 0)):
            yield piece


async def answer_body(head: Head, method: str, reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    """Yield the body of the answer to a request of this method as it comes; it may end with the connection.

    Raises:
        asyncio.IncompleteReadError: the connection ended in the middle.
    """
    if head.has_no_body(method):
        return
    if head.ends_itself(method):
        async for piece in request_body(head, reader):
            yield piece
    else:
        while piece := await reader.read(_PIECE):
            yield piece


def encode_answer(answer: Answer, method: str) -> bytes:
    """Return a whole answer as it goes over the wire."""
    reason = HTTPStatus(answer.status).phrase
    headers = (*answer.headers.items(), ("Content-Length", str(len(answer.body))))
    head = Head(f"HTTP/1.1 {answer.status} {reason}", headers).encode()
    return head if method == "HEAD" else head + answer.body


async def _counted(reader: asyncio.StreamReader, length: int) -> AsyncGenerator[bytes, None]:
    while length > 0:
        piece = await reader.read(min(length, _PIECE))
        if not piece:
            raise asyncio.IncompleteReadError(b"", length)
        length -= len(piece)
        yield piece


async def _chunks(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    while True:
        line = await reader.readuntil(b"\r\n")
        yield line
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        async for piece in _counted(reader, size + 2):  # and the line's end after the chunk
            yield piece
    while line != b"\r\n":  # trailers, if any, and the empty line
        line = await reader.readuntil(b"\r\n")
        yield line
