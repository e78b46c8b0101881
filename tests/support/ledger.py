"""The oracle of the fault tests: what clients were told, against what is there.

`settle` asks a source of truth what arrived, the topic or the table, and says what is wrong:

- an event that was answered 201 and is not there is lost;
- an event that nobody ever sent is foreign;
- an event that is there twice is doubled, if all were answered "broker": an idempotent producer does not do that. Else
  one that went to disk, or had no 201, may be there twice, if its first try arrived although no acknowledgement did;
  and so may others: when a record of a producer fails, librdkafka gives what it sends again new sequence numbers. These
  are counted. The table's view shows each of them once: there, nothing may be double.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas.codec import FRAME_BYTES, decode, read_schema
from tests.support.load import Request

_READ_S: Final = 60.0
_ASK_S: Final = 5.0
_PAUSE_S: Final = 0.2
_PAUSE_S_MAX: Final = 1.0

_Ends = dict[int, int]

Census = Callable[[], Counter[str]]
"""Counts how often each event id is there now."""


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the events of all requests.

    Attributes:
        taken: answered 201.
        on_disk: of those, by way of the disk.
        lost: answered 201 and not there.
        lost_by: how many of those were answered so, by X-Durability.
        foreign: there, and never sent.
        doubled: there more than once although all answers were "broker".
        twice: there more than once otherwise.
        unclaimed: there although no 201 was given.
    """

    taken: int
    on_disk: int
    lost: frozenset[str]
    lost_by: dict[str, int]
    foreign: frozenset[str]
    doubled: frozenset[str]
    twice: int
    unclaimed: int

    def check(self, *, once: bool = False) -> None:
        """Fail unless each event that was taken is there, and nothing else; `once` allows no doubles whatever."""
        assert not (once and self.twice), f"{self.twice} events are there more than once"
        assert not self.lost, f"{len(self.lost)} of {self.taken} events lost {self.lost_by}, such as {min(self.lost)}"
        assert not self.foreign, f"{len(self.foreign)} events that nobody sent, such as {min(self.foreign)}"
        assert not self.doubled, f"{len(self.doubled)} events doubled, such as {min(self.doubled)}"


def settle(requests: Iterable[Request], census: Census, timeout_s: float = 60.0) -> Account:
    """Count until every event that was taken is there, or the time is over."""
    requests = list(requests)
    taken = {one for request in requests if request.status == 201 for one in request.ids}
    deadline_s, pause_s = time.monotonic() + timeout_s, _PAUSE_S
    found = census()
    while taken - found.keys() and time.monotonic() < deadline_s:
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_S_MAX)  # a census of many events takes a part of a second itself
        found = census()
    return _account(requests, taken, found)


def _account(requests: Sequence[Request], taken: set[str], found: Counter[str]) -> Account:
    sent = {one for request in requests for one in request.ids}
    with_broker = {one for request in requests if request.durability == "broker" for one in request.ids}
    several = {one for one, count in found.items() if count > 1}
    doubled = several if with_broker == sent else set()
    lost = frozenset(taken - found.keys())
    return Account(
        taken=len(taken),
        on_disk=len(taken - with_broker),
        lost=lost,
        lost_by=dict(Counter(request.durability for request in requests for one in request.ids if one in lost)),
        foreign=frozenset(found.keys() - sent),
        doubled=frozenset(doubled),
        twice=len(several - doubled),
        unclaimed=len(found.keys() - taken),
    )


def topic_census(bootstrap_servers: str, topic: str) -> Census:
    """Return a census that reads a topic from its beginning to its end as it is then."""
    schema = read_schema("event")

    def count() -> Counter[str]:
        found: Counter[str] = Counter()
        for value in values(bootstrap_servers, topic):
            found[str(decode(value[FRAME_BYTES:], schema)["eventId"])] += 1
        return found

    return count


def values(bootstrap_servers: str, topic: str) -> Iterator[bytes]:
    """Yield the values of a topic from its beginning to its end as it is then."""
    settings = {"bootstrap.servers": bootstrap_servers, "group.id": "census", "enable.auto.commit": False}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest", "log_level": 0, "reconnect.backoff.max.ms": 500})
    try:
        deadline_s = time.monotonic() + _READ_S
        ends = _patiently(lambda: _ends(consumer, topic), deadline_s)
        consumer.assign([TopicPartition(topic, n, 0) for n in ends])
        fault: KafkaError | None = None
        while any(consumer.position([TopicPartition(topic, n)])[0].offset < end for n, end in ends.items() if end):
            assert time.monotonic() < deadline_s, f"{topic} could not be read to its end; last error: {fault}"
            for message in consumer.consume(1000, 0.2):
                fault = message.error()
                if fault is None:
                    yield message.value() or b""
    finally:
        consumer.close()


def _ends(consumer: Consumer, topic: str) -> _Ends:
    partitions = consumer.list_topics(topic, timeout=_ASK_S).topics[topic].partitions
    return {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=_ASK_S)[1] for n in partitions}


def _patiently(ask: Callable[[], _Ends], deadline_s: float) -> _Ends:
    """Ask until it answers: a broker that was just resumed may not lead its partitions yet."""
    while True:
        try:
            return ask()
        except KafkaException:
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(_PAUSE_S)
