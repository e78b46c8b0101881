"""Content codings of request bodies and answers: gzip, deflate (zlib), lz4 (frame), zstd.

The libraries are those that clickhouse-connect brings. Brotli is left out: it would be one more
dependency, and no client asks for it first.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from typing import TYPE_CHECKING, Any, Final

import lz4.frame  # type: ignore[import-untyped]  # ships no types

from deploy.embedded.clickhouse_errors import CANNOT_DECOMPRESS, NOT_IMPLEMENTED, ClickHouseError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Small steps bound what one step can inflate to.
_STEP_BYTES: Final = 64 * 1024
_FASTEST: Final = 1  # answers go over loopback: the time counts, not the size

_DECODERS: Final[dict[str, Callable[[], Any]]] = {
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "deflate": zlib.decompressobj,
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
}
# In the order in which an answer's coding is chosen among those the client takes.
_ENCODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "lz4": lz4.frame.compress,
    "zstd": zstd.compress,
    "gzip": lambda body: gzip.compress(body, _FASTEST),
    "deflate": lambda body: zlib.compress(body, _FASTEST),
}
_BROKEN: Final = (zlib.error, zstd.ZstdError, RuntimeError)  # RuntimeError is lz4's


def decoded(chunks: Iterable[bytes], coding: str) -> Iterator[bytes]:
    """Yield the body that `chunks` encode, in pieces that are not empty; members in a row are one body.

    Raises:
        ClickHouseError: The coding is not one of these, or the body is broken or cut short.
    """
    if coding in ("", "identity"):
        yield from chunks
        return
    if coding not in _DECODERS:
        raise ClickHouseError(NOT_IMPLEMENTED, f"Unknown compression method: {coding}")
    decoder, ended = _DECODERS[coding](), True
    for step in _steps(chunks):
        data = step
        while data:
            if decoder.eof:
                decoder = _DECODERS[coding]()
            try:
                plain = decoder.decompress(data)
            except _BROKEN as error:
                raise ClickHouseError(CANNOT_DECOMPRESS, f"The body is no valid {coding}: {error}") from error
            data, ended = decoder.unused_data, decoder.eof  # lz4 leaves None there until the end
            if plain:
                yield plain
    if not ended:
        raise ClickHouseError(CANNOT_DECOMPRESS, f"The {coding} body ends too early")


def _steps(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), _STEP_BYTES):
            yield chunk[start : start + _STEP_BYTES]


def encoded(body: bytes, accepted: Iterable[str]) -> tuple[bytes, str | None]:
    """Return the body in the best coding of `accepted` and its name, or as it is and None."""
    takes = set(accepted) if body else set()
    for coding, encode in _ENCODERS.items():
        if coding in takes:
            return encode(body), coding
    return body, None
