"""When to stop asking the broker, and when to try again: a state machine without a clock.

    CLOSED ──the share of failures in a short window──▶ OPEN ──cooldown over──▶ HALF_OPEN (one probe)
      ▲                                                  ▲                         │
      └──────────────── a success ───────────────────────┼──── a success ──────────┤
                                                         └──── a failure, longer ──┘

An outcome is the fate of a request, or one second of waiting for it: so a broker that has fallen silent opens the
breaker while the first requests still wait, and not when their deadlines have passed.
"""

import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where the breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Policy:
    """When the breaker moves. The defaults let a lone client wait three seconds once, and many clients one."""

    # Outcomes older than this say nothing of now.
    window_s: float = 5.0
    # At a thousand answers a second five seconds hold 5,000 good outcomes, which the first bad ones could not outweigh.
    outcomes_max: int = 20
    # One slow answer is no outage, nor are two.
    failures_min: int = 3
    failure_share: float = 0.5
    # The broker's own elections take a few seconds.
    cooldown_s: float = 1.0
    # How late a broker that is back may be noticed.
    cooldown_s_max: float = 15.0
    # A probe whose outcome was never told frees its place after this; longer than any request waits.
    probe_s_max: float = 30.0


class Breaker:
    """Takes outcomes, gives permits. Times are monotonic seconds and never go back. Threads share it."""

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=self._policy.outcomes_max)
        self._state = State.CLOSED
        self._cooldown_s = 0.0
        self._moved_at_s = float("-inf")
        self._lock = threading.Lock()

    @property
    def state(self) -> State:
        """Where it stands."""
        return self._state

    def permits(self, now_s: float) -> bool:
        """Tell whether a request may go to the broker; in HALF_OPEN one may, and its outcome decides."""
        with self._lock:
            if self._state is State.CLOSED:
                return True
            wait_s = self._cooldown_s if self._state is State.OPEN else self._policy.probe_s_max
            if now_s - self._moved_at_s < wait_s:
                return False
            self._move(State.HALF_OPEN, now_s)
            return True

    def succeeded(self, now_s: float) -> bool:
        """Note a prompt acknowledgement; True when that closed the breaker."""
        with self._lock:
            self._outcomes.append((now_s, True))
            if self._state is State.CLOSED:
                return False
            self._outcomes.clear()
            self._move(State.CLOSED, now_s)
            return True

    def failed(self, now_s: float) -> bool:
        """Note a failure, or a second of waiting; True when that opened the breaker."""
        with self._lock:
            self._outcomes.append((now_s, False))
            if self._state is State.OPEN:
                return False
            if self._state is State.CLOSED and not self._is_outage(now_s):
                return False
            self._open(now_s)
            return True

    def hurry(self) -> None:
        """Let the next probe come at once: the cause of the failures may be gone. If it fails, all is as before."""
        with self._lock:
            if self._state is State.OPEN:
                self._moved_at_s = float("-inf")

    def open(self, now_s: float) -> None:
        """Open it on other evidence: nobody answered at the start."""
        with self._lock:
            self._open(now_s)

    def _is_outage(self, now_s: float) -> bool:
        while self._outcomes and now_s - self._outcomes[0][0] > self._policy.window_s:
            self._outcomes.popleft()
        failures = sum(not good for _, good in self._outcomes)
        return failures >= self._policy.failures_min and failures >= self._policy.failure_share * len(self._outcomes)

    def _open(self, now_s: float) -> None:
        # One that failed its probe, or soon after it closed, has the same trouble as before: ask less often.
        is_new_trouble = self._state is State.CLOSED and now_s - self._moved_at_s > self._policy.cooldown_s_max
        longer_s = max(2 * self._cooldown_s, self._policy.cooldown_s)
        self._cooldown_s = self._policy.cooldown_s if is_new_trouble else min(longer_s, self._policy.cooldown_s_max)
        self._move(State.OPEN, now_s)

    def _move(self, state: State, now_s: float) -> None:
        self._state = state
        self._moved_at_s = now_s
