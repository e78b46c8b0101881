"""A connection through a FaultProxy as two streams of bytes: Kafka's, or any other protocol's."""

import asyncio

from tests.support.proxy_modes import BlackHole, CutBody, DelayAnswer, DropAnswer, Mode, Pass, Reset
from tests.support.proxy_side import Count, Dial, Side

_PIECE = 64 * 1024


class StreamLink:
    """The mode holds for the whole connection, until another is set for all."""

    def __init__(self, client: Side, dial: Dial, mode: Mode, count: Count) -> None:
        """Take over the client's side; the other is dialled by ``serve``."""
        self._client = client
        self._upstream: Side | None = None
        self._dial = dial
        self._count = count
        self._mode: Mode = Pass()
        self._bytes_left = 0
        self.change(mode)

    def change(self, mode: Mode) -> None:
        """Switch; a connection that lost bytes in a black hole cannot go on and is reset."""
        lost_bytes = isinstance(self._mode, BlackHole)
        self._mode = mode
        if isinstance(mode, CutBody):
            self._bytes_left = mode.after_bytes
        elif not isinstance(mode, DropAnswer):  # these two are counted when they strike
            self._count(mode)
        if lost_bytes or isinstance(mode, Reset):
            self.abort()

    async def serve(self) -> None:
        """Carry bytes both ways until one side ends."""
        if isinstance(self._mode, Reset):
            return
        self._upstream = await self._dial()
        ways = [asyncio.create_task(way) for way in (self._carry_up(self._upstream), self._carry_down(self._upstream))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    def abort(self) -> None:
        """Reset both sides."""
        self._client.abort()
        if self._upstream:
            self._upstream.abort()

    async def close(self) -> None:
        """End both sides in order."""
        await self._client.close()
        if self._upstream:
            await self._upstream.close()

    async def _carry_up(self, upstream: Side) -> None:
        while piece := await self._client.reader.read(_PIECE):
            if isinstance(self._mode, BlackHole):
                continue
            if not isinstance(self._mode, CutBody):
                await upstream.send(piece)
                continue
            await upstream.send(piece[: self._bytes_left])
            self._bytes_left -= len(piece)
            if self._bytes_left <= 0:
                self._count(self._mode)
                self.abort()
                return

    async def _carry_down(self, upstream: Side) -> None:
        while piece := await upstream.reader.read(_PIECE):
            if isinstance(self._mode, DelayAnswer):
                await asyncio.sleep(self._mode.seconds)
            if isinstance(self._mode, DropAnswer):
                self._count(self._mode)
                self.abort()
                return
            if not isinstance(self._mode, BlackHole):
                await self._client.send(piece)
