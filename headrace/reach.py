"""Which part of the topics `headrace find` reads, and what that leaves out. Pure."""

import argparse
from collections.abc import Iterable
from typing import Final, NamedTuple

from headrace.identity import Identity
from headrace.stations import moment

_HOUR_MS: Final = 3_600_000
_CLOCKS_MS: Final = 60_000
"""The clock that made the id may be ahead of Kafka's by so much."""


class Part(NamedTuple):
    """The offsets [first, end) that are read of a partition, whose log has [low, log_end)."""

    low: int
    first: int
    end: int
    log_end: int


class Reach(NamedTuple):
    """Which records of the topics are read.

    Attributes:
        since_ms, until_ms: the Kafka timestamps between which they were written.
        begins: no older record can be meant, if the clock that made the id was right.
        is_given: the caller has said since when; otherwise older ones that the workers have not passed are read too.
    """

    since_ms: int
    until_ms: int
    begins: bool
    is_given: bool = False

    def left_out(self, parts: Iterable[Part]) -> str:
        """Return what was not read though a wanted record may be there; "" when nothing was left out.

        A record is written late when it waited in the spool, or when a client sends an event later.
        """
        parts = list(parts)
        if any(part.end < part.log_end for part in parts):
            return f"read only up to {moment(self.until_ms)}, and a record may be written later: see --until"
        if not self.begins and any(part.first > part.low for part in parts):
            return f"read only from {moment(self.since_ms)} on, and the id does not say since when: see --since"
        return ""


def reach_of(identity: Identity, given: argparse.Namespace, now_ms: int) -> Reach:
    """Return what to read for an id; --since is the word of the caller that no older record is meant.

    Raises:
        ValueError: the end is not behind the beginning.
    """
    since_ms, until_ms = span_ms(identity, given, now_ms)
    is_given = given.since is not None
    return Reach(since_ms, until_ms, is_given or is_timed(identity, now_ms), is_given)


def span_ms(identity: Identity, given: argparse.Namespace, now_ms: int) -> tuple[int, int]:
    """Return the Kafka timestamps between which to read.

    Raises:
        ValueError: the end is not behind the beginning.
    """
    at_ms = identity.at_ms
    since_ms, until_ms = given.since, given.until
    if since_ms is None:
        since_ms = at_ms - _CLOCKS_MS if is_timed(identity, now_ms) and at_ms is not None else now_ms - _HOUR_MS
    if until_ms is None:
        until_ms = max(now_ms, since_ms) + _HOUR_MS
        if at_ms is not None and given.since is None and given.window_s is not None:
            until_ms = at_ms + int(given.window_s * 1000)
    if since_ms >= until_ms:
        raise ValueError("argument --since: must be before --until")
    return max(0, since_ms), until_ms


def is_timed(identity: Identity, now_ms: int) -> bool:
    """Tell whether no record can be older than the id: not if it is of a clock that is ahead."""
    return identity.at_ms is not None and identity.at_ms <= now_ms
