"""The canary: sends a synthetic event every few seconds and measures when its row can be selected.

    POST /collect/event -> 201 -> … -> row in `events`
                            |----- freshness -----|

Its events have their own clientId, which the views for analysts leave out. A collector or a ClickHouse that is
away is what it exists to report: it says so by its metrics, goes on, and looks for the rows of accepted events until
they come or its patience ends.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import Final

from consumer.errors import ConsumerError
from consumer.metrics import Metric, PrometheusMetrics

log = logging.getLogger(__name__)

CLIENT_ID: Final = "headrace-canary"
"""The clientId of its events: schemas/clickhouse/views/*.sql leave it out."""
PREFIX: Final = "headrace_canary_"
_WAITING_MAX: Final = 10_000  # 14 hours of an outage at one event in 5 s
# Ids travel in the URL, some 45 bytes each, or in a form when they are many: clickhouse-connect 1.12 decides.
# ClickHouse takes 128 KiB of them, many proxies lines of 8 KiB.
_ASKED_MAX: Final = 100
_LOOK_MAX_S: Final = 10.0  # well below what makes its /healthz fail; the next look begins with the oldest again
# The objective is 10 s (docs/SLO.md); usual is one second.
_SECONDS: Final = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)


class Outcome(StrEnum):
    """How the collector answered: the `outcome` label of headrace_canary_events_total."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


METRICS: Final[Mapping[str, Metric]] = {
    "events": Metric(
        "counter",
        "Events sent, by the collector's answer: accepted (201), refused (another status), unanswered",
        ("outcome",),
        values=(tuple(Outcome),),
    ),
    "rows": Metric(
        "counter",
        "Accepted events by their row: found, or late: not found within CONSUMER_CANARY_PATIENCE_S",
        ("outcome",),
        values=(("found", "late"),),
    ),
    "lookups": Metric(
        "counter",
        "Looks into the table: answered, or failed (ClickHouse is away or refuses)",
        ("outcome",),
        values=(("answered", "failed"),),
    ),
    "freshness_seconds": Metric("histogram", "Time from the 201 to the row that can be selected", (), _SECONDS),
    "answer_seconds": Metric("histogram", "Time of the collector's answer", ("outcome",), _SECONDS),
    "oldest_waiting_seconds": Metric("gauge", "Age of the oldest accepted event without a row; 0: none waits", first=0),
}
"""The canary's metrics, without the prefix; a counter's name gets the suffix `_total`."""

Post = Callable[[Mapping[str, str]], Outcome]
"""Sends one event and returns how the collector answered; raises nothing."""
Find = Callable[[Collection[str]], set[str]]
"""Returns which of these event ids have a row; raises ConsumerError."""


class Canary:
    """One canary: a thread calls `send`, another one `look`.

    Args:
        post: sends an event.
        find: looks for rows.
        metrics: hear what was seen.
        patience_s: how long a row is waited for.
        now_s: the monotonic clock.
    """

    def __init__(
        self, post: Post, find: Find, metrics: PrometheusMetrics, patience_s: float, now_s: Callable[[], float]
    ) -> None:
        self._post = post
        self._find = find
        self._metrics = metrics
        self._patience_s = patience_s
        self._now_s = now_s
        self._accepted_s: dict[str, float] = {}  # by event id, the oldest first
        self._lock = threading.Lock()
        self._is_blind = False

    def send(self) -> None:
        """Send one event. Each has another anonId, so that in time every partition is measured."""
        event_id, began_s = str(uuid.uuid4()), self._now_s()
        event = {"eventType": "VIEW", "eventId": event_id, "clientId": CLIENT_ID, "anonId": uuid.uuid4().hex}
        outcome = self._post(event)
        answered_s = self._now_s()
        self._metrics.count("events", outcome=outcome)
        self._metrics.observe("answer_seconds", answered_s - began_s, outcome=outcome)
        if outcome is Outcome.ACCEPTED:
            with self._lock:
                self._accepted_s[event_id] = answered_s

    def look(self) -> None:
        """Look for the rows of accepted events, and give up those that have been waited for long enough."""
        with self._lock:
            waiting = list(self._accepted_s.items())
        now_s = self._now_s()
        before_s, until_s = now_s - self._patience_s, now_s + _LOOK_MAX_S
        for first in range(0, len(waiting), _ASKED_MAX):
            some = dict(waiting[first : first + _ASKED_MAX])
            if not self._can_see(some):
                break
            self._give_up(some, before_s)
            if self._now_s() > until_s:
                break
        self._bound()
        with self._lock:
            oldest_s = next(iter(self._accepted_s.values()), None)
        self._metrics.set("oldest_waiting_seconds", 0 if oldest_s is None else self._now_s() - oldest_s)

    def _can_see(self, waiting: Mapping[str, float]) -> bool:
        """Look once; False when the table could not be asked."""
        try:
            found = self._find(waiting)
        except ConsumerError as error:
            if not self._is_blind:  # one line for an outage
                log.warning("the canary can't look into the table", extra={"reason": str(error)[:300]})
            self._is_blind = True
            self._metrics.count("lookups", outcome="failed")
            return False
        self._is_blind = False
        self._metrics.count("lookups", outcome="answered")
        seen_s = self._now_s()
        for event_id in found & waiting.keys():
            self._metrics.count("rows", outcome="found")
            self._metrics.observe("freshness_seconds", seen_s - waiting[event_id])
            self._forget(event_id)
        return True

    def _give_up(self, asked: Mapping[str, float], before_s: float) -> None:
        """Count as late what has no row and was accepted before a moment; an operator can look for the id."""
        with self._lock:
            late = [name for name, accepted_s in asked.items() if name in self._accepted_s and accepted_s < before_s]
        for event_id in late:
            log.error("an accepted event has no row yet", extra={"event_id": event_id, "after_s": self._patience_s})
            self._metrics.count("rows", outcome="late")
            self._forget(event_id)

    def _bound(self) -> None:
        """Keep memory and queries bounded however long ClickHouse is away."""
        with self._lock:
            beyond = list(self._accepted_s)[: max(0, len(self._accepted_s) - _WAITING_MAX)]
        for event_id in beyond:
            self._metrics.count("rows", outcome="late")
            self._forget(event_id)

    def _forget(self, event_id: str) -> None:
        with self._lock:
            self._accepted_s.pop(event_id, None)
