"""Asks whether the broker answers, and notices a producer that alone reaches none.

After metadata without any broker librdkafka may ask nobody any more (consumer/kafka/connectivity.py says why), while a
new producer finds them all.
"""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer

log = logging.getLogger(__name__)

_COMPARE_S: Final = 10.0  # between two looks whether a new producer reaches a broker
_COMPARE_S_MAX: Final = 300.0  # if it does not help
_COMPARISONS: Final = 2  # the broker may have come back between the two questions of one


class Connectivity:
    """What one thread learns by asking for a topic's metadata.

    Args:
        topic: to ask for.
        new_producer: makes another one of the same properties; may raise KafkaException.
        on_cut_off: called when a new producer is answered and the present one, twice, has no connection.
    """

    def __init__(self, topic: str, new_producer: Callable[[], Producer], on_cut_off: Callable[[], None]) -> None:
        self._topic = topic
        self._new_producer = new_producer
        self._on_cut_off = on_cut_off
        self._newcomer: Producer | None = None
        self._worse = 0
        self._compared_s, self._pause_s = monotonic(), _COMPARE_S

    def has(self, producer: Producer, timeout_s: float) -> bool:
        """Tell whether a producer finds a leader of the topic; takes up to the timeout, at times twice as long."""
        error = self._trouble(producer, timeout_s)
        if error is None:
            self._newcomer, self._worse, self._compared_s, self._pause_s = None, 0, monotonic(), _COMPARE_S
        elif error == KafkaError._TRANSPORT and monotonic() - self._compared_s >= self._pause_s:  # noqa: SLF001  (its public name)
            self._compare(timeout_s)
        return error is None

    def _compare(self, timeout_s: float) -> None:
        """Ask with a new producer, too; if only that one is answered, twice, the present one is cut off.

        One that is not answered is asked once more at the next look: it may be far away.
        """
        if monotonic() - self._compared_s > 3 * self._pause_s:  # the last one was of an earlier outage
            self._newcomer, self._worse = None, 0
        self._compared_s = monotonic()
        try:
            newcomer = self._newcomer or self._new_producer()
        except KafkaException as error:  # no descriptor is left, or a file can't be read
            log.warning("no producer can be made", extra={"reason": str(error)})
            return
        is_answered = self._trouble(newcomer, timeout_s) is None
        self._worse = self._worse + 1 if is_answered else 0
        self._newcomer = newcomer if is_answered or self._newcomer is None else None
        if self._worse >= _COMPARISONS:
            log.warning("the producer reaches no broker although a new one does: replacing it")
            self._newcomer, self._worse, self._pause_s = None, 0, min(2 * self._pause_s, _COMPARE_S_MAX)
            self._on_cut_off()

    def _trouble(self, producer: Producer, timeout_s: float) -> int | None:
        """Return the code of what keeps a producer from finding the topic; None if nothing does."""
        try:
            topic = producer.list_topics(self._topic, timeout=timeout_s).topics[self._topic]
        except KafkaException as error:
            return int(error.args[0].code())
        if topic.error is None and any(partition.leader >= 0 for partition in topic.partitions.values()):
            return None
        return KafkaError.LEADER_NOT_AVAILABLE
