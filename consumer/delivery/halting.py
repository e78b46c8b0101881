"""A halted partition: why it stands, until when, and how often the log says so.

A halt is for what no row explains and no server heals by itself: a table, a right, a schema, an offset that is gone. It
holds one partition, and the others go on. The step that failed is tried again now and then, so that the partition goes
on by itself once the cause is mended; the offsets that the group holds are read again when the partition is assigned
again, as after a restart.
"""

import logging
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from consumer.delivery.ports import Partition
from consumer.errors import HaltCode

log = logging.getLogger(__name__)

_SAY_AGAIN_S: Final = 600.0
NEVER: Final = float("-inf")


class Step(StrEnum):
    """What a partition was doing when it failed: label of the metrics, and key of the log line."""

    OPEN = "open"
    READ = "read"
    PREPARE = "prepare"
    SEND = "send"
    INSERT = "insert"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class Halted:
    """Why one partition stands.

    Attributes:
        partition: which.
        offset: all offsets below it are in the table or in the dead letters.
        code: why.
        why: the same in a sentence that says what to do.
        step: what failed, and is tried again unless it is `OPEN`.
        said_at_s: when the log said so last (monotonic).
    """

    partition: Partition
    offset: int
    code: HaltCode
    why: str
    step: Step
    said_at_s: float = NEVER

    @property
    def sentence(self) -> str:
        """Partition, offset and reason in one sentence."""
        return f"{self.partition.topic}/{self.partition.number} is halted at offset {self.offset}: {self.why}"


def renewed(before: Halted | None, now: Halted) -> Halted:
    """Return a halt that was found again, or another one in its place, which is said at once."""
    is_same = before is not None and (before.code, before.step, before.offset) == (now.code, now.step, now.offset)
    return replace(now, said_at_s=before.said_at_s) if before is not None and is_same else now


def remind(halt: Halted, now_s: float) -> Halted:
    """Log a halt when it is new, and every ten minutes; return what to remember."""
    if now_s - halt.said_at_s < _SAY_AGAIN_S:
        return halt
    facts = {"topic": halt.partition.topic, "partition": halt.partition.number, "offset": halt.offset}
    state = "halted" if halt.said_at_s == NEVER else "still halted"
    log.error("partition %s: %s", state, halt.why, extra=facts | {"code": halt.code, "step": halt.step})
    return replace(halt, said_at_s=now_s)


def say_over(halt: Halted) -> None:
    """Log that a halted partition goes on."""
    facts = {"topic": halt.partition.topic, "partition": halt.partition.number, "offset": halt.offset}
    log.warning("partition goes on after a halt", extra=facts | {"code": halt.code})
