"""Bodies: what is read, what is inflated, and where both stop."""

import asyncio
import gzip
import io
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from backports import zstd

from ingest.errors import Overloaded, Rejected
from ingest.http.body import BodyHeaders, BodyLimits, BodyReader
from ingest.memory import Body, MemoryBudget, Share

MIB = 1024 * 1024
TEXT = b'{"messageBody": []}'
LIMITS = BodyLimits(sent_bytes_max=1000, inflated_bytes_max=5000)


def raw_deflate(data: bytes) -> bytes:
    """Compress without zlib's header."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZip": gzip.compress,
    "deflate": zlib.compress,
    "deflate, identity": raw_deflate,
    "zstd": zstd.compress,
    "identity": bytes,
    "": bytes,
}


class Arriving:
    """A body that is read as an event loop reads it."""

    def __init__(self, stream: io.BytesIO) -> None:
        """Take it from a stream in memory."""
        self._stream = stream

    def take(self) -> bytes | None:
        """Have nothing yet."""
        return None

    async def read(self, size: int, /) -> bytes:
        """Return what the stream returns."""
        return self._stream.read(size)


class Here(Arriving):
    """A body that has arrived."""

    def __init__(self, body: bytes) -> None:
        """Take it."""
        super().__init__(io.BytesIO())
        self._body = body

    def take(self) -> bytes:
        """Return it."""
        return self._body


def received(bodies: BodyReader, stream: io.BytesIO, form: BodyHeaders, lease: Share) -> Body:
    """Receive a body in a separate loop, and inflate it."""
    return bodies.inflate(asyncio.run(bodies.receive(Arriving(stream), form, lease)), form, lease)


def read_body(
    stream: io.BytesIO, form: BodyHeaders, limits: BodyLimits, lease: Share | None = None
) -> tuple[bytes, int]:
    """Return a received body, and its size as sent."""
    bodies = BodyReader(limits, MemoryBudget(2**40))
    body = received(bodies, stream, form, lease or bodies.lease())
    return body.text, body.sent_bytes


def read(sent: bytes, encoding: str = "", limits: BodyLimits = LIMITS, **form: object) -> bytes:
    """Read a body whose length is known."""
    given = {"media_type": "", "charset": "", "encoding": encoding, "length": len(sent)} | form
    return read_body(io.BytesIO(sent), BodyHeaders(**given), limits)[0]  # type: ignore[arg-type]  # a test's own rows


def status_of(sent: bytes, encoding: str = "", limits: BodyLimits = LIMITS, **form: object) -> int:
    """Return the status that a body is refused with."""
    with pytest.raises(Rejected) as caught:
        read(sent, encoding, limits, **form)
    return caught.value.status


class Explosive(io.BytesIO):
    """A body that must not be read."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Fail."""
        raise AssertionError(f"{size} bytes were read")


class Dripping(io.BytesIO):
    """A body of which a byte comes at a time, as PEP 3333 allows."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return one byte."""
        return super().read(1 if size else 0)


@pytest.mark.parametrize("encoding", CODINGS)
def test_every_coding_comes_out_as_it_went_in(encoding: str) -> None:
    """gzip, deflate in both its forms, zstd and identity, in any case."""
    assert read(CODINGS[encoding](TEXT), encoding) == TEXT


@pytest.mark.parametrize("encoding", CODINGS)
def test_a_body_may_be_exactly_as_large_as_the_caps(encoding: str) -> None:
    """The caps are inclusive, as sent and inflated."""
    text = b"x" * 5000
    sent = CODINGS[encoding](text) if CODINGS[encoding] is not bytes else text
    limits = BodyLimits(sent_bytes_max=len(sent), inflated_bytes_max=5000)

    assert read(sent, encoding, limits) == text
    assert status_of(sent, encoding, BodyLimits(len(sent) - 1, 5000)) == 413
    if len(sent) < len(text):
        assert status_of(sent, encoding, BodyLimits(len(sent), 4999)) == 413


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_of_several_members_is_one_body(encoding: str) -> None:
    """Concatenated members are what such files may consist of, and the cap counts all of them."""
    member = CODINGS[encoding](b"x" * 2000)

    assert read(member * 2, encoding) == b"x" * 4000
    assert status_of(member * 3, encoding) == 413


def test_the_number_of_members_is_bounded() -> None:
    """A body of nothing but empty members costs a copy of the rest for each, so it is refused."""
    member = gzip.compress(b"")

    assert read(member * 256, "gzip", BodyLimits()) == b""
    assert status_of(member * 257, "gzip", BodyLimits()) == 400


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "deflate, identity", "zstd"])
def test_a_body_that_is_cut_is_refused(encoding: str) -> None:
    """Each prefix of an encoded body is a 400, also the empty one."""
    sent = CODINGS[encoding](TEXT * 20)

    assert {status_of(sent[:length], encoding) for length in range(len(sent))} == {400}


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_body_that_is_not_what_its_coding_says_is_refused(encoding: str) -> None:
    """Plain JSON under a coding, a damaged stream, and rubbish behind a good one."""
    checked = {"zstd": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})}
    damaged = bytearray(checked.get(encoding, CODINGS[encoding])(TEXT * 20))
    damaged[-1] ^= 0xFF

    assert status_of(TEXT, encoding) == 400
    assert status_of(bytes(damaged), encoding) == 400
    assert status_of(CODINGS[encoding](TEXT) + b"rubbish", encoding) == 400


def test_a_frame_that_asks_for_a_large_window_is_refused() -> None:
    """A zstd frame can ask its reader for 2 GiB of memory; 8 MiB is what RFC 9659 grants."""
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 24})

    assert status_of(compressor.compress(TEXT) + compressor.flush(), "zstd") == 400


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "deflate, identity", "zstd"])
def test_a_bomb_costs_no_more_than_the_caps(encoding: str) -> None:
    """What inflates to far more is refused after the cap's bytes, whatever the coding."""
    sent = bomb(encoding, 100 * MIB)
    tracemalloc.start()
    try:
        assert status_of(sent, encoding, BodyLimits()) == 413
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 20 * MIB


def bomb(encoding: str, size_bytes: int) -> bytes:
    """Compress so many zeros, a piece at a time."""
    if encoding == "zstd":
        compressor = zstd.ZstdCompressor()
        piece, count = bytes(MIB), size_bytes // MIB
        return b"".join(compressor.compress(piece) for _ in range(count)) + compressor.flush()
    bits = {"gzip": 31, "deflate": 15}.get(encoding, -15)
    deflater = zlib.compressobj(9, wbits=bits)
    return b"".join(deflater.compress(bytes(MIB)) for _ in range(size_bytes // MIB)) + deflater.flush()


@pytest.mark.parametrize("encoding", ["br", "compress", "gzip, gzip", "gzip, zstd", "aes128gcm", "*"])
def test_an_unknown_or_stacked_coding_is_refused_unread(encoding: str) -> None:
    """415 names what would do, in the sentence and in Accept-Encoding (RFC 9110, section 15.5.16)."""
    with pytest.raises(Rejected, match="gzip, deflate, zstd, identity") as caught:
        read_body(Explosive(), BodyHeaders("", "", encoding, 10), LIMITS)

    assert caught.value.status == 415
    assert caught.value.headers == (("Accept-Encoding", "gzip, deflate, zstd, identity"),)


@pytest.mark.parametrize("media_type", ["", "application/json", "text/plain"])
@pytest.mark.parametrize("charset", ["", "utf-8", "UTF-8", "utf8"])
def test_json_is_taken_under_three_names(media_type: str, charset: str) -> None:
    """application/json, text/plain (sendBeacon) and nothing at all, in UTF-8 however it is written."""
    assert read(TEXT, media_type=media_type, charset=charset) == TEXT


@pytest.mark.parametrize(
    ("media_type", "charset"),
    [
        ("text/html", ""),
        ("application/xml", ""),
        ("application/x-www-form-urlencoded", ""),
        ("multipart/form-data", ""),
        ("application/json", "utf-16"),
        ("text/plain", "iso-8859-1"),
    ],
)
def test_other_types_and_charsets_are_refused_unread(media_type: str, charset: str) -> None:
    """Anything else is a 415, before a byte of the body is looked at."""
    with pytest.raises(Rejected) as caught:
        read_body(Explosive(), BodyHeaders(media_type, charset, "", 10), LIMITS)

    assert caught.value.status == 415


def test_a_length_over_the_cap_is_refused_unread() -> None:
    """Content-Length alone is enough to say no."""
    with pytest.raises(Rejected, match="has 1001 bytes, at most 1000") as caught:
        read_body(Explosive(), BodyHeaders("", "", "gzip", 1001), LIMITS)

    assert caught.value.status == 413


def test_a_body_without_a_length_is_read_up_to_the_cap() -> None:
    """A chunked body is good until it passes the cap, and then no more of it is read."""
    stream = io.BytesIO(b"x" * 5000)

    assert read(b"x" * 1000, length=None) == b"x" * 1000
    with pytest.raises(Rejected) as caught:
        read_body(stream, BodyHeaders("", "", "", None), LIMITS)
    assert caught.value.status == 413
    assert stream.tell() == 1001


def test_a_body_that_comes_in_pieces_is_put_together() -> None:
    """A server may return less than was asked for."""
    assert read_body(Dripping(TEXT), BodyHeaders("", "", "", len(TEXT)), LIMITS) == (TEXT, len(TEXT))
    assert read_body(Dripping(TEXT), BodyHeaders("", "", "", None), LIMITS) == (TEXT, len(TEXT))


def test_a_body_that_is_here_is_taken_at_once() -> None:
    """Nobody waits for it, and it has its share of memory."""
    budget = MemoryBudget(25)
    bodies, form = BodyReader(LIMITS, budget), BodyHeaders("", "", "gzip", len(TEXT))

    with bodies.lease() as lease:
        assert bodies.take(Here(TEXT), form, lease) == TEXT
        assert budget.left_bytes == 25 - len(TEXT)
        with pytest.raises(Overloaded):
            bodies.take(Here(TEXT), form, lease)
    assert budget.left_bytes == 25


@pytest.mark.parametrize("length", [None, 1001])
def test_a_body_that_may_be_too_large_is_not_taken_at_once(length: int | None) -> None:
    """It is read up to the cap, or refused unread."""
    bodies = BodyReader(LIMITS, MemoryBudget(2**40))

    assert bodies.take(Here(TEXT), BodyHeaders("", "", "", length), bodies.lease()) is None


@pytest.mark.parametrize(
    "form", [BodyHeaders("text/html", "", "", 1), BodyHeaders("", "utf-16", "", 1), BodyHeaders("", "", "br", 1)]
)
def test_a_body_of_another_form_is_refused_although_it_is_here(form: BodyHeaders) -> None:
    """As one is that has yet to come."""
    bodies = BodyReader(LIMITS, MemoryBudget(2**40))

    with pytest.raises(Rejected) as caught:
        bodies.take(Here(TEXT), form, bodies.lease())

    assert caught.value.status == 415


def test_a_body_that_ends_early_is_refused() -> None:
    """A client that went away in the middle did not send what it announced."""
    with pytest.raises(Rejected, match="after 19 of 20 bytes") as caught:
        read_body(io.BytesIO(TEXT), BodyHeaders("", "", "", 20), LIMITS)

    assert caught.value.status == 400


def test_what_the_server_cannot_make_out_is_a_bad_request() -> None:
    """Each server has exceptions of its own for malformed chunks; to the client all are one."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise RuntimeError(f"bad chunk, {size}")

    with pytest.raises(Rejected) as caught:
        read_body(Broken(), BodyHeaders("", "", "", None), LIMITS)

    assert caught.value.status == 400
    assert "chunk, " not in caught.value.message


def test_the_size_as_sent_is_told() -> None:
    """The metrics want both sizes."""
    sent = gzip.compress(TEXT * 10)

    assert read_body(io.BytesIO(sent), BodyHeaders("", "", "gzip", len(sent)), LIMITS) == (
        TEXT * 10,
        len(sent),
    )


def test_a_body_of_too_many_values_is_refused_before_it_is_parsed() -> None:
    """413 for the whole request, whatever the values are; commas inside strings are none."""
    limits = BodyLimits(nodes_max=10)

    assert read(b"[0,0,0,0,0,0,0,0,0]", limits=limits) == b"[0,0,0,0,0,0,0,0,0]"
    assert read(b'["' + b"," * 50 + b'\\",0]', limits=limits)
    assert status_of(b"[0,0,0,0,0,0,0,0,0,0]", limits=limits) == 413
    assert status_of(b"[" * 50, limits=limits) == 413
    assert status_of(gzip.compress(b'{"a":{"a":[{"a":1},{"a":1},{"a":{"a":{"a":0}}}]}}'), "gzip", limits) == 413


class Counting:
    """A lease that tells how large it grew."""

    size_bytes = 0

    def grow(self, size_bytes: int) -> None:
        """Add."""
        self.size_bytes += size_bytes


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "deflate, identity", "zstd", ""])
def test_memory_is_taken_a_piece_at_a_time(encoding: str) -> None:
    """When the process has no room, no more than a piece was inflated or read in vain."""
    sent = bomb(encoding, 4 * MIB) if encoding else bytes(MIB)
    budget = MemoryBudget(300_000)
    tracemalloc.start()
    try:
        with pytest.raises(Overloaded) as caught, budget.lease() as lease:
            read_body(io.BytesIO(sent), BodyHeaders("", "", encoding, len(sent)), BodyLimits(), lease)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert caught.value.status == 503
    assert peak < MIB
    assert budget.left_bytes == 300_000


@pytest.mark.parametrize("encoding", CODINGS)
def test_a_request_holds_its_memory_until_its_end(encoding: str) -> None:
    """The body, and what parsing it may take; all of it is given back, whatever happens meanwhile."""
    sent, budget = CODINGS[encoding](TEXT), MemoryBudget(100_000)
    form, bodies = BodyHeaders("", "", encoding, len(sent)), BodyReader(BodyLimits(), budget)

    with bodies.lease() as lease:
        body = received(bodies, io.BytesIO(sent), form, lease)
        assert body.text == TEXT
        assert budget.left_bytes <= 100_000 - len(sent) - len(TEXT) - 2 * 180
        with pytest.raises(Overloaded):
            body.lease.grow(100_000)
        body.lease.grow(1000)
    assert budget.left_bytes == 100_000
    with pytest.raises(ZeroDivisionError), bodies.lease() as lease:
        received(bodies, io.BytesIO(sent), form, lease).sent_bytes / 0

    assert budget.left_bytes == 100_000
