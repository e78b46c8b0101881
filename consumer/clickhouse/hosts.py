"""The servers that a connection may use, and which one it uses."""

import logging
import threading
from collections.abc import Sequence
from typing import Protocol

from schemas.transport.access import Url

log = logging.getLogger(__name__)


class Hosts(Protocol):
    """Which server is used. Its number grows with each change, so that two threads make one change, not two."""

    @property
    def number(self) -> int:
        """The number of the server in use."""

    def url(self, number: int) -> Url:
        """Return a server's address."""

    def leave(self, number: int) -> None:
        """Use the next server, unless another thread has left this one already."""


class HostList:
    """Servers in the order in which they are tried; one stays in use until it is left. Threads share it."""

    def __init__(self, urls: Sequence[Url]) -> None:
        self.urls = tuple(urls)
        self._number = 0
        self._lock = threading.Lock()

    @property
    def number(self) -> int:
        """The number of the server in use."""
        return self._number

    def url(self, number: int) -> Url:
        """Return a server's address."""
        return self.urls[number % len(self.urls)]

    def leave(self, number: int) -> None:
        """Use the next server, if there is another one."""
        with self._lock:
            if self._number != number or len(self.urls) == 1:
                return
            self._number += 1
        places = {"left": self.url(number).address, "host": self.url(number + 1).address}
        log.warning("ClickHouse gave no answer: going on with the next host", extra=places)


class OneHost:
    """One server of a list, for statements of which each needs the ones before it."""

    def __init__(self, hosts: Hosts, number: int) -> None:
        self._hosts = hosts
        self.number = number

    def url(self, number: int) -> Url:
        """Return the server's address."""
        return self._hosts.url(number)

    def leave(self, number: int) -> None:
        """Let the list use the next server; this stays."""
        self._hosts.leave(number)
