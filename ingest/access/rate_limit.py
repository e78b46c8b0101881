"""The rate limit for requests, events and bytes: fixed windows, each of which begins with its first request.

Requests are counted before their body is read, events and bytes afterwards: once these are used up, the next request
is refused. For one process the windows are in memory; for several, a Redis-compatible store counts
(ingest/access/rate_limit_redis.py).
"""

import math
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import ip_network
from time import monotonic
from typing import Final, NamedTuple, Protocol

import msgspec

from ingest.errors import ErrorCode, Headers

_IPV6_BITS: Final = 64
_CACHED: Final = 4096  # names; that of an IPv6 address takes about 5 us


class Allowance(NamedTuple):
    """What may be used in a window; 0 events or bytes means no limit of these."""

    requests: int
    events: int = 0
    size_bytes: int = 0

    def share(self, part: float) -> "Allowance":
        """Return a fraction of it, at least 1 of each limited quantity."""
        return Allowance(*(math.ceil(most * part) for most in self))


class Claim(msgspec.Struct, frozen=True):
    """A window in which a request is counted: its name, its allowance, and whose it is, for messages."""

    name: str
    allowance: Allowance
    whose: str = ""


class Window(msgspec.Struct, frozen=True):
    """What is used of an allowance after a request; `resets_at_s` is Unix time in whole seconds."""

    claim: Claim
    requests: int
    events: int
    size_bytes: int
    resets_at_s: int

    @property
    def spent(self) -> ErrorCode | None:
        """The limit that the last request exceeded, None when there is none."""
        most = self.claim.allowance
        if self.requests > most.requests:
            return ErrorCode.RATE_LIMIT
        if 0 < most.events <= self.events:
            return ErrorCode.EVENT_LIMIT
        return ErrorCode.BYTE_LIMIT if 0 < most.size_bytes <= self.size_bytes else None

    @property
    def requests_left(self) -> int:
        """The number of requests left, never below 0."""
        return max(0, self.claim.allowance.requests - self.requests)

    @property
    def headers(self) -> Headers:
        """The rate limit's headers of an answer."""
        return (
            ("X-RateLimit-Limit", str(self.claim.allowance.requests)),
            ("X-RateLimit-Remaining", str(self.requests_left)),
            ("X-RateLimit-Reset", str(self.resets_at_s)),
        )

    def retry_after_s(self, at_s: float) -> int:
        """Return the whole seconds until the window ends, at least one; `at_s` is Unix time."""
        return max(1, math.ceil(self.resets_at_s - at_s))


class RateLimiter(Protocol):
    """Counts what is used in windows. Threads share it."""

    async def hit(self, claims: Sequence[Claim], at_s: float) -> list[Window]:
        """Count one request in each claimed window, up to the first that is spent; `at_s` is Unix time.

        So a request refused for its address does not use up its client's allowance.
        """

    def spend(self, claims: Sequence[Claim], events: int, size_bytes: int) -> None:
        """Count the events and bytes of an admitted request."""


class LocalLimiter:
    """Windows in this process's memory: exact in one process, and bounded.

    Windows use the monotonic clock, so that setting the clock moves none; only the reported Unix times follow it.
    The dictionary is ordered by last use: beyond the bound the least recently used window is dropped, so a client can't
    get rid of its own window by sending from many addresses.
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
        """Count a request's events and bytes, unless the window is over."""
        with self._lock:
            for claim in claims:
                used = self._windows.get(claim.name)
                if used is not None:
                    used.events += events
                    used.size_bytes += size_bytes

    def _open(self, name: str, now_s: float, at_s: float) -> "_Used":
        """Return what a name has used in its window, opening one if needed; marks it as the most recently used."""
        windows = self._windows
        used = windows.pop(name, None)
        if used is None or used.ends_s <= now_s:
            used = _Used(now_s + math.ceil(at_s) + self._window_s - at_s)
        self._forget(now_s)
        windows[name] = used
        return used

    def _forget(self, now_s: float) -> None:
        """Drop windows from the least recently used on: those that are over, and any beyond the bound."""
        windows = self._windows
        while windows:
            name = next(iter(windows))
            if windows[name].ends_s > now_s and len(windows) < self._clients_max:
                return
            del windows[name]


class _Used:
    """What was used in a window, and when the window ends (monotonic seconds)."""

    __slots__ = ("ends_s", "events", "requests", "size_bytes")

    def __init__(self, ends_s: float) -> None:
        self.requests = self.events = self.size_bytes = 0
        self.ends_s = ends_s


@lru_cache(_CACHED)
def name_of_address(address: str) -> str:
    """Return the name of an address's window: the address, or its /64 for IPv6, which one subscriber has."""
    if ":" not in address:
        return address
    return str(ip_network((address, _IPV6_BITS), strict=False).network_address)
