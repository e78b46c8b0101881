"""Notices a client that reaches no broker although others do; a new client does.

A node that knows itself fenced (after it was frozen, or when all restart) lists topics and no broker. librdkafka then
drops every broker that it knows, those of bootstrap.servers too, and sets a timer to bootstrap again. The end of the
same answer's handling stops that timer if it has not fired yet. Then the client asks nobody any more, and says nothing
of it (seen in 2.16, for a minute; its issue 5301 says: for ever). A classic member loses its partitions when its
session is over. A KIP-848 member keeps them, because only brokers tell it that they are lost.
"""

from collections.abc import Callable
from time import monotonic
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException

_EVERY_S: Final = 5.0
_EVERY_S_MAX: Final = 160.0
_RECENT_S: Final = 11.0  # two questions of Presence, see there
_CALL_S: Final = 4.0  # as long as Presence waits: slow brokers are slow for everybody
_LOOKS: Final = 2  # the pause before a new connection may be longer than one
_OWNER_CALL_S: Final = 0.05  # an owner has other things to do, and waits for no broker
_OWNER_LOOKS: Final = 12  # a minute: the brokers have ended the old member's session, whose name may be the new one's


class Connectivity:
    """Looks now and then, while a member hears nothing of its partitions; one thread makes all calls."""

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

    def is_cut_off(self, client: Consumer, *, owns: bool) -> bool:
        """Tell whether a client has reached no broker for some time while another did.

        It may take some seconds, unless the member owns partitions; then only a client without a connection counts as
        cut off, not one whose broker answers late. After each time that it was told, the next may come only later: if a
        new client does not help, what disturbs the group is the coming and going.
        """
        if self._now_s() - self._looked_s < self._pause_s:
            return False
        if self._now_s() - self._answered_s() > _RECENT_S:  # the brokers are away
            self._looked_s, self._failures = self._now_s(), 0
            return False
        try:
            client.list_topics(self._topic, timeout=_OWNER_CALL_S if owns else _CALL_S)
        except KafkaException as error:
            self._looked_s = self._now_s()
            is_connected = error.args[0].code() != KafkaError._TRANSPORT  # noqa: SLF001  (its public name)
            self._failures = 0 if owns and is_connected else self._failures + 1
            if self._failures < (_OWNER_LOOKS if owns else _LOOKS):
                return False
            self._failures, self._pause_s = 0, min(2 * self._pause_s, _EVERY_S_MAX)
            return True
        self.has_any()
        return False
