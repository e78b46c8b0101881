"""One client's connection: it answers one request at a time, and every state has a deadline.

    WAITING ──head──▶ BUSY ──answer──▶ WAITING          (the next request; it may have arrived already)
       │               ├──answer, the rest of a small body is still to come──▶ DRAINING ──▶ WAITING
       │               ├──answer, the client does not take it──▶ SENDING ──▶ WAITING
       └──refusal──▶ ──┴──answer, and the next request's start is unknown──▶ LINGERING ──▶ closed

The server checks the deadlines a few times a second (`LoopServer.sweep`), so requests set no timers. A connection whose
client may still be sending lingers before it is closed: closing with unread data would destroy the answer in transit.
`100 Continue` is sent when the body is first read, so a refused request never asks for its body.
"""

import asyncio
import logging
from http import HTTPStatus
from time import monotonic
from typing import Any, Final, cast

from ingest.errors import ErrorCode, Rejected
from ingest.http.message import Answer, RequestHead
from ingest.server.parsing import HEAD_BYTES_MAX, MALFORMED, RefusedError, new_parser, read_head, refusal_of, too_large
from ingest.server.ports import Host, State
from ingest.server.responses import head_of, refusal_bytes
from ingest.server.stream import BodyStream

log = logging.getLogger(__name__)

SEND_S: Final = 10.0  # an answer is at most about 50 kB; a client that does not take it by then has gone
LINGER_S: Final = 2.0
_LINGER_BYTES_MAX: Final = 16 * 1024 * 1024
_DRAINED_BYTES_MAX: Final = 60 * 1024
# Unread body bytes, and bytes that a client sends before it has its answer: beyond these, reading pauses.
_UNREAD_BYTES_MAX: Final = 256 * 1024
_AHEAD_BYTES_MAX: Final = 64 * 1024
# The parser moves the rest of its input after each chunk: 256 KiB of one-byte chunks took 0.29 s at once, and 0.01 s in
# pieces of this size (measured).
_PIECE_BYTES: Final = 16 * 1024
_NEVER: Final = float("inf")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_WAITING, _BUSY, _DRAINING, _SENDING, _LINGERING = State  # looking one up there takes 0.1 us, several times a request


class Connection(asyncio.Protocol):
    """One client. One event loop calls it."""

    def __init__(self, host: Host, peer: str, port: str) -> None:
        self._host = host
        self._peer = peer
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._parser: Any = None  # one for each request: what it has grown to goes with it
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None] | None = None
        self.state: State = _WAITING
        self.deadline_s = _NEVER
        self._head = b""  # the bytes of a request's head, until it is complete
        self._stream: BodyStream | None = None
        self._owes_continue = self._keeps = self._has_ended = self._is_paused = self._is_choked = False
        self._has_lost_track = False
        self._ahead: list[bytes] = []
        self._ahead_bytes = self._lingered_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its type
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        if self.state is _LINGERING:
            self._lingered_bytes += len(data)
            if self._lingered_bytes > _LINGER_BYTES_MAX:
                self._transport.abort()
        elif self._stream is not None and (self._stream.is_complete or self._has_lost_track):
            self._keep_ahead(data)
        else:
            self._feed(data)

    def eof_received(self) -> bool:
        """The client sends no more; it may still read its answer."""
        self._has_ended = True
        if self.state is _BUSY and self._stream is not None:
            self._stream.end()
            return True
        return self.state is _SENDING

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        """The connection is over; a request in flight goes on, and its answer is dropped."""
        self.deadline_s = _NEVER
        self._has_ended = True
        self._drop_head()
        if self._stream is not None:
            self._stream.fail()
        self._host.lost(self)

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        self._is_choked = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._is_choked = False
        if self.state is _SENDING:
            self._next()

    # The parser calls the next three.

    def on_head(self) -> None:
        """Take a request's head."""
        # The wait for the loop counts from here: until now the request waited for its client.
        head = read_head(self._parser, self._head, self._peer, self._port, monotonic())
        self._host.stopped_waiting(self)
        self.state, self.deadline_s = _BUSY, _NEVER
        self._drop_head()
        self._stream = BodyStream(head.length, self._want_body)
        self._owes_continue = "expect" in head.headers and head.protocol != "HTTP/1.0"
        self._keeps = self._parser.should_keep_alive and head.method != "CONNECT"
        self._task = self._loop.create_task(self._serve(head, self._stream))

    def on_body(self, piece: bytes) -> None:
        """Take a piece of a body."""
        if self.state is _BUSY and self._stream is not None:
            self._stream.feed(piece)
            if self._stream.unread_bytes > _UNREAD_BYTES_MAX:
                self._pause()

    def on_end(self) -> None:
        """Take a body's end."""
        if self._stream is not None:
            self._stream.finish()

    def expire(self) -> None:
        """The deadline has passed: answer 408, or close."""
        self.deadline_s = _NEVER
        timeout_s = self._host.receive_timeout_s
        if self.state is _BUSY and self._stream is not None:
            self._keeps = False
            message = f"the request's body did not arrive within {timeout_s:g} s"
            self._stream.fail(Rejected(ErrorCode.SLOW_REQUEST, message))
        elif self.state is _WAITING and self._head:
            message = f"the request's head did not arrive within {timeout_s:g} s"
            self._refuse(RefusedError(HTTPStatus.REQUEST_TIMEOUT, message))
        elif self.state is _WAITING:
            self._close()
        else:
            self._transport.abort()

    def drop(self) -> None:
        """Close now, to make room for another connection."""
        self._drop_head()
        self._transport.abort()

    def shut(self) -> None:
        """Close as soon as no request is in flight."""
        self._keeps = False
        if self.state is _WAITING:
            self._close()

    def _feed(self, data: bytes) -> None:
        """Give bytes to the parser, which calls back."""
        if self._stream is None and not (data := self._keep_head(data)):
            return
        try:
            for at in range(0, len(data), _PIECE_BYTES):
                self._parser.feed(data[at : at + _PIECE_BYTES])
        except MALFORMED as error:
            self._lose_track(error)
            return
        except Exception:
            log.exception("the server failed to read a request")
            self._transport.abort()
            return
        if self._stream is None and len(self._head) > HEAD_BYTES_MAX:
            self._refuse(too_large())
        elif self._stream is None:
            self._host.hold(self, len(self._head))
        elif self.state is _DRAINING and self._stream is not None and self._stream.is_complete:
            self._next()

    def _keep_head(self, data: bytes) -> bytes:
        """Add bytes to a head, which may begin with them; return those that the parser is to have."""
        if not self._head:
            while data.startswith(b"\r\n"):  # RFC 9112, section 2.2: some clients send it after a body
                data = data[2:]
            if not data:
                return b""
            self._parser = new_parser(self)
            self.deadline_s = monotonic() + self._host.receive_timeout_s
        self._head += data
        return data

    def _lose_track(self, error: Exception) -> None:
        """Handle malformed bytes: where the next request begins is unknown from here on."""
        self._has_lost_track = True
        if self.state is _BUSY and self._stream is not None:
            self._stream.fail()
        elif self.state is _DRAINING:
            self._linger()
        else:
            self._refuse(refusal_of(error, self._head))

    def _refuse(self, refusal: RefusedError) -> None:
        """Answer a request that never reaches the application, and end."""
        self._host.stopped_waiting(self)
        self._drop_head()
        self._transport.write(refusal_bytes(refusal))
        self._linger()

    def _want_body(self) -> None:
        """Let the client send: the reader has taken everything, or waits for more."""
        if self._stream is not None and self._stream.is_waiting:
            if self._owes_continue:
                self._owes_continue = False
                self._transport.write(_CONTINUE)
            if self.deadline_s == _NEVER:
                self.deadline_s = monotonic() + self._host.receive_timeout_s
        self._resume()

    async def _serve(self, head: RequestHead, stream: BodyStream) -> None:
        try:
            self._answer(head, stream, await self._host.handle(head, stream))
        except Exception:
            log.exception("the server failed to answer a request")
            self._transport.abort()

    def _answer(self, head: RequestHead, stream: BodyStream, answer: Answer) -> None:
        self.deadline_s = _NEVER
        if self._transport.is_closing():
            return
        self._owes_continue = self._owes_continue and not stream.is_complete
        is_over = self._host.is_closing or self._has_ended or self._owes_continue
        keeps = self._keeps and not is_over
        keeps = keeps and (stream.is_read or stream.size_bytes <= _DRAINED_BYTES_MAX)
        data = head_of(answer, keeps=keeps)
        self._transport.write(data if head.method == "HEAD" else data + answer.body)
        if not keeps:
            self._end()
        elif stream.is_complete:
            self._next()
        else:
            self.state = _DRAINING
            self.deadline_s = monotonic() + self._host.receive_timeout_s
            self._resume()

    def _next(self) -> None:
        """Go on with the next request, part of which may have arrived already."""
        if self._is_choked:
            self.state, self.deadline_s = _SENDING, monotonic() + SEND_S
            return
        ahead = b"".join((self._parser.remaining(), *self._ahead))
        self._parser = self._stream = None
        self._ahead, self._ahead_bytes = [], 0
        self._wait()
        self._resume()
        if ahead:
            self._feed(ahead)
        elif self._has_ended or self._host.is_closing:
            self._close()

    def _drop_head(self) -> None:
        self._host.release(self)
        self._head = b""

    def _wait(self) -> None:
        self.state = _WAITING
        self.deadline_s = monotonic() + self._host.keepalive_s
        self._host.began_waiting(self)

    def _keep_ahead(self, data: bytes) -> None:
        """Keep what the client sends before it has its answer."""
        self._ahead.append(data)
        self._ahead_bytes += len(data)
        if self._ahead_bytes > _AHEAD_BYTES_MAX:
            self._pause()

    def _end(self) -> None:
        """Close after an answer: at once if the client cannot be sending."""
        is_here = self._stream is not None and self._stream.is_complete
        if is_here and not (self._ahead or self._parser.remaining() or self._owes_continue):
            self._close()
        else:
            self._linger()

    def _close(self) -> None:
        self._host.stopped_waiting(self)
        self.state, self.deadline_s = _LINGERING, monotonic() + SEND_S
        self._transport.close()

    def _linger(self) -> None:
        """Send FIN, and give a client that may still be sending a moment to read the answer."""
        self._host.stopped_waiting(self)
        wait_s = SEND_S if self._transport.get_write_buffer_size() else LINGER_S
        self.state, self.deadline_s = _LINGERING, monotonic() + wait_s
        self._resume()
        if self._has_ended:
            self._transport.close()
        else:
            self._transport.write_eof()

    def _pause(self) -> None:
        if not self._is_paused and not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()
