"""The books of a process: what became of every event, and whether it adds up.

Each request to POST /collect/event opens an account, and:

    received = accepted + refused + limited + shed + in flight
    accepted = delivered + spooled

An event is `received` when its request comes in and `accepted` when the request is answered 201; until the answer it
is in flight. The publisher counts, on its own, what it knows to be durable for a request that it lets pass:
`delivered` (the broker acknowledged it) or `spooled` (it is on disk). `orphaned` stands beside the sums: events that
became durable although their request was answered 503.

A request whose events were never counted counts as one event: one that the rate limit (`limited`) or the load bound
(`shed`) turned away before its body was read, or whose body was no list of events (`refused`).
"""

import threading
from enum import StrEnum
from types import TracebackType
from typing import Final, Protocol, Self


class Metrics(Protocol):
    """Takes figures; names and labels stand in one table, in telemetry. Any thread may call."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""

    def move(self, name: str, amount: float, **labels: str) -> None:
        """Add to a gauge, or take from it."""


class NoMetrics:
    """A `Meter` that forgets."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Forget."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Forget."""

    def set(self, name: str, value: float, **labels: str) -> None:
        """Forget."""

    def move(self, name: str, amount: float, **labels: str) -> None:
        """Forget."""


class Outcome(StrEnum):
    """What became of events: the `outcome` label of headrace_ingest_events_total."""

    RECEIVED = "received"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    LIMITED = "limited"
    SHED = "shed"
    DELIVERED = "delivered"
    SPOOLED = "spooled"
    ORPHANED = "orphaned"


_ENDS: Final = (Outcome.ACCEPTED, Outcome.REFUSED, Outcome.LIMITED, Outcome.SHED)


class EventCounters:
    """Counts the events of one process. Threads share it."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or NoMetrics()
        self._counts = dict.fromkeys(Outcome, 0)
        self._in_flight = 0
        self._lock = threading.Lock()
        for outcome in Outcome:  # a series that exists from the start has a rate from its first event on
            self.metrics.count("events_total", 0, outcome=outcome)

    def count(self, outcome: Outcome, events: int) -> None:
        """Add events to an outcome; the publisher calls it for delivered, spooled and orphaned."""
        if events:
            with self._lock:
                self._counts[outcome] += events
            self.metrics.count("events_total", events, outcome=outcome)

    def open(self) -> "RequestCounter":
        """Open the account of one request; leaving its block closes it."""
        return RequestCounter(self)

    def receive(self, events: int) -> None:
        """Count events that came in and are in flight from now on; an account calls it."""
        self.count(Outcome.RECEIVED, events)
        self._move(events)

    def settle(self, outcome: Outcome, events: int) -> None:
        """Count events whose request is being answered; an account calls it."""
        self.count(outcome, events)
        self._move(-events)

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

    def _move(self, events: int) -> None:
        with self._lock:
            self._in_flight += events
        self.metrics.move("events_in_flight", events)


class RequestCounter:
    """One request's events: received, then accepted, and what is left takes the `rest`'s outcome at the end."""

    __slots__ = ("_counters", "_open", "events", "rest", "size_bytes")

    def __init__(self, counters: EventCounters) -> None:
        self._counters = counters
        self._open = 1
        self.rest: Outcome = Outcome.REFUSED
        """What the events that are not accepted end as."""
        self.events = 0
        """How many events the request was found to have."""
        self.size_bytes = 0
        """What they are as records, about."""
        counters.receive(1)

    def set_total(self, events: int, size_bytes: int = 0) -> None:
        """Say how many events the request has, and how large they are; once, and before any is accepted."""
        self._counters.receive(events - self._open)
        self._open = self.events = events
        self.size_bytes = size_bytes

    def accept(self, events: int) -> None:
        """Say that the publisher made so many of them durable."""
        self._counters.settle(Outcome.ACCEPTED, events)
        self._open -= events

    def close(self) -> None:
        """Give what is left its outcome: the request is answered."""
        self._counters.settle(self.rest, self._open)
        self._open = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
