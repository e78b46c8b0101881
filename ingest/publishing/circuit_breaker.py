"""Decides when to stop sending to the broker and when to try again: a state machine without a clock.

    CLOSED ──the share of failures in a short window──▶ OPEN ──cooldown over──▶ HALF_OPEN (one probe)
      ▲                                                  ▲                         │
      └──────────────── a success ───────────────────────┼──── a success ──────────┤
                                                         └──── a failure, longer ──┘

Each request is one outcome, and so is each second it waits. So a silent broker opens the breaker while the first
requests still wait, not after their deadlines.
"""

import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """The states of the breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_CLOSED: Final = State.CLOSED  # looking it up there takes 0.1 us, several times a request


@dataclass(frozen=True, slots=True)
class Policy:
    """When the breaker changes state. With the defaults a lone client waits 3 s once, many clients 1 s."""

    # Older outcomes are ignored.
    window_s: float = 5.0
    # At a thousand answers a second, five seconds hold 5,000 successes, which new failures could not outweigh.
    outcomes_max: int = 20
    # One or two slow answers are no outage.
    failures_min: int = 3
    failure_share: float = 0.5
    # The broker's elections take a few seconds.
    cooldown_s: float = 1.0
    # The longest delay in noticing that the broker is back.
    cooldown_s_max: float = 15.0
    # A probe without an outcome is given up after this; longer than any request waits.
    probe_s_max: float = 30.0


class Breaker:
    """Records outcomes and permits requests. Times are monotonic seconds and never go back. Threads share it."""

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=self._policy.outcomes_max)
        self._state = State.CLOSED
        self._cooldown_s = 0.0
        self._moved_at_s = float("-inf")
        self._lock = threading.Lock()

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    def permits(self, now_s: float) -> bool:
        """Tell whether a request may go to the broker; in HALF_OPEN one may, and its outcome decides."""
        with self._lock:
            if self._state is _CLOSED:
                return True
            wait_s = self._cooldown_s if self._state is State.OPEN else self._policy.probe_s_max
            if now_s - self._moved_at_s < wait_s:
                return False
            self._move(State.HALF_OPEN, now_s)
            return True

    def succeeded(self, now_s: float) -> bool:
        """Record a prompt acknowledgement; True when it closed the breaker."""
        with self._lock:
            self._outcomes.append((now_s, True))
            if self._state is _CLOSED:
                return False
            self._outcomes.clear()
            self._move(State.CLOSED, now_s)
            return True

    def failed(self, now_s: float) -> bool:
        """Record a failure or a second of waiting; True when it opened the breaker."""
        with self._lock:
            self._outcomes.append((now_s, False))
            if self._state is State.OPEN:
                return False
            if self._state is _CLOSED and not self._is_outage(now_s):
                return False
            self._open(now_s)
            return True

    def hurry(self) -> None:
        """Permit the next probe at once: the cause of the failures may be gone. If the probe fails, nothing changes."""
        with self._lock:
            if self._state is State.OPEN:
                self._moved_at_s = float("-inf")

    def open(self, now_s: float) -> None:
        """Open the breaker on other evidence: the broker did not answer at the start."""
        with self._lock:
            self._open(now_s)

    def _is_outage(self, now_s: float) -> bool:
        while self._outcomes and now_s - self._outcomes[0][0] > self._policy.window_s:
            self._outcomes.popleft()
        failures = sum(not good for _, good in self._outcomes)
        return failures >= self._policy.failures_min and failures >= self._policy.failure_share * len(self._outcomes)

    def _open(self, now_s: float) -> None:
        # After a failed probe, or soon after closing, it is the same outage: probe less often.
        is_new_trouble = self._state is _CLOSED and now_s - self._moved_at_s > self._policy.cooldown_s_max
        longer_s = max(2 * self._cooldown_s, self._policy.cooldown_s)
        self._cooldown_s = self._policy.cooldown_s if is_new_trouble else min(longer_s, self._policy.cooldown_s_max)
        self._move(State.OPEN, now_s)

    def _move(self, state: State, now_s: float) -> None:
        self._state = state
        self._moved_at_s = now_s
