"""Counts accepted events by client and type. The clients that get a name in the metric are bounded.

With a client registry an event's clientId is its key's, so an operator has chosen the names. Without one anybody may
send any clientId: half of the names go to the first ones that a process sees, as far as they look like one, and the
rest to those that come again and again. All others are `other`. So a burst of made-up ids can't use up the names; who
repeats as many ids can, for as long as they come. When all names are in use and another client comes, those go that no
process has seen for an hour, the least recent first.

A request only appends to a queue; `flush`, called every second, adds up and writes: a lookup of a series for each event
would take several times as long. Requests come on the event loop, so they wait neither for files nor for other
processes: a queue that grows long is added up in memory, with a bound on the clients that are told apart.
"""

import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from ingest.client_series import OTHER, ClientSeries, ClientShare, latest

CLIENTS_MAX: Final = 30
"""Times the event types it stays within a metric's bound of label sets (ingest/metric_table.py)."""
_NAME: Final = re.compile(r"[\w.:@/-]{1,64}", re.ASCII)
_FLUSHES_MIN: Final = 3
"""In so many flushes a client must have come to get one of the later names."""
_CANDIDATES_MAX: Final = 1000
_PENDING_MAX: Final = 20_000  # events; more are added up at once
_SUMS_MAX: Final = 20_000  # with more, most clients are counted together
_LOOK_EVERY_S: Final = 60.0
IDLE_S: Final = 3600.0
"""A client that no process has seen for so long may lose its name."""

Kind = tuple[str, str]
"""An event's clientId and type."""


class ClientCounters:
    """Counts a process's accepted events by clientId and type. Threads share it; `now_s` is the Unix time."""

    def __init__(
        self, series: ClientSeries, clients_max: int = CLIENTS_MAX, now_s: Callable[[], float] = time.time
    ) -> None:
        self._series = series
        self._clients_max = clients_max
        self._now_s = now_s
        before = series.own
        self._counts = {client: Counter(counts) for client, counts in before.counts.items()}
        self._seen = dict(before.seen)  # of the clients with a name
        self._retired = dict(before.retired)
        self._looked_s = 0.0
        self._waiting = 0  # the most clients that came in one flush and got no name, since the last look
        self._flushes: dict[str, int] = {}  # in how many each client without a name has come
        self._pending: deque[Kind] = deque()  # its methods are atomic
        self._sums = Counter[Kind]()  # what waits besides
        self._adding = threading.Lock()  # of both; who has it waits for nothing
        self._lock = threading.Lock()

    def count(self, kinds: Sequence[Kind]) -> None:
        """Add the events of a request. Never waits."""
        self._pending.extend(kinds)
        if len(self._pending) > _PENDING_MAX and self._adding.acquire(blocking=False):  # else another thread adds up
            try:
                self._add_up()
            finally:
                self._adding.release()

    def flush(self) -> None:
        """Write what was counted since the last time.

        Raises:
            OSError: the directory can't be read now; what was counted waits for the next flush.
        """
        with self._lock, self._series.locked():
            taken, now_s = self._taken(), self._now_s()
            came = {client for client, _ in taken}
            is_time = self._is_time(came, now_s)
            try:
                shares = list(self._series.shares()) if is_time else []
            except OSError:
                with self._adding:
                    self._sums.update(taken)
                raise
            self._drop_retired(shares)
            self._seen.update(dict.fromkeys(came & self._seen.keys(), now_s))
            if is_time:
                self._looked_s = now_s
                self._make_room(shares, now_s)
            self._give_names(taken, now_s)
            for (client, event_type), events in taken.items():
                name = client if client in self._seen else OTHER
                self._counts.setdefault(name, Counter())[event_type] += events
            if taken or is_time:
                counts = {client: dict(counted) for client, counted in self._counts.items()}
                self._series.write(ClientShare(counts, dict(self._seen), dict(self._retired)))

    def _taken(self) -> Counter[Kind]:
        with self._adding:
            self._add_up()
            taken, self._sums = self._sums, Counter[Kind]()
        return taken

    def _add_up(self) -> None:
        """Add up what waits. Of too many clients only those with a name and the most frequent are told apart."""
        pending = self._pending
        self._sums.update([pending.popleft() for _ in range(len(pending))])
        if len(self._sums) <= _SUMS_MAX:
            return
        events, sums = Counter[str](), Counter[Kind]()
        for (client, _), count in self._sums.items():
            events[client] += count
        kept = {client for client, _ in events.most_common(_CANDIDATES_MAX)}
        for (client, event_type), count in self._sums.items():
            sums[client if client in kept or client in self._seen else OTHER, event_type] += count
        self._sums = sums

    def _may_have_name(self, client: str) -> bool:
        return client not in self._seen and client != OTHER and _NAME.fullmatch(client) is not None

    def _is_time(self, came: set[str], now_s: float) -> bool:
        """Tell whether to look at all shares: each minute, and when one comes that they may have retired."""
        if not 0 <= now_s - self._looked_s < _LOOK_EVERY_S:
            return True
        return any(self._seen[client] < now_s - IDLE_S for client in came & self._seen.keys())

    def _drop_retired(self, shares: Sequence[ClientShare]) -> None:
        """Drop the names that any process has retired; forget what this one has retired when all have dropped it."""
        retired = latest(share.retired for share in shares)
        self._retired = {
            client: at_s
            for client, at_s in self._retired.items()
            if not shares or any(share.is_retired(client, retired) for share in shares)
        }
        for client in [client for client, at_s in self._seen.items() if retired.get(client, 0.0) >= at_s]:
            self._drop(client)

    def _make_room(self, shares: Sequence[ClientShare], now_s: float) -> None:
        """Retire as many idle names as clients wait, when none is free."""
        waiting, self._waiting = self._waiting, 0
        if len(self._seen) < self._clients_max:
            return
        seen = latest((self._seen, *(share.seen for share in shares)))
        idle = [client for client in self._seen if seen[client] < now_s - IDLE_S]
        for client in sorted(idle, key=lambda client: seen[client])[:waiting]:
            self._drop(client)
            self._retired[client] = now_s

    def _drop(self, client: str) -> None:
        del self._seen[client]
        self._counts.pop(client, None)

    def _give_names(self, taken: Counter[Kind], now_s: float) -> None:
        """Give names to clients of this flush while there are any."""
        if len(self._seen) >= self._clients_max:
            self._flushes.clear()
            wait = islice(filter(self._may_have_name, {client for client, _ in taken}), self._clients_max)
            self._waiting = max(self._waiting, sum(1 for _ in wait))
            return
        events = Counter[str]()
        for (client, _), count in taken.items():
            if self._may_have_name(client):
                events[client] += count
        for client in events:
            if len(self._seen) < (self._clients_max + 1) // 2:
                self._seen[client] = now_s
        self._note([client for client, _ in events.most_common(_CANDIDATES_MAX) if client not in self._seen], now_s)

    def _note(self, clients: Sequence[str], now_s: float) -> None:
        """Note that clients have come, those with most events first, and give names to those that came often enough."""
        if len(self._flushes) + len(clients) > _CANDIDATES_MAX:
            self._flushes = {client: self._flushes[client] for client in clients if client in self._flushes}
        for client in clients:
            self._flushes[client] = self._flushes.get(client, 0) + 1
            if self._flushes[client] >= _FLUSHES_MIN and len(self._seen) < self._clients_max:
                self._seen[client] = now_s
                del self._flushes[client]
