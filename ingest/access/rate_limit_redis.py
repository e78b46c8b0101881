"""The rate limit's windows in a Redis-compatible store: exact over all processes and hosts. Fails open.

One round trip per request counts and returns the counts. A script makes it atomic, and the store's clock is used. A
store that is away or slow costs one request a few milliseconds; the next ones pass uncounted for a while.
"""

import asyncio
import logging
import math
import ssl
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final, NamedTuple

import redis
from redis.asyncio import Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ingest.access.rate_limit import Claim, Window
from ingest.ports import Metrics
from schemas.transport.access import Access, read_url

log = logging.getLogger(__name__)

# Between two tries of a store that is away; at 5 ms per try that is 0.5 % of the time.
_PAUSE_S: Final = 1.0
_CONNECTION_S: Final = 1.0
# A handshake takes two round trips and about 2 ms of computation (measured), once per connection.
_HANDSHAKE_S: Final = 0.1
# An answer that has arrived reaches its caller within this many turns of the loop.
_LATE_TURNS: Final = 8
# Names whose last request is not in the store yet; about 30 MB.
_OWED_MAX: Final = 100_000
# A window begins with its first request and ends at a whole second, so that the header is exact. A key without an
# expiry gets one again. KEYS are the windows in the order of counting; ARGV is their length (s), and then for each: its
# limits of requests, events and bytes, and the events and bytes to add.
_SCRIPT: Final = """
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local windows, request = {}, 1
for i, key in ipairs(KEYS) do
  local at = 5 * i - 3
  local left_ms = redis.call('PTTL', key)
  local requests = redis.call('HINCRBY', key, 'requests', request)
  local events = redis.call('HINCRBY', key, 'events', ARGV[at + 3])
  local bytes = redis.call('HINCRBY', key, 'bytes', ARGV[at + 4])
  local ends = math.floor((now_ms + left_ms) / 1000 + 0.5)
  if left_ms < 0 then
    ends = math.ceil(now_ms / 1000) + tonumber(ARGV[1])
    redis.call('PEXPIREAT', key, ends * 1000)
  end
  windows[i] = {requests, events, bytes, ends}
  local most = {tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])}
  if requests > most[1] or (most[2] > 0 and events >= most[2])
    or (most[3] > 0 and bytes >= most[3]) then request = 0 end
end
return windows
"""


class StoreOptions(NamedTuple):
    """How long a request waits for the store, whether a new connection needs longer now, and how it is reached."""

    deadline_s: float
    is_shaking_hands: Callable[[], bool] = lambda: False
    access: Access = Access("")


class _Owed(NamedTuple):
    events: int
    size_bytes: int
    since_s: float


class SharedLimiter:
    """Windows in a store. Fails open: while the store does not answer, requests pass, and a metric counts them.

    A request's events and bytes are sent to the store with the next request of the same name, so that each request is
    one round trip. So each process may owe the store a client's last request. One event loop uses it.
    """

    def __init__(self, store: Redis, prefix: str, window_s: int, metrics: Metrics, options: StoreOptions) -> None:
        self._count = store.register_script(_SCRIPT)
        self._prefix = prefix
        self._window_s = window_s
        self._metrics = metrics
        self._options = options
        self._lock = threading.Lock()
        self._owed: dict[str, _Owed] = {}
        self._away = False
        self._next_try_s = 0.0

    async def hit(self, claims: Sequence[Claim], at_s: float) -> list[Window]:
        """Count one request; when the store does not answer, return unused windows that begin at `at_s`."""
        if self._may_ask():
            keys = [self._prefix + claim.name for claim in claims]
            arguments = [part for claim in claims for part in (*claim.allowance, *self._owing(claim.name))]
            try:
                answer = await self._ask(keys, [self._window_s, *arguments])
            except redis.RedisError as error:
                self._lost(error)
            else:
                self._found()
                windows = [Window(claim, *used) for claim, used in zip(claims, answer, strict=True)]
                spent = next((at for at, window in enumerate(windows) if window.spent), len(windows))
                return windows[: spent + 1]
        self._metrics.count("rate_limit_store_failures_total")
        return [Window(claim, 0, 0, 0, math.ceil(at_s) + self._window_s) for claim in claims]

    async def _ask(self, keys: list[str], arguments: list[int]) -> Any:
        """Run the script within the deadline.

        A busy loop sees an answer late, and its own timer first. So after the deadline it looks once more at what has
        arrived before the store counts as away. The command itself is not cancelled: a new connection is then ready
        for the next request.
        """
        answer = asyncio.ensure_future(self._count(keys, arguments))
        await asyncio.wait((answer,), timeout=self._options.deadline_s)
        if not answer.done() and self._options.is_shaking_hands():
            await asyncio.wait((answer,), timeout=_HANDSHAKE_S)
        for _ in range(_LATE_TURNS):
            if answer.done():
                return answer.result()
            await asyncio.sleep(0)
        answer.add_done_callback(_forget)
        raise redis.TimeoutError("the store did not answer in time")

    def spend(self, claims: Sequence[Claim], events: int, size_bytes: int) -> None:
        """Keep a request's events and bytes until the next request of the same names."""
        now_s = monotonic()
        with self._lock:
            for claim in claims:
                owed = self._owed.pop(claim.name, None) or _Owed(0, 0, now_s)
                self._owed[claim.name] = _Owed(owed.events + events, owed.size_bytes + size_bytes, owed.since_s)
            while len(self._owed) > _OWED_MAX:
                del self._owed[next(iter(self._owed))]

    def _owing(self, name: str) -> tuple[int, int]:
        """Return the events and bytes that are not in the store yet; those older than a window are dropped."""
        with self._lock:
            owed = self._owed.pop(name, None)
        if owed is None or monotonic() - owed.since_s > self._window_s:
            return 0, 0
        return owed.events, owed.size_bytes

    def _may_ask(self) -> bool:
        """Tell whether to ask the store; while it is away, one request per pause may."""
        if not self._away:
            return True
        with self._lock:
            now_s = monotonic()
            if now_s < self._next_try_s:
                return False
            self._next_try_s = now_s + _PAUSE_S
            return True

    def _lost(self, error: redis.RedisError) -> None:
        with self._lock:
            first, self._away = not self._away, True
            self._next_try_s = monotonic() + _PAUSE_S
        if first:  # on a thread: finding the reason may take a second
            threading.Thread(target=self._tell, args=(error,), name="store-lost", daemon=True).start()

    def _tell(self, error: redis.RedisError) -> None:
        access = self._options.access
        reason = (access.url and access.explain(error)) or type(error).__name__
        log.warning("rate limit store does not answer: requests pass uncounted", extra={"reason": reason})

    def _found(self) -> None:
        if self._away:
            self._away = False
            log.info("rate limit store answers again")


def _forget(answer: "asyncio.Future[Any]") -> None:
    """Take its exception, or asyncio logs that nobody did."""
    if not answer.cancelled():
        answer.exception()


class _TlsConnection(Connection):
    """A connection over TLS. The library's own reads the files each time, and also trusts the system's CAs.

    `open_store` makes a subclass for each store, with its `context`; `shaking` counts its handshakes in progress, and
    `shaken_s` is when the last one ended.
    """

    context: ssl.SSLContext
    shaking = 0
    shaken_s = float("-inf")

    def _connection_arguments(self) -> dict[str, Any]:
        return {"host": self.host, "port": self.port, "ssl": self.context, "server_hostname": self.host}

    async def _connect(self) -> None:
        kind = type(self)
        kind.shaking += 1
        try:
            await super()._connect()  # type: ignore[no-untyped-call]  # the library's
        finally:
            kind.shaking -= 1
            kind.shaken_s = monotonic()

    @classmethod
    def is_new(cls, within_s: float) -> bool:
        """Tell whether a handshake is in progress, or has ended so lately that the login follows it now."""
        return cls.shaking > 0 or monotonic() - cls.shaken_s < within_s


def open_store(access: Access, timeout_s: float) -> tuple[Redis, StoreOptions]:
    """Return a client of the store, which connects when it is first asked, and how long a request may wait for it.

    Raises:
        ValueError: a file named by its settings can't be used.
    """
    url = read_url(access.url, ("redis", "rediss", "unix"), "its own settings")
    options: dict[str, Any] = {"username": access.user or None, "password": access.password() or None}
    kind: type[_TlsConnection] | None = None
    if url.has_tls:
        kind = options["connection_class"] = type(
            "StoreConnection", (_TlsConnection,), {"context": access.tls.context()}
        )
    store = Redis.from_url(
        str(url).replace("rediss://", "redis://"),
        # The library's own timers can't tell a busy loop from a store that is away: `_ask` has the deadline.
        socket_timeout=_CONNECTION_S,
        socket_connect_timeout=_CONNECTION_S,
        retry=Retry(NoBackoff(), 0),
        # These avoid another round trip per connection.
        protocol=2,
        driver_info=None,
        **options,
    )
    return store, StoreOptions(timeout_s, lambda: kind is not None and kind.is_new(timeout_s), access)
