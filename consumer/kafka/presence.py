"""Which of a member's topics are there: a member that reads one that was deleted hears nothing that lasts."""

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection

from consumer.kafka.admin_connection import NO_ANSWER, AdminConnection

_EVERY_S: Final = 5.0
_CALL_S: Final = 4.0


class Presence:
    """Asks a broker now and then, and waits for no answer. One thread makes all calls; a driver's thread answers."""

    def __init__(self, admin: AdminConnection, topics: Sequence[str]) -> None:
        self._admin = admin
        self._topics = tuple(topics)
        self._asked_s = float("-inf")
        self._gone: frozenset[str] = frozenset()
        self.described: dict[str, float] = {}
        """The topics that were there, and when (monotonic) a broker was asked that said so last."""
        self._had_no_answer = False

    @property
    def answered_s(self) -> float:
        """When (monotonic) a question was asked that was answered last; -inf if none was."""
        return max(self.described.values(), default=float("-inf"))

    def gone(self) -> tuple[str, ...]:
        """Return the topics that are not there, as far as told; ask again when it is time."""
        if monotonic() - self._asked_s >= _EVERY_S:
            self._asked_s = monotonic()
            self._ask()
        return tuple(topic for topic in self._topics if topic in self._gone)

    def _ask(self) -> None:
        if self._had_no_answer:  # not where that is learnt: a client can't be taken down by its own thread
            self._admin.renew(self._admin.client)
            self._had_no_answer = False
        topics = TopicCollection(list(self._topics))
        for topic, answer in self._admin.client.describe_topics(topics, request_timeout=_CALL_S).items():
            answer.add_done_callback(partial(self._take, topic, self._asked_s))

    def _take(self, topic: str, asked_s: float, answer: Future[Any]) -> None:
        error = answer.exception()
        code = error.args[0].code() if isinstance(error, KafkaException) else None
        if error is None:
            self._gone -= {topic}
            self.described = {**self.described, topic: asked_s}  # a new one: another thread may be reading it
        elif code == KafkaError.UNKNOWN_TOPIC_OR_PART:
            self._gone |= {topic}
        else:
            self._had_no_answer = code in NO_ANSWER
