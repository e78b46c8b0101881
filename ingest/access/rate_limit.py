"""The rate limit: fixed windows, each of which begins with its first request, for requests, events and bytes.

Requests are counted before their body is read, events and bytes afterwards: whoever has used those up in a window is
refused from the next request on. In one process the windows are in memory; for many, a store with Redis' protocol
counts (ingest/access/rate_limit_redis.py).
"""

import math
import threading
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from time import monotonic
from typing import Final, NamedTuple, Protocol

from ingest.errors import ErrorCode, Headers

_IPV6_BITS: Final = 64


class Allowance(NamedTuple):
    """What may be used in a window; 0 events or bytes is no limit of these."""

    requests: int
    events: int = 0
    size_bytes: int = 0

    def share(self, part: float) -> "Allowance":
        """Return a part of it, at least one of each that is limited."""
        return Allowance(*(math.ceil(most * part) for most in self))


class Claim(NamedTuple):
    """A window that a request counts in: its name, what may be used there, and whose it is, for messages."""

    name: str
    allowance: Allowance
    whose: str = ""


class Window(NamedTuple):
    """Where somebody stands after a request; `resets_at_s` is Unix time, in whole seconds."""

    claim: Claim
    requests: int
    events: int
    size_bytes: int
    resets_at_s: int

    @property
    def spent(self) -> ErrorCode | None:
        """What is used up, so that the request that made this window is one too many; None: nothing."""
        most = self.claim.allowance
        if self.requests > most.requests:
            return ErrorCode.RATE_LIMIT
        if 0 < most.events <= self.events:
            return ErrorCode.EVENT_LIMIT
        return ErrorCode.BYTE_LIMIT if 0 < most.size_bytes <= self.size_bytes else None

    @property
    def requests_left(self) -> int:
        """How many requests are left, never below 0."""
        return max(0, self.claim.allowance.requests - self.requests)

    @property
    def headers(self) -> Headers:
        """What every answer of the route carries."""
        return (
            ("X-RateLimit-Limit", str(self.claim.allowance.requests)),
            ("X-RateLimit-Remaining", str(self.requests_left)),
            ("X-RateLimit-Reset", str(self.resets_at_s)),
        )

    def retry_after_s(self, at_s: float) -> int:
        """Return the whole seconds until the window ends, at least one; `at_s` is Unix time."""
        return max(1, math.ceil(self.resets_at_s - at_s))


class RateLimiter(Protocol):
    """Counts what is used. Threads share it."""

    async def hit(self, claims: Sequence[Claim], at_s: float) -> list[Window]:
        """Count one request in each claimed window, up to the first in which something is spent; `at_s` is Unix time.

        So a request that its address has no right to uses nothing up of what its client may.
        """

    def spend(self, claims: Sequence[Claim], events: int, size_bytes: int) -> None:
        """Count what a request that was let pass turned out to hold."""


class LocalLimiter:
    """Windows in this process's memory: exact in one process, and bounded.

    Time is the monotonic clock's, so that setting the clock moves no window; only what is told as Unix time follows it.
    The dictionary's order is that of the last use: beyond the bound, who has not come for longest is forgotten, and
    nobody can make it forget himself by sending from many addresses.
    """

    def __init__(self, window_s: int, clients_max: int = 100_000, now_s: Callable[[], float] = monotonic) -> None:
        self._window_s = window_s
        self._clients_max = clients_max  # about 30 MB
        self._now_s = now_s
        self._lock = threading.Lock()
        self._windows: dict[str, _Used] = {}

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._windows)

    async def hit(self, claims: Sequence[Claim], at_s: float) -> list[Window]:
        """Count one request. The cost is constant, on average over requests."""
        now_s = self._now_s()
        windows: list[Window] = []
        with self._lock:
            for claim in claims:
                used = self._open(claim.name, now_s, at_s)
                used.requests += 1
                resets_at_s = round(at_s + used.ends_s - now_s)
                windows.append(Window(claim, used.requests, used.events, used.size_bytes, resets_at_s))
                if windows[-1].spent:
                    break
        return windows

    def spend(self, claims: Sequence[Claim], events: int, size_bytes: int) -> None:
        """Count what a request held; a window that is over since is left as it is."""
        with self._lock:
            for claim in claims:
                used = self._windows.get(claim.name)
                if used is not None:
                    used.events += events
                    used.size_bytes += size_bytes

    def _open(self, name: str, now_s: float, at_s: float) -> "_Used":
        """Return what a name has used in its window, which begins if there is none; it is the latest used then."""
        windows = self._windows
        used = windows.pop(name, None)
        if used is None or used.ends_s <= now_s:
            used = _Used(now_s + math.ceil(at_s) + self._window_s - at_s)
        self._forget(now_s)
        windows[name] = used
        return used

    def _forget(self, now_s: float) -> None:
        """Drop windows that are over, while they are those that were not used for longest; beyond the bound, any."""
        windows = self._windows
        while windows:
            name = next(iter(windows))
            if windows[name].ends_s > now_s and len(windows) < self._clients_max:
                return
            del windows[name]


class _Used:
    """What was used in a window, and when it ends (monotonic s)."""

    __slots__ = ("ends_s", "events", "requests", "size_bytes")

    def __init__(self, ends_s: float) -> None:
        self.requests = self.events = self.size_bytes = 0
        self.ends_s = ends_s


def name_of_address(address: str) -> str:
    """Return whom an address stands for: itself, or its /64 for IPv6, all of which one subscriber has."""
    if ":" not in address:
        return address
    return str(ip_network((address, _IPV6_BITS), strict=False).network_address)
