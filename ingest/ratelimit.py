"""The rate limit: a fixed window per client, which begins with the client's first request.

In one process the windows are in memory; for many, a store with Redis' protocol counts (ingest/redis.py).
"""

import math
import threading
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final, Protocol

from ingest.errors import Headers

_IPV6_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Window:
    """Where a client stands after a request; `resets_at_s` is Unix time, in whole seconds."""

    limit: int
    used: int
    resets_at_s: int

    @property
    def is_exceeded(self) -> bool:
        """Whether the request that made this window is one too many."""
        return self.used > self.limit

    @property
    def headers(self) -> Headers:
        """What every answer of the route carries."""
        return (
            ("X-RateLimit-Limit", str(self.limit)),
            ("X-RateLimit-Remaining", str(max(0, self.limit - self.used))),
            ("X-RateLimit-Reset", str(self.resets_at_s)),
        )

    def retry_after_s(self, at_s: float) -> int:
        """Return the whole seconds until the window ends, at least one; `at_s` is Unix time."""
        return max(1, math.ceil(self.resets_at_s - at_s))


class RateLimiter(Protocol):
    """Counts requests. Threads share it."""

    def hit(self, name: str, limit: int, at_s: float) -> Window:
        """Count one request of a client; `at_s` is Unix time."""


class LocalLimiter:
    """Windows in this process's memory: exact in one process, and bounded.

    All windows are equally long, so the dictionary's order is the order in which they end.
    """

    def __init__(self, window_s: int, clients_max: int = 100_000) -> None:
        self._window_s = window_s
        self._clients_max = clients_max  # about 20 MB
        self._lock = threading.Lock()
        self._windows: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        """Return the number of clients that have a window."""
        return len(self._windows)

    def hit(self, name: str, limit: int, at_s: float) -> Window:
        """Count one request of a client. The cost is constant, on average over requests."""
        with self._lock:
            self._forget(at_s)
            used, ends_at_s = self._windows.get(name, (0, 0))
            if not used:
                ends_at_s = math.ceil(at_s) + self._window_s
            self._windows[name] = used + 1, ends_at_s
        return Window(limit, used + 1, ends_at_s)

    def _forget(self, at_s: float) -> None:
        """Drop windows that are over; beyond the bound, the oldest."""
        windows = self._windows
        while windows:
            name = next(iter(windows))
            if windows[name][1] > at_s and len(windows) < self._clients_max:
                return
            del windows[name]


def name_of_address(address: str) -> str:
    """Return whom an address stands for: itself, or its /64 for IPv6, all of which one subscriber has."""
    if ":" not in address:
        return address
    return str(ip_network((address, _IPV6_BITS), strict=False).network_address)
