"""Computes the wait before a retry; never sleeps."""

from collections.abc import Callable
from dataclasses import dataclass
from random import random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waits, each random between half of its step and the whole step.

    Attributes:
        first_s: the first step.
        step_s_max: the longest step.
        chance: returns a number in [0, 1); an argument so that tests can fix it.
    """

    first_s: float = 0.2
    step_s_max: float = 15.0
    chance: Callable[[], float] = random

    def delay_s(self, attempt: int) -> float:
        """Return the wait after an attempt; the first attempt is 1."""
        step_s: float = min(self.step_s_max, self.first_s * 2.0 ** min(attempt - 1, 30))
        return step_s * (0.5 + self.chance() / 2)
