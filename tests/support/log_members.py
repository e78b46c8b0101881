"""Members of a group over `KafkaLog` itself, in the test's process, and what each of them heard."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from consumer.delivery.ports import Answer, Assigned, CommittedOffset, Cut, Partition, Position, Record
from consumer.kafka.admin_connection import AdminConnection
from consumer.kafka.consumer import KafkaLog

TIMEOUT_S: Final = 60.0
_PAUSE_S_MIN: Final = 0.01
_PAUSE_S_MAX: Final = 0.2


class Member:
    """A member and its listener, which starts every partition at its mark, else at the oldest offset.

    Attributes:
        heard: each call of the listener: its name and its partitions.
        starts: where to start instead; None: not at all.
    """

    def __init__(
        self, member_properties: Mapping[str, str | int], topic: str, admin: AdminConnection | None = None
    ) -> None:
        self.log = KafkaLog(member_properties, [topic], admin or AdminConnection(member_properties))
        self.owned: dict[Partition, Assigned] = {}
        self.heard: list[tuple[str, tuple[Partition, ...]]] = []
        self.starts: dict[Partition, Position | None] = {}
        self.records: list[Record] = []
        self.ends: dict[Partition, int] = {}
        self.answers: list[Answer] = []
        self.cut: dict[Partition, Cut] = {}
        self.denied: dict[Partition, str] = {}
        self.at_revoke: Callable[[Sequence[Partition]], None] = lambda _: None
        self.log.listen(self)

    def assigned(self, partitions: Sequence[Assigned]) -> dict[Partition, Position | None]:
        """Note it."""
        self._note("assigned", [item.partition for item in partitions])
        self.owned |= {item.partition: item for item in partitions}
        return {item.partition: self.starts.get(item.partition, _start(item)) for item in partitions}

    def revoked(self, partitions: Sequence[Partition]) -> None:
        """Note it, and do what the test asks for."""
        self.at_revoke(partitions)
        self._note("revoked", partitions)
        self._forget(partitions)

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Note it."""
        self._note("lost", partitions)
        self._forget(partitions)

    def poll(self, timeout_s: float = 0.05) -> None:
        """Poll once and keep what came."""
        polled = self.log.poll(timeout_s)
        self.records += polled.records
        self.ends |= polled.ends
        self.answers += polled.answers
        self.cut |= polled.cut
        self.denied |= polled.denied

    def offsets(self, place: Partition) -> list[int]:
        """Return the offsets that came of a partition, in the order in which they came."""
        return [record.offset for record in self.records if record.partition == place]

    def answer(self, place: Partition, mark: CommittedOffset) -> Answer:
        """Commit a mark and poll until it is answered."""
        self.answers.clear()
        self.log.commit({place: mark})
        until(lambda: bool(self.answers), self.poll)
        (answer,) = self.answers
        assert (answer.partition, answer.mark) == (place, mark)
        return answer

    @property
    def names(self) -> list[str]:
        """The names of the listener's calls, in their order, without those about no partition."""
        return [name for name, places in self.heard if places]

    def _note(self, name: str, partitions: Sequence[Partition]) -> None:
        self.heard.append((name, tuple(sorted(partitions))))

    def _forget(self, partitions: Sequence[Partition]) -> None:
        for place in partitions:
            self.owned.pop(place, None)


def _start(item: Assigned) -> Position:
    mark = item.committed
    return Position(mark.offset, mark.leader_epoch) if mark else Position(item.low)


def until(condition: Callable[[], bool], *polls: Callable[[], object], timeout_s: float = TIMEOUT_S) -> None:
    """Poll in turns, or rest longer each time, until a condition holds.

    Raises:
        TimeoutError: it does not.
    """
    deadline_s, pause_s = time.monotonic() + timeout_s, _PAUSE_S_MIN
    while not condition():
        if time.monotonic() >= deadline_s:
            raise TimeoutError(f"not within {timeout_s} s")
        for poll in polls:
            poll()
        if not polls:
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, _PAUSE_S_MAX)


def is_shared(partitions: int, *members: Member) -> Callable[[], bool]:
    """Return the condition that members own all partitions, each some, and none is owned by two."""

    def check() -> bool:
        owned = [place for member in members for place in member.owned]
        return all(member.owned for member in members) and len(owned) == len(set(owned)) == partitions

    return check
