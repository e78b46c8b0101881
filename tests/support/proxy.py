"""A proxy that makes the network's faults on demand, before ClickHouse or another HTTP server.

Use it so:

    with FaultProxy("127.0.0.1", clickhouse_port) as proxy:
        proxy.set(DropAnswer(), times=1)  # the next insert is applied and its client never hears of it
        ...
        assert proxy.count(DropAnswer) == 1
"""

import asyncio
import contextlib
import re
import threading
import time
from collections import Counter
from concurrent.futures import Future
from types import TracebackType
from typing import Final, Self

from tests.support.ports import free_port
from tests.support.proxy_http import HttpLink
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
from tests.support.proxy_side import Link, Side

__all__ = [
    "Answer",
    "BlackHole",
    "CutAnswer",
    "CutBody",
    "DelayAnswer",
    "DelayRequest",
    "DropAnswer",
    "FaultProxy",
    "LimitBody",
    "Mode",
    "Pass",
    "Profile",
    "Refuse",
    "Reset",
]

_HOST: Final = "127.0.0.1"
_CALL_TIMEOUT_S: Final = 60.0
_DIAL_TIMEOUT_S: Final = 5.0
_STEPS_TO_LINK: Final = 4  # the accepting task starts, makes its transport, calls back; and one to spare
_NEXT_STEPS_S: Final = 0.01  # what was aborted is closed in the loop's next steps


class FaultProxy:
    """Listens on a port of 127.0.0.1 until ``close``; a context manager.

    A mode is taken for each request. All methods are safe from any thread; the connections live on an event loop in
    a thread of the proxy's own.
    """

    def __init__(self, upstream_host: str, upstream_port: int) -> None:
        """Start listening; the upstream server is dialled for each connection, so it may come and go.

        Raises:
            OSError: the port was taken meanwhile.
        """
        self.upstream = (upstream_host, upstream_port)
        self.port = free_port()
        self._mode: Mode = Pass()
        self._times: int | None = None
        self._only = ""
        self._counts: Counter[type[Mode]] = Counter()
        self._connections = 0
        self._links: dict[Link, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._closing = asyncio.Event()
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        self._loop.result(_CALL_TIMEOUT_S)

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"http://{_HOST}:{self.port}"

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{_HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        return self._connections

    def set(self, mode: Mode, times: int | None = None, only: str = "") -> None:
        """Treat what comes next like this: the next ``times`` requests or connections, or all until changed.

        With ``only`` it strikes requests alone in whose first line this pattern is found, and the others pass.
        It holds when this returns.

        Raises:
            ValueError: the mode cannot be had so.
        """
        if times is not None and (times < 1 or isinstance(mode, Refuse)):
            raise ValueError(f"{mode} for {times} times: closed ports are not counted, and once is the least")
        asyncio.run_coroutine_threadsafe(self._set(mode, times, only), self._loop.result()).result(_CALL_TIMEOUT_S)

    def count(self, kind: type[Mode]) -> int:
        """Return how often a mode took effect; one that strikes is counted just before its blow."""
        return self._counts[kind]

    def await_count(self, kind: type[Mode], count: int, timeout_s: float = 60.0) -> None:
        """Return when a mode took effect so many times in all.

        Raises:
            TimeoutError: it did not.
        """
        deadline_s = time.monotonic() + timeout_s
        while self.count(kind) < count:
            if time.monotonic() >= deadline_s:
                raise TimeoutError(f"{kind.__name__} took effect {self.count(kind)} times and not {count}")
            time.sleep(0.01)

    def close(self) -> None:
        """Close the port and reset every connection; once more does nothing."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.result().call_soon_threadsafe(self._closing.set)
            self._thread.join(_CALL_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _run(self) -> None:
        try:
            await self._listen()
        except OSError as error:
            self._loop.set_exception(error)
            return
        self._loop.set_result(asyncio.get_running_loop())
        await self._closing.wait()
        await self._stop_listening()
        await self._end_links()

    async def _end_links(self) -> None:
        """Reset all connections, those too that were accepted a moment ago and are still on their way to a link."""
        myself = asyncio.current_task()
        while others := asyncio.all_tasks() - {myself}:
            for link, task in self._links.items():
                link.abort()  # here, as a task that is cancelled before its first step closes nothing
                task.cancel()
            self._links.clear()
            await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(_NEXT_STEPS_S)

    async def _set(self, mode: Mode, times: int | None, only: str) -> None:
        self._mode, self._times, self._only = mode, times, only
        if isinstance(mode, Refuse):
            await self._stop_listening()
            self._counts[Refuse] += len(self._links)
            for link in self._links:
                link.abort()
        else:
            await self._listen()
        if times is None:
            for link in list(self._links):
                link.change(mode)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, _HOST, self.port, reuse_address=True)

    async def _stop_listening(self) -> None:
        if self._server is None:
            return
        server, self._server = self._server, None
        # Server.close() breaks the connections that were accepted in this very step, so none is accepted any more
        # and these are given the steps that they need to become links.
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(_STEPS_TO_LINK):
            await asyncio.sleep(0)
        server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        link = self._link(Side(reader, writer))
        self._links[link] = asyncio.create_task(self._serve(link))

    async def _serve(self, link: Link) -> None:
        try:
            await link.serve()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            link.abort()
        finally:
            await link.close()
            self._links.pop(link, None)

    def _link(self, client: Side) -> Link:
        host, port = self.upstream
        return HttpLink(client, self._dial, self._take, self._note, f"{host}:{port}")

    async def _dial(self) -> Side:
        async with asyncio.timeout(_DIAL_TIMEOUT_S):
            return Side(*await asyncio.open_connection(*self.upstream))

    def _take(self, line: str) -> Mode:
        if not re.search(self._only, line):
            return Pass()
        taken = self._mode
        if self._times is not None:
            self._times -= 1
            if self._times == 0:
                self._mode, self._times = Pass(), None
        return taken

    def _note(self, mode: Mode) -> None:
        self._counts[type(mode)] += 1
