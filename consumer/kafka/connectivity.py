"""Notices a client that reaches no broker although others do; a new client does.

When all brokers have restarted, the first metadata may list topics and no broker yet. librdkafka then drops every
broker that it knows, those of bootstrap.servers too (seen in its log, 2.16). Mostly it bootstraps again; one client
did not connect for as long as it was watched, 45 s, and said nothing of it.
"""

from collections.abc import Callable
from time import monotonic
from typing import Final

from confluent_kafka import Consumer, KafkaException

_EVERY_S: Final = 5.0
_EVERY_S_MAX: Final = 160.0
_RECENT_S: Final = 11.0  # two questions of Presence, see there
_CALL_S: Final = 4.0  # as long as Presence waits: slow brokers are slow for everybody
_LOOKS: Final = 2  # the pause before a new connection may be longer than one


class Connectivity:
    """Looks now and then, while a member owns nothing; one thread makes all calls."""

    def __init__(self, answered_s: Callable[[], float], topic: str, now_s: Callable[[], float] = monotonic) -> None:
        """Know when (monotonic) another client was answered last, and a topic to ask for."""
        self._answered_s = answered_s
        self._topic = topic
        self._now_s = now_s
        self._looked_s = now_s()
        self._pause_s = _EVERY_S
        self._failures = 0

    def has_any(self) -> None:
        """Learn that the client reaches a broker."""
        self._looked_s, self._pause_s, self._failures = self._now_s(), _EVERY_S, 0

    def is_cut_off(self, client: Consumer) -> bool:
        """Tell whether a client has reached no broker for some time while another did. It may take some seconds.

        After each time that it was told, the next may come only later: if a new client does not help, what disturbs
        the group is the coming and going.
        """
        if self._now_s() - self._looked_s < self._pause_s:
            return False
        if self._now_s() - self._answered_s() > _RECENT_S:  # the brokers are away
            self._looked_s, self._failures = self._now_s(), 0
            return False
        try:
            client.list_topics(self._topic, timeout=_CALL_S)
        except KafkaException:
            self._looked_s = self._now_s()
            self._failures += 1
            if self._failures < _LOOKS:
                return False
            self._failures, self._pause_s = 0, min(2 * self._pause_s, _EVERY_S_MAX)
            return True
        self.has_any()
        return False
