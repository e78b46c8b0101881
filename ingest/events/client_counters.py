"""Counts accepted events by client and type. The clients that get a name in the metric are bounded.

With a client registry an event's clientId is its key's, so an operator has chosen the names. Without one anybody may
send any clientId: half of the names go to the first ones that a process sees, as far as they look like one, and the
rest to those that come again and again. All others are `other`. So a burst of made-up ids can't use up the names; who
repeats as many ids for seconds can, and only a registry helps against that.

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
_FLUSHES_MIN: Final = 3
"""In so many flushes a client must have come to get one of the later names."""
_CANDIDATES_MAX: Final = 1000
_PENDING_MAX: Final = 20_000  # events; more are written at once

Kind = tuple[str, str]
"""An event's clientId and type."""


class ClientCounters:
    """Counts a process's accepted events by clientId and type. Threads share it."""

    def __init__(self, metrics: Metrics, clients_max: int = CLIENTS_MAX) -> None:
        self._metrics = metrics
        self._clients_max = clients_max
        self._names: set[str] = set()
        self._flushes: dict[str, int] = {}  # in how many each client without a name has come
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
            taken = Counter(self._taken())
            self._give_names(taken)
            for (client, event_type), events in taken.items():
                sums[client if client in self._names else OTHER, event_type] += events
        for (client, event_type), events in sums.items():
            self._metrics.count("events_by_client_total", events, client=client, event_type=event_type)

    def _taken(self) -> list[Kind]:
        pending = self._pending
        return [pending.popleft() for _ in range(len(pending))]

    def _give_names(self, taken: Counter[Kind]) -> None:
        """Give names to clients of this flush while there are any."""
        if len(self._names) >= self._clients_max:
            self._flushes.clear()
            return
        events = Counter[str]()
        for (client, _), count in taken.items():
            if client not in self._names and _NAME.fullmatch(client):
                events[client] += count
        for client in events:
            if len(self._names) < (self._clients_max + 1) // 2:
                self._names.add(client)
        self._note([client for client, _ in events.most_common(_CANDIDATES_MAX) if client not in self._names])

    def _note(self, clients: Sequence[str]) -> None:
        """Note that clients have come, those with most events first, and give names to those that came often enough."""
        if len(self._flushes) + len(clients) > _CANDIDATES_MAX:
            self._flushes = {client: self._flushes[client] for client in clients if client in self._flushes}
        for client in clients:
            self._flushes[client] = self._flushes.get(client, 0) + 1
            if self._flushes[client] >= _FLUSHES_MIN and len(self._names) < self._clients_max:
                self._names.add(client)
                del self._flushes[client]
