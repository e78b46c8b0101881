"""Whether a member has heard which partitions are its own, and why it has not."""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

from confluent_kafka import KafkaError

from consumer.advice import Sentence

_QUIET_S: Final = 10.0  # two heartbeats of KIP-848, by a broker's default
_NOT_ALIKE: Final = frozenset({KafkaError.INCONSISTENT_GROUP_PROTOCOL})


class Formation:
    """Follows a member from joining its group to its partitions. One thread makes all calls."""

    def __init__(self, properties: Mapping[str, str | int], now_s: Callable[[], float] = monotonic) -> None:
        self._group_id = str(properties["group.id"])
        self._is_kip848 = properties.get("group.protocol") == "consumer"
        self._now_s = now_s
        self._is_formed = False
        self._quiet_since_s = now_s()
        self.is_incremental = self._is_kip848 or properties.get("partition.assignment.strategy") == "cooperative-sticky"
        """Whether a rebalance leaves a member the partitions that it keeps."""
        self.trouble = ""
        """Why it can't be a member, as far as the group says so."""

    @property
    def is_formed(self) -> bool:
        """Whether it has its partitions, or has heard for long that nothing is wrong.

        A classic member without partitions is told so; a KIP-848 member is told nothing.
        """
        return self._is_formed or (self._is_kip848 and self._now_s() - self._quiet_since_s > _QUIET_S)

    def joining(self) -> None:
        """Learn that the member asks to join."""
        self._is_formed, self._quiet_since_s = False, self._now_s()

    def failed(self, error: KafkaError) -> None:
        """Learn of an error that the client recovers from."""
        if error.code() in _NOT_ALIKE:
            self.trouble = Sentence.NO_ASSIGNOR_IN_COMMON.format(group=self._group_id)
        self._quiet_since_s = self._now_s()

    def assigned(self) -> None:
        """Learn that the group has given partitions, or none."""
        self._is_formed, self.trouble = True, ""

    def revoked(self) -> None:
        """Learn that the group takes partitions back; others stay if the protocol is incremental."""
        self._is_formed = self._is_formed and self.is_incremental

    def lost(self) -> None:
        """Learn that the member was expelled."""
        self._is_formed = False
