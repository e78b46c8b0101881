"""Rights that are taken away while a member works: what brokers refuse it, and the sentence that says what to give.

What librdkafka 2.16 and Apache Kafka 4.1 do (tests/integration/test_consumer_kafka_rights.py): of a topic that may not
be read each partition tells so once, and goes on by itself when it may be read again; an error about the whole topic
may come, too. A group that refuses a classic member does so at each try to join, and the member loses its partitions
when its session is over; to a member of KIP-848 it is a fatal error, which ends that client, but need not end the
process.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Final

from confluent_kafka import KafkaError

from consumer.errors import ConsumerError, Denied, Fatal, Halt, Transient
from consumer.kafka.errors import of_kafka

log = logging.getLogger(__name__)

_SAY_AGAIN_S: Final = 600.0
GROUP: Final = ""
"""The name under which the group's own refusal is kept."""
_TOPICS: Final = "*"  # a group's refusal because of a topic that it does not name
_OF_TOPIC: Final = "Topic authorization failed"
_UNAUTHORISED: Final = "authorization failed"  # a fatal error has a separate code, and the reason in its text


def ends_client(error: KafkaError) -> bool:
    """Tell whether a client that says this does nothing any more; a consumer says it in a message, without its flag."""
    return error.fatal() or error.code() == KafkaError._FATAL  # noqa: SLF001  (its public name)


def is_refusal(error: KafkaError) -> bool:
    """Tell whether an error says that a right is missing, or anything else that somebody can give back."""
    if ends_client(error):
        return _UNAUTHORISED in error.str()
    return isinstance(of_kafka(error.name(), error.str()), Halt)


def _is_of_topic(error: KafkaError) -> bool:
    return error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED or (ends_client(error) and _OF_TOPIC in error.str())


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
        self._sentences: dict[str, str] = {}  # by topic, GROUP or _TOPICS
        self._said_s: dict[str, float] = {}
        self._noted_s: dict[str, float] = {}

    def note(self, topic: str, error: KafkaError) -> None:
        """Note that a topic, or with "" the group, is refused; the log says so now and every ten minutes."""
        name = topic or (_TOPICS if _is_of_topic(error) else GROUP)
        why = of_reading(topic, error) if topic else f"{error.name()}: {error.str()}: {self._of_group(name)}"
        self._sentences[name] = why
        self._noted_s[name] = now_s = self._now_s()
        if now_s - self._said_s.get(name, float("-inf")) >= _SAY_AGAIN_S:
            self._said_s[name] = now_s
            log.error("a right is missing: %s", why)

    def _of_group(self, name: str) -> str:
        if name == _TOPICS:
            return "the account may not see a topic that it subscribes to; give it Read and Describe on each of them"
        return f"the account may not be in the group {self._group_id}; give it Read on that group"

    def note_all(self, topics: Iterable[str], error: KafkaError) -> None:
        """Note an error that is about one of these topics, or about the group, if it is a refusal."""
        if is_refusal(error):
            for topic in ("",) if "Group" in error.str() else topics:
                self.note(topic, error)

    def assigned(self) -> None:
        """Learn that the group takes this member."""
        self.lift((GROUP, _TOPICS))

    def worked(self, names: Iterable[str], since_s: float) -> None:
        """Learn that these, topics or GROUP, did not refuse what began then; a refusal that is as new stays."""
        self.lift([name for name in names if self._noted_s.get(name, since_s) < since_s])

    def described(self, topics: Mapping[str, float]) -> None:
        """Learn of every topic that is subscribed to when a broker was last asked for it with success."""
        for topic, asked_s in topics.items():
            self.worked((topic,), asked_s)
        self.worked((_TOPICS,), min(topics.values()))

    def lift(self, names: Iterable[str]) -> None:
        """Forget the refusals of topics, or of GROUP."""
        for name in names:
            if self._sentences.pop(name, None) is not None:
                del self._said_s[name], self._noted_s[name]
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
