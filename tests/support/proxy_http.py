"""A connection through a FaultProxy as a row of HTTP/1.1 requests, each under the mode of its time."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from tests.support.proxy_http_wire import CONTINUE, Head, answer_body, encode_answer, read_head, request_body
from tests.support.proxy_modes import (
    Answer,
    BlackHole,
    CutAnswer,
    CutBody,
    DelayAnswer,
    DelayRequest,
    DropAnswer,
    LimitBody,
    Mode,
    Pass,
    Profile,
    Refuse,
    Reset,
)
from tests.support.proxy_side import Count, Dial, Side

_PIECE = 64 * 1024
TOO_LARGE = Answer(
    413,
    {"Server": "nginx", "Content-Type": "text/html"},
    b"<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n"
    b"<center><h1>413 Request Entity Too Large</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
)


class HttpLink:
    """Requests one after the other; the upstream connection is dialled for the first one that is forwarded."""

    def __init__(self, client: Side, dial: Dial, take: Callable[[str], Mode], count: Count, host: str) -> None:
        """Take over the client's side; ``take`` gives the mode of a request, by its first line.

        The upstream hears its own name, ``host``, as from any proxy: a server may answer to no other.
        """
        self._host = host
        self._client = client
        self._upstream: Side | None = None
        self._dial = dial
        self._take = take
        self._count = count

    def change(self, mode: Mode) -> None:
        """Nothing to do: the next request asks for its mode."""

    async def serve(self) -> None:
        """Serve requests until a side ends or a fault ends both."""
        while (request := await read_head(self._client.reader)) is not None:
            if not await self._serve_one(request, self._mode_for(request)):
                return

    def _mode_for(self, request: Head) -> Mode:
        mode = self._take(request.line)
        if not isinstance(mode, LimitBody):
            return mode
        if int(request.get("content-length") or 0) <= mode.bytes_max:
            return Pass()
        self._count(mode)
        return TOO_LARGE

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

    async def _serve_one(self, request: Head, mode: Mode) -> bool:
        """Serve one request; return whether the connection can carry another."""
        match mode:
            case Pass() | DelayAnswer():
                return await self._relay(await self._ready(request), mode)
            case Profile():
                return await self._relay((await self._ready(request)).with_settings(mode.settings), mode)
            case Answer():
                return await self._answer(await self._ready(request), mode)
            case DropAnswer() | CutAnswer():
                await self._keep_answer(await self._ready(request), mode)
            case DelayRequest():
                await self._delay_request(await self._ready(request), mode)
            case CutBody():
                await self._cut_body(await self._ready(request), mode)
            case BlackHole():
                self._count(mode)
                while await self._client.reader.read(_PIECE):
                    pass
            case Reset() | Refuse():
                self._count(mode)
                self.abort()
        return False

    async def _ready(self, request: Head) -> Head:
        """Ask for the body in the server's place where the client waits to be asked."""
        if request.get("expect") == "100-continue":
            await self._client.send(CONTINUE)
        return request.without("expect").with_host(self._host)

    async def _relay(self, request: Head, mode: Mode) -> bool:
        upstream = await self._send_head(request)
        sending = asyncio.create_task(self._send_body(request, upstream))
        try:  # the answer may come before the body is through: an early refusal
            answer = await self._answer_head(upstream)
            if isinstance(mode, DelayAnswer):
                await asyncio.sleep(mode.seconds)
            self._count(mode)
            await self._client.send(answer.encode())
            async for piece in answer_body(answer, request.method, upstream.reader):
                await self._client.send(piece)
            is_whole = sending.done() and answer.ends_itself(request.method)
            return is_whole and not request.is_last and not answer.is_last
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _keep_answer(self, request: Head, mode: DropAnswer | CutAnswer) -> None:
        upstream = await self._send_head(request)
        await self._send_body(request, upstream)
        answer = await self._answer_head(upstream)
        whole = answer.encode()
        async for piece in answer_body(answer, request.method, upstream.reader):
            whole += piece
        self._count(mode)
        if isinstance(mode, CutAnswer):
            await self._client.send(whole[: mode.after_bytes])
        else:
            self._client.abort()

    async def _delay_request(self, request: Head, mode: DelayRequest) -> None:
        async with aclosing(request_body(request, self._client.reader)) as pieces:
            body = [piece async for piece in pieces]
        await asyncio.sleep(mode.seconds)
        upstream = await self._send_head(request)
        for piece in body:
            await upstream.send(piece)
        answer = await self._answer_head(upstream)
        self._count(mode)
        await self._client.offer(answer.encode())
        async for piece in answer_body(answer, request.method, upstream.reader):
            await self._client.offer(piece)

    async def _cut_body(self, request: Head, mode: CutBody) -> None:
        upstream = await self._send_head(request)
        left = mode.after_bytes
        if left < 0:
            left += int(request.get("content-length"))
        async with aclosing(request_body(request, self._client.reader)) as pieces:
            while left > 0 and (piece := await anext(pieces, b"")):
                await upstream.send(piece[:left])
                left -= len(piece)
        self._count(mode)
        self.abort()

    async def _answer(self, request: Head, mode: Answer) -> bool:
        async for _ in request_body(request, self._client.reader):
            pass
        self._count(mode)
        await self._client.send(encode_answer(mode, request.method))
        return not request.is_last

    async def _send_head(self, request: Head) -> Side:
        if self._upstream and self._upstream.reader.at_eof():  # it was kept too long
            await self._upstream.close()
            self._upstream = None
        if self._upstream is None:
            self._upstream = await self._dial()
        await self._upstream.send(request.encode())
        return self._upstream

    async def _send_body(self, request: Head, upstream: Side) -> None:
        try:
            async with aclosing(request_body(request, self._client.reader)) as pieces:
                async for piece in pieces:
                    if not await upstream.offer(piece):
                        return
        except (OSError, asyncio.IncompleteReadError):  # the client left in the middle, so no answer will come
            upstream.abort()
            raise

    async def _answer_head(self, upstream: Side) -> Head:
        while (head := await read_head(upstream.reader)) is not None:
            if not head.is_interim:
                return head
        raise ConnectionResetError("the upstream server closed without an answer")
