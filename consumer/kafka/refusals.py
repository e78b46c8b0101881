"""Rights that are taken away while a member works: what brokers refuse it, and the sentence that says what to give.

What librdkafka 2.16 and Apache Kafka 4.1 do (tests/integration/test_consumer_kafka_rights.py): of a topic that may not
be read each partition tells so once, and goes on by itself when it may be read again. A group that refuses a classic
member does so at each try to join, and the member loses its partitions when its session is over; to a member of KIP-848
it is a fatal error, which ends that client, but need not end the process.
"""

import logging
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

from confluent_kafka import KafkaError

from consumer.errors import ConsumerError, Denied, Fatal, Halt, Transient
from consumer.kafka.errors import of_kafka

log = logging.getLogger(__name__)

_SAY_AGAIN_S: Final = 600.0
_UNAUTHORISED: Final = "authorization failed"  # a fatal error has a separate code, and the reason in its text


def ends_client(error: KafkaError) -> bool:
    """Tell whether a client that says this does nothing any more; a consumer says it in a message, without its flag."""
    return error.fatal() or error.code() == KafkaError._FATAL  # noqa: SLF001  (its public name)


def is_refusal(error: KafkaError) -> bool:
    """Tell whether an error says that a right is missing, or anything else that somebody can give back."""
    if ends_client(error):
        return _UNAUTHORISED in error.str()
    return isinstance(of_kafka(error.name(), error.str()), Halt)


def of_reading(topic: str, error: KafkaError) -> str:
    """Return what is said of a topic that may not be read."""
    return f"{error.name()}: the account may not read the topic {topic}; give it Read and Describe on that topic"


def of_topic(topic: str, error: KafkaError) -> ConsumerError:
    """Return what a worker does about a topic that can't be asked about."""
    return Denied(of_reading(topic, error)) if is_refusal(error) else Transient(f"topic {topic}: {error.name()}")


class Refusals:
    """What is refused beside single partitions: a topic, or the group itself. One thread makes all calls."""

    def __init__(self, group_id: str, now_s: Callable[[], float] = monotonic) -> None:
        self._group_id = group_id
        self._now_s = now_s
        self._sentences: dict[str, str] = {}  # by topic; "" is the group
        self._said_s: dict[str, float] = {}

    def note(self, topic: str, error: KafkaError) -> None:
        """Note that a topic, or with "" the group, is refused; the log says so now and every ten minutes."""
        group = f"the account may not be in the group {self._group_id}; give it Read on that group"
        why = of_reading(topic, error) if topic else f"{error.name()}: {error.str()}: {group}"
        self._sentences[topic] = why
        now_s = self._now_s()
        if now_s - self._said_s.get(topic, float("-inf")) >= _SAY_AGAIN_S:
            self._said_s[topic] = now_s
            log.error("a right is missing: %s", why)

    def note_all(self, topics: Iterable[str], error: KafkaError) -> None:
        """Note an error that is about one of these topics, or about the group, if it is a refusal."""
        if is_refusal(error):
            for topic in ("",) if "Group" in error.str() else topics:
                self.note(topic, error)

    def lift(self, topics: Iterable[str]) -> None:
        """Learn that partitions of these topics were assigned: the group takes this member, and they are seen."""
        for name in ("", *topics):
            if self._sentences.pop(name, None) is not None:
                del self._said_s[name]
                log.warning("the right is there again", extra={"topic": name, "group": self._group_id})

    @property
    def sentence(self) -> str:
        """What is refused now; "" when nothing is."""
        return "; ".join(self._sentences.values())


def check(error: KafkaError) -> None:
    """Log an error that the client gets over by itself.

    Raises:
        Fatal: it does not.
    """
    if ends_client(error) or isinstance(of_kafka(error.name(), error.str()), Fatal):
        raise Fatal(f"{error.name()}: {error.str()}")
    log.warning("broker trouble", extra={"reason": error.name(), "detail": error.str()})
