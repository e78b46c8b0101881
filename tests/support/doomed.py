"""`python -m consumer run` that kills itself with SIGKILL at one step of the protocol.

    DOOM=inserted:3 python -m tests.support.doomed run

ends when the third insert has been acknowledged, before anything is made of the answer.
"""

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from consumer import __main__, service
from consumer.clickhouse import ClickHouseTable
from consumer.deadletters import KafkaDeadLetters
from consumer.intent import decode
from consumer.kafka import KafkaLog
from consumer.ports import Block, Mark, Partition, Poison, Polled, Record

STEPS: Final = (
    "polled",
    "intending",
    "intent_sent",
    "intent_committed",
    "sending_letters",
    "letters_sent",
    "inserting",
    "insert_under_way",
    "inserted",
    "committing",
    "commit_sent",
    "committed",
)
"""In the order of the protocol; a "commit" is a mark without an intent, as an idle worker makes it."""
_UNDER_WAY_S: Final = 0.004  # an insert of some hundred rows takes about 10 ms

_step, _, _times = os.environ.get("DOOM", "none").partition(":")
_left = int(_times or 1)
_lock = threading.Lock()


def _reach(step: str) -> bool:
    """Come to a step; tell whether this is the one and the time has come, which only "insert_under_way" survives."""
    global _left  # noqa: PLW0603  (the program's one count)
    if step != _step:
        return False
    with _lock:
        _left -= 1
        if _left:
            return False
    if step != "insert_under_way":
        _die()
    return True


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _is_intent(mark: Mark) -> bool:
    intent = decode(mark.metadata)
    return intent is not None and intent.is_range


class DoomedLog(KafkaLog):
    """Dies around polls and commits."""

    def poll(self, timeout_s: float) -> Polled:
        """Poll, then perhaps die."""
        polled = super().poll(timeout_s)
        if polled.records:
            _reach("polled")
        for answer in polled.answers:
            if answer.error is None:
                _reach("intent_committed" if _is_intent(answer.mark) else "committed")
        return polled

    def commit(self, marks: Mapping[Partition, Mark]) -> None:
        """Commit, and perhaps die before or behind it."""
        intents = [_is_intent(mark) for mark in marks.values()]
        for is_intent in intents:
            _reach("intending" if is_intent else "committing")
        super().commit(marks)
        for is_intent in intents:
            _reach("intent_sent" if is_intent else "commit_sent")


class DoomedTable(ClickHouseTable):
    """Dies around inserts."""

    def insert(self, block: Block) -> None:
        """Insert, and perhaps die before, behind or in the middle of it."""
        _reach("inserting")
        if _reach("insert_under_way"):
            threading.Timer(_UNDER_WAY_S, _die).start()
        super().insert(block)
        _reach("inserted")


class DoomedLetters(KafkaDeadLetters):
    """Dies around dead letters."""

    def send(self, records: Sequence[Record], poison: Sequence[Poison]) -> None:
        """Send, and perhaps die before or behind it."""
        _reach("sending_letters")
        super().send(records, poison)
        _reach("letters_sent")


if __name__ == "__main__":
    vars(service).update(KafkaLog=DoomedLog, ClickHouseTable=DoomedTable, KafkaDeadLetters=DoomedLetters)
    __main__.main()
