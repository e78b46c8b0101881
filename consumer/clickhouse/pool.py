"""The connections to one ClickHouse address: none is used that the server may be about to close."""

import re
import threading
import time
from typing import Any, Final

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

_NAME: Final = "X-ClickHouse-Server-Display-Name"
_TIMEOUT: Final = re.compile(r'(?:^|[,\s])timeout\s*=\s*"?(\d{1,9})(?!\d)', re.IGNORECASE)
_MARGIN_MAX_S: Final = 5.0


def reusable_s(keep_alive: str) -> float:
    """Return how long a connection may stand idle and still be used, by its last answer's header Keep-Alive.

    A server closes a connection that has been idle for the header's timeout. A statement that is sent at that moment
    is lost, and the sender can't tell whether it was run. Without a timeout the answer is infinity.
    """
    found = _TIMEOUT.search(keep_alive)
    if found is None:
        return float("inf")
    timeout_s = int(found[1])
    return max(timeout_s / 2, timeout_s - _MARGIN_MAX_S)


class _ShortIdle(HTTPConnection):
    """A connection that counts as closed before the server closes it."""

    _reusable_until_s = float("inf")

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # that of urllib3
        """Read an answer, and how long the connection may stand idle behind it."""
        answer = super().getresponse()
        self._reusable_until_s = time.monotonic() + reusable_s(answer.headers.get("Keep-Alive", ""))
        return answer

    @property
    def is_connected(self) -> bool:
        """Whether it can be used: the pool asks before each request, and dials anew if not."""
        return time.monotonic() < self._reusable_until_s and super().is_connected


class _ShortIdleTls(_ShortIdle, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _ShortIdle


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _ShortIdleTls


class NotingPool(PoolManager):
    """A pool of connections that notes which server answered last, by its display name, for each thread.

    Behind a balancer, one address leads to several servers.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        self._noted = threading.local()

    @property
    def answered_by(self) -> str:
        """The server that answered this thread's last request; "" when none did, or it has no name."""
        return str(getattr(self._noted, "name", ""))

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> BaseHTTPResponse:  # type: ignore[override]  # noqa: FBT001, FBT002  (the signature of urllib3)
        """Send a request, and note who answered."""
        self._noted.name = ""
        answer = super().urlopen(method, url, redirect, **kw)
        self._noted.name = answer.headers.get(_NAME, "")
        return answer
