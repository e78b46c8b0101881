"""Counts accepted events by client and type. The clients that get a name in the metric are bounded.

With a client registry an event's clientId is its key's, so an operator has chosen the names. Without one anybody may
send any clientId: the first ones that a process sees get a name, as far as they look like one, and all others are
`other`.
"""

import re
import threading
from collections.abc import Callable, Mapping
from typing import Final

from ingest.counters import Metrics

OTHER: Final = "other"
CLIENTS_MAX: Final = 30
"""Times the event types it stays within a metric's bound of label sets (ingest/metric_table.py)."""
_NAME: Final = re.compile(r"[\w.:@/-]{1,64}", re.ASCII)

Kinds = Mapping[tuple[str, str], int]
"""How many events a request has of each clientId and type."""


class ClientCounters:
    """Counts a process's accepted events by clientId and type. Threads share it."""

    def __init__(self, metrics: Metrics, clients_max: int = CLIENTS_MAX) -> None:
        self._metrics = metrics
        self._clients_max = clients_max
        self._names: set[str] = set()
        self._adders: dict[tuple[str, str], Callable[[float], None]] = {}
        self._lock = threading.Lock()

    def count(self, kinds: Kinds) -> None:
        """Add the events of a request."""
        for kind, events in kinds.items():
            (self._adders.get(kind) or self._adder(*kind))(events)

    def _adder(self, client: str, event_type: str) -> Callable[[float], None]:
        """Return what adds to a kind, which is remembered if its client has a name."""
        with self._lock:
            if client not in self._names and len(self._names) < self._clients_max and _NAME.fullmatch(client):
                self._names.add(client)
            name = client if client in self._names else OTHER
            kind = (name, event_type)
            found = self._adders.get(kind)
            if found is None:
                found = self._metrics.adder("events_by_client_total", client=name, event_type=event_type)
                self._adders[kind] = found
            return found
