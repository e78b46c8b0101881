"""A body between its connection and its reader."""

import asyncio

import pytest

from ingest.errors import ErrorCode, Rejected
from ingest.server.stream import BodyStream


def test_a_body_that_has_failed_is_not_taken_although_the_rest_comes() -> None:
    """Its client was told that it is too slow, and its reader hears of that."""
    stream = BodyStream(6, lambda: None)
    stream.feed(b"abc")
    stream.fail(Rejected(ErrorCode.SLOW_REQUEST, "too slow"))
    stream.feed(b"def")
    stream.finish()

    assert stream.take() is None
    with pytest.raises(Rejected, match="too slow"):
        asyncio.run(stream.read(10))


def test_the_rest_is_taken_once() -> None:
    """What was read before is not in it."""

    async def scene() -> None:
        stream = BodyStream(6, lambda: None)
        stream.feed(b"abc")
        assert stream.take() is None
        assert await stream.read(10) == b"abc"
        stream.feed(b"def")
        stream.finish()
        assert stream.take() == b"def"
        assert stream.take() == b""

    asyncio.run(scene())
