"""Counts the events of a process by outcome, and checks that the counts add up.

Each request to POST /collect/event, and each GET of the pixel, opens a counter, and:

    received = accepted + refused + limited + shed + in flight
    accepted = delivered + spooled

An event is `received` when its request arrives and `accepted` when the request is answered 201; until the answer it is
in flight. The publisher counts independently what became durable in an accepted request: `delivered` (the broker
acknowledged it) or `spooled` (it is on disk). `orphaned` is outside the sums: events that became durable although
their request was answered 503.

A request rejected unread counts as one event (`limited` by the rate limit, `shed` by the load bound), and so does one
whose body is no list of events (`refused`).
"""

import threading
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

from ingest.ports import Metrics, NoMetrics


class Outcome(StrEnum):
    """The outcomes of events: the `outcome` label of headrace_ingest_events_total."""

    RECEIVED = "received"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    LIMITED = "limited"
    SHED = "shed"
    DELIVERED = "delivered"
    SPOOLED = "spooled"
    ORPHANED = "orphaned"


# Looking one up there takes 0.1 us, several times a request.
_RECEIVED: Final = Outcome.RECEIVED
_ACCEPTED: Final = Outcome.ACCEPTED
_REFUSED: Final = Outcome.REFUSED
_ENDS: Final = (_ACCEPTED, _REFUSED, Outcome.LIMITED, Outcome.SHED)


class EventCounters:
    """Counts the events of one process. Threads share it."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or NoMetrics()
        self._counts = dict.fromkeys(Outcome, 0)
        self._in_flight = 0
        self._lock = threading.Lock()
        # A rate needs a series that exists before the first event: this makes them.
        self._adders = {outcome: self.metrics.adder("events_total", outcome=outcome) for outcome in Outcome}
        self.metrics.watch("events_in_flight", lambda: self._in_flight)

    def count(self, outcome: Outcome, events: int) -> None:
        """Add events to an outcome; the publisher calls it for delivered, spooled and orphaned."""
        self.move(outcome, events, 0)

    def open(self) -> "RequestCounter":
        """Open the counter of one request; leaving its block closes it."""
        return RequestCounter(self)

    def figures(self) -> dict[str, int | bool]:
        """Return all counts, `in_flight`, and `balanced`: whether both sums hold."""
        with self._lock:
            counts, in_flight = dict(self._counts), self._in_flight
        balanced = (
            counts[Outcome.RECEIVED] == sum(counts[end] for end in _ENDS) + in_flight
            and counts[Outcome.ACCEPTED] == counts[Outcome.DELIVERED] + counts[Outcome.SPOOLED]
        )
        return {**{str(outcome): events for outcome, events in counts.items()}, "in_flight": in_flight} | {
            "balanced": balanced
        }

    def move(self, outcome: Outcome, events: int, in_flight: int) -> None:
        """Add events to an outcome, and to those in flight; a RequestCounter calls it."""
        if not events:
            return
        with self._lock:
            self._counts[outcome] += events
            self._in_flight += in_flight
        self._adders[outcome](events)


class RequestCounter:
    """Counts one request's events: received, then accepted; at the end the others get the outcome `rest`."""

    __slots__ = ("_counters", "_open", "events", "rest", "size_bytes")

    def __init__(self, counters: EventCounters) -> None:
        self._counters = counters
        self._open = 1
        self.rest: Outcome = _REFUSED
        """The outcome of events that are not accepted."""
        self.events = 0
        """The number of events in the request, 0 until it is known."""
        self.size_bytes = 0
        """Their approximate size as records."""
        counters.move(_RECEIVED, 1, 1)

    def set_total(self, events: int, size_bytes: int = 0) -> None:
        """Set the number and size of the request's events; once, before any is accepted."""
        if events != self._open:
            more = events - self._open
            self._counters.move(_RECEIVED, more, more)
        self._open = self.events = events
        self.size_bytes = size_bytes

    def accept(self, events: int) -> None:
        """Count events that the publisher has made durable."""
        self._counters.move(_ACCEPTED, events, -events)
        self._open -= events

    def close(self) -> None:
        """Give what is left its outcome: the request is answered."""
        if self._open:
            self._counters.move(self.rest, self._open, -self._open)
            self._open = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
