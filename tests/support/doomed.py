"""`python -m consumer run` that sends itself a signal at one step of the protocol: SIGKILL unless another is named.

    DOOM=inserted:3 python -m tests.support.doomed run
    DOOM=inserting:2:SIGSTOP python -m tests.support.doomed run

The first ends when the third insert has been acknowledged, before anything is made of the answer; the second freezes
between an intent and its insert, which it sends once it is resumed.
"""

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from consumer import __main__, service
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin, decode
from consumer.delivery.ports import (
    Assigned,
    Block,
    CommittedOffset,
    Listener,
    Partition,
    Poison,
    Polled,
    Position,
    Record,
)
from consumer.delivery.worker import Worker
from consumer.kafka.consumer import KafkaLog
from consumer.kafka.dead_letters import KafkaDeadLetters

START: Final = ("joining", "assigned")
"""Before the first poll returns."""
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

_step, _times, _signal, *_ = (*os.environ.get("DOOM", "none").split(":"), "", "")
_left = int(_times or 1)
_number = signal.Signals[_signal or "SIGKILL"]
_lock = threading.Lock()


def _reach(step: str) -> bool:
    """Come to a step; if this is the one and the time has come, tell so, and strike unless it is "insert_under_way"."""
    global _left  # noqa: PLW0603  (the program's one count)
    if step != _step:
        return False
    with _lock:
        _left -= 1
        if _left:
            return False
    if step != "insert_under_way":
        _strike()
    return True


def _strike() -> None:
    os.kill(os.getpid(), _number)


def _is_intent(mark: CommittedOffset) -> bool:
    intent = decode(mark.metadata)
    return intent is not None and intent.is_range


class DoomedLog(KafkaLog):
    """Is struck around polls and commits."""

    def listen(self, listener: Listener) -> None:
        """Perhaps be struck, then join the group."""
        _reach("joining")
        super().listen(listener)

    def poll(self, timeout_s: float) -> Polled:
        """Poll, then perhaps be struck."""
        polled = super().poll(timeout_s)
        if polled.records:
            _reach("polled")
        for answer in polled.answers:
            if answer.error is None:
                _reach("intent_committed" if _is_intent(answer.mark) else "committed")
        return polled

    def commit(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        """Commit, and perhaps be struck before or behind it."""
        intents = [_is_intent(mark) for mark in marks.values()]
        for is_intent in intents:
            _reach("intending" if is_intent else "committing")
        super().commit(marks)
        for is_intent in intents:
            _reach("intent_sent" if is_intent else "commit_sent")


class DoomedWorker(Worker):
    """Is struck when it has its partitions, and has read nothing of them."""

    def assigned(self, partitions: Sequence[Assigned]) -> dict[Partition, Position | None]:
        """Take the partitions, then perhaps be struck."""
        starts = super().assigned(partitions)
        _reach("assigned")
        return starts


class DoomedTable(ClickHouseTable):
    """Is struck around inserts."""

    def insert(self, block: Block) -> None:
        """Insert, and perhaps be struck before, behind or in the middle of it."""
        _reach("inserting")
        if _reach("insert_under_way"):
            threading.Timer(_UNDER_WAY_S, _strike).start()
        super().insert(block)
        _reach("inserted")


class DoomedLetters(KafkaDeadLetters):
    """Is struck around dead letters."""

    def send(self, records: Sequence[Record], poison: Sequence[Poison], origin: Origin) -> None:
        """Send, and perhaps be struck before or behind it."""
        _reach("sending_letters")
        super().send(records, poison, origin)
        _reach("letters_sent")


def main() -> None:
    """Be the worker."""
    vars(service).update(
        Worker=DoomedWorker, KafkaLog=DoomedLog, ClickHouseTable=DoomedTable, KafkaDeadLetters=DoomedLetters
    )
    __main__.main()


if __name__ == "__main__":
    main()
