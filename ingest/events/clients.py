"""Counts accepted events by client and type. The clients that get a name in the metric are bounded.

With a client registry an event's clientId is its key's, so an operator has chosen the names. Without one anybody may
send any clientId: the first ones that a process sees get a name, as far as they look like one, and all others are
`other`.

A request only appends to a queue; `flush`, called every second, writes the sums into the metric: a lookup of a series
for each event would take several times as long.
"""

import re
import threading
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from ingest.counters import Metrics

OTHER: Final = "other"
CLIENTS_MAX: Final = 30
"""Times the event types it stays within a metric's bound of label sets (ingest/metric_table.py)."""
_NAME: Final = re.compile(r"[\w.:@/-]{1,64}", re.ASCII)
_PENDING_MAX: Final = 20_000  # events; more are written at once

Kind = tuple[str, str]
"""An event's clientId and type."""


class ClientCounters:
    """Counts a process's accepted events by clientId and type. Threads share it."""

    def __init__(self, metrics: Metrics, clients_max: int = CLIENTS_MAX) -> None:
        self._metrics = metrics
        self._clients_max = clients_max
        self._names: set[str] = set()
        self._pending: deque[Kind] = deque()  # its methods are atomic
        self._lock = threading.Lock()

    def count(self, kinds: Sequence[Kind]) -> None:
        """Add the events of a request."""
        self._pending.extend(kinds)
        if len(self._pending) > _PENDING_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what was counted since the last time into the metric."""
        with self._lock:
            sums: Counter[Kind] = Counter()
            for (client, event_type), events in Counter(self._taken()).items():
                sums[self._name(client), event_type] += events
        for (client, event_type), events in sums.items():
            self._metrics.count("events_by_client_total", events, client=client, event_type=event_type)

    def _taken(self) -> list[Kind]:
        pending = self._pending
        return [pending.popleft() for _ in range(len(pending))]

    def _name(self, client: str) -> str:
        """Return the name under which a client is counted."""
        if client not in self._names and len(self._names) < self._clients_max and _NAME.fullmatch(client):
            self._names.add(client)
        return client if client in self._names else OTHER
