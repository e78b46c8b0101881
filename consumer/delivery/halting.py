"""A halted partition: why it is halted, until when, and how often the log says so.

A partition halts when no row explains a failure and waiting does not help: a wrong table, a missing permission, an
unknown schema, a lost offset. The other partitions go on. The failed step is retried from time to time, so that the
partition resumes by itself once the cause is repaired; the group's offsets are read again when the partition is
assigned again, as after a restart.
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
    """The step that failed: the metrics' label, and the log line's key."""

    OPEN = "open"
    READ = "read"
    PREPARE = "prepare"
    SEND = "send"
    AWAIT = "await"
    INSERT = "insert"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class Halted:
    """Why a partition is halted.

    Attributes:
        partition: the partition.
        offset: all offsets below it are in the table or in the dead letters.
        code: the cause.
        why: the cause in a sentence that says what to do.
        step: the step that failed; it is retried unless it is `OPEN`.
        said_at_s: when the log last said so (monotonic).
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
    """Return a halt that was found again, or a different one, which is logged at once."""
    is_same = before is not None and (before.code, before.step, before.offset) == (now.code, now.step, now.offset)
    return replace(now, said_at_s=before.said_at_s) if before is not None and is_same else now


def remind(halt: Halted, now_s: float) -> Halted:
    """Log a halt when it is new and then every ten minutes; return the updated halt."""
    if now_s - halt.said_at_s < _SAY_AGAIN_S:
        return halt
    facts = {"topic": halt.partition.topic, "partition": halt.partition.number, "offset": halt.offset}
    state = "halted" if halt.said_at_s == NEVER else "still halted"
    log.error("partition %s: %s", state, halt.why, extra=facts | {"code": halt.code, "step": halt.step})
    return replace(halt, said_at_s=now_s)


def say_over(halt: Halted) -> None:
    """Log that a halted partition has resumed."""
    facts = {"topic": halt.partition.topic, "partition": halt.partition.number, "offset": halt.offset}
    log.warning("partition resumed after a halt", extra=facts | {"code": halt.code})
