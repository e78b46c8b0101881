"""Completions that other threads set and a coroutine awaits; one wake-up of the loop serves a whole burst.

Spool commits arrive on other threads, often hundreds at once. Waking an event loop is a system call: only the first
completion of a burst wakes it, and the loop then resolves every future that is ready.

What brings completions when it is called, the loop may call itself while somebody waits: a thread that brings them
needs the interpreter for each, and both threads pay for every change of hands. The same tick ends the waits whose time
is over: a timer for each would cost 1.5 us, and nearly all are cancelled.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from typing import Final

_local = threading.local()
_BRING_S: Final = 0.001  # the resolution of the loop's timers
Bring = Callable[[], None]
"""Brings completions that are ready, and never waits or raises."""


class LoopWaker:
    """Resolves futures of one event loop from other threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._ready: deque[asyncio.Future[None]] = deque()
        self._is_asked = False
        self._brings: dict[Bring, int] = {}  # with how many wait for it
        self._waits: list[tuple[float, int, asyncio.Future[None]]] = []  # a heap, by the time at which they end
        self._numbers = count()

    @staticmethod
    def running() -> "LoopWaker":
        """Return the waker of the loop that runs in this thread."""
        waker: LoopWaker | None = getattr(_local, "waker", None)
        if waker is None or not waker.loop.is_running():  # this asks the system for nothing, get_running_loop() does
            waker = _local.waker = LoopWaker(asyncio.get_running_loop())
        return waker

    def resolve(self, future: "asyncio.Future[None]") -> None:
        """Resolve a future of this loop soon; any thread may call."""
        self._ready.append(future)
        if not self._is_asked:
            self._is_asked = True
            with suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self._resolve_all)

    def begin(self, future: "asyncio.Future[None]", timeout_s: float, bring: Bring) -> None:
        """Call `bring` every millisecond, until `end`; resolve the future when this time is over."""
        if not self._brings:
            self.loop.call_later(_BRING_S, self._bring_all)
        self._brings[bring] = self._brings.get(bring, 0) + 1
        heappush(self._waits, (self.loop.time() + timeout_s, next(self._numbers), future))

    def end(self, bring: Bring) -> None:
        """Take back one `begin`."""
        self._brings[bring] -= 1

    def _bring_all(self) -> None:
        self._is_asked = True  # what comes now is resolved below
        try:
            for bring, waiting in list(self._brings.items()):
                if waiting:
                    bring()
                else:
                    del self._brings[bring]
        finally:  # whatever it raises: requests wait for this
            self._resolve_all()
            self._end_waits()
            if self._brings:
                self.loop.call_later(_BRING_S, self._bring_all)

    def _end_waits(self) -> None:
        """Resolve the futures whose time is over; drop those at the front that are done."""
        waits, now_s = self._waits, self.loop.time()
        while waits and (waits[0][0] <= now_s or waits[0][2].done()):
            _finish(heappop(waits)[2])

    def _resolve_all(self) -> None:
        self._is_asked = False  # before emptying the queue: a later completion wakes the loop again
        while self._ready:
            _finish(self._ready.popleft())


class Completion:
    """Is set once, by any thread. One coroutine or one thread waits for it."""

    __slots__ = ("_event", "_future", "_waker", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._future: asyncio.Future[None] | None = None
        self._waker: LoopWaker | None = None
        self._event: threading.Event | None = None

    def set(self) -> None:
        """Mark it done and wake the waiters."""
        self.is_set = True  # first: a waiter registers itself, and then looks at this
        if self._waker is not None and self._future is not None:
            self._waker.resolve(self._future)
        if self._event is not None:
            self._event.set()

    async def wait(self, timeout_s: float, bring: Bring | None = None) -> bool:
        """Wait in a coroutine, which calls `bring` meanwhile; False when the time is over before it is set."""
        if self.is_set:
            return True
        waker = LoopWaker.running()
        future = waker.loop.create_future()
        self._waker, self._future = waker, future
        if self.is_set:
            return True
        if bring is None:
            timer = waker.loop.call_later(timeout_s, _finish, future)
            try:
                await future
            finally:
                timer.cancel()
        else:
            waker.begin(future, timeout_s, bring)
            try:
                await future
            finally:
                waker.end(bring)
        return self.is_set

    def wait_in_thread(self, timeout_s: float) -> bool:
        """Wait in a thread; False when the time is over before it is set."""
        event = self._event = self._event or threading.Event()
        return self.is_set or event.wait(timeout_s)


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
