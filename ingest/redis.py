"""The rate limit's windows in a store with Redis' protocol: exact over all workers and hosts, and never in the way.

One round trip per request counts and tells where the client stands. The store's clock and its single thread make it
atomic. A store that is away or slow costs one request a few milliseconds; the next ones pass uncounted for a while.
"""

import logging
import math
import socket
import ssl
import threading
from time import monotonic
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ingest.ports import Meter
from ingest.ratelimit import Window
from schemas.access import Access, read_url

log = logging.getLogger(__name__)

# Between two tries of a store that is away; at 5 ms each they cost one request in a thousand its time.
_PAUSE_S: Final = 1.0
# A handshake is two round trips and some 2 ms of arithmetic (measured); it happens once for each thread and store.
_HANDSHAKE_S: Final = 0.1
_ANY: Final = Access("")
# The window begins with the first request and ends at a whole second, so that the header tells it exactly. A key that
# somebody made to last for ever gets an end again.
_SCRIPT: Final = """
local used = redis.call('INCR', KEYS[1])
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local left_ms = redis.call('PTTL', KEYS[1])
if used == 1 or left_ms < 0 then
  local ends = math.ceil(now_ms / 1000) + tonumber(ARGV[1])
  redis.call('PEXPIREAT', KEYS[1], ends * 1000)
  return {used, ends}
end
return {used, math.floor((now_ms + left_ms) / 1000 + 0.5)}
"""


class SharedLimiter:
    """Windows in a store. Fails open: while the store does not answer, every request passes, and is counted as such."""

    def __init__(self, store: redis.Redis, prefix: str, window_s: int, meter: Meter, access: Access = _ANY) -> None:
        self._count = store.register_script(_SCRIPT)
        self._prefix = prefix
        self._window_s = window_s
        self._meter = meter
        self._access = access
        self._lock = threading.Lock()
        self._away = False
        self._next_try_s = 0.0

    def hit(self, name: str, limit: int, at_s: float) -> Window:
        """Count one request of a client; a full window from `at_s` on when the store does not answer."""
        if self._may_ask():
            try:
                used, ends_at_s = self._count((self._prefix + name,), (self._window_s,))
            except redis.RedisError as error:
                self._lost(error)
            else:
                self._found()
                return Window(limit, used, ends_at_s)
        self._meter.count("rate_limit_store_failures_total")
        return Window(limit, 0, math.ceil(at_s) + self._window_s)

    def _may_ask(self) -> bool:
        """Tell whether to ask the store; while it is away, one request in a while may."""
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
        if first:  # on a thread, for it may take a second to find out why
            threading.Thread(target=self._tell, args=(error,), name="store-lost", daemon=True).start()

    def _tell(self, error: redis.RedisError) -> None:
        reason = (self._access.url and self._access.explain(error)) or type(error).__name__
        log.warning("rate limit store does not answer, requests pass", extra={"reason": reason})

    def _found(self) -> None:
        if self._away:
            self._away = False
            log.info("rate limit store answers again")


class _TlsConnection(redis.Connection):
    """A connection over TLS. The library's own reads the files anew each time, and trusts the system's CAs beside ours.

    `context` and `handshake_s` are set by `open_store`, in a class of its own for each store.
    """

    context: ssl.SSLContext
    handshake_s: float

    def _connect(self) -> socket.socket:
        plain = super()._connect()  # type: ignore[no-untyped-call]  # the library's
        plain.settimeout(self.handshake_s)
        secured = self.context.wrap_socket(plain, server_hostname=self.host)
        secured.settimeout(self.socket_timeout)
        return secured


def open_store(access: Access, timeout_s: float) -> redis.Redis:
    """Return a client of the store, which connects when it is first asked.

    Raises:
        ValueError: a file that its settings name can't be used.
    """
    url = read_url(access.url, ("redis", "rediss", "unix"), "its own settings")
    options: dict[str, Any] = {"username": access.user or None, "password": access.password() or None}
    if url.has_tls:
        attributes = {"context": access.tls.context(), "handshake_s": max(timeout_s, _HANDSHAKE_S)}
        options["connection_class"] = type("StoreConnection", (_TlsConnection,), attributes)
    return redis.Redis.from_url(
        str(url).replace("rediss://", "redis://"),
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        # Nothing that costs a connection another round trip.
        protocol=2,
        driver_info=None,
        **options,
    )
