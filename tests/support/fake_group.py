"""A broker in memory: logs with gaps and low watermarks, topics with ids, and one group with its marks.

It is as unkind as Apache Kafka: it takes a commit from any member that it still knows, even of a partition that the
member no longer owns; an expelled member hears of it at its next poll; a commit's answer may be lost, before or after
the commit was kept.
Eager groups give up everything in a rebalance, cooperative ones only what moves. A log may be cut, and another replica
with its own tail may take its place; members compare how long an epoch was, as librdkafka does, and no more.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from consumer.delivery.intent import NO_EPOCH
from consumer.delivery.ports import (
    Answer,
    Assigned,
    CommittedOffset,
    Cut,
    Listener,
    Partition,
    Polled,
    Position,
    Record,
)
from consumer.errors import ConsumerError, Fenced, Transient
from consumer.operations.divergence import Found

TOPIC = "events"


class CommitFault(Enum):
    """What happens to the next commit that reaches the broker."""

    NOT_KEPT = auto()
    ANSWER_LOST = auto()


@dataclass
class PartitionLog:
    """The records of one partition, by offset; `end` is the next offset, and gaps hold nothing.

    `starts` has the first offset of each leader epoch, as a replica keeps it.
    """

    records: dict[int, Record] = field(default_factory=dict)
    low: int = 0
    end: int = 0
    epoch: int = 0
    starts: dict[int, int] = field(default_factory=lambda: {0: 0})

    def elect(self, epoch: int) -> None:
        """Begin a new epoch at the end."""
        self.epoch = epoch
        self.starts[epoch] = self.end

    def cut(self, offset: int) -> dict[int, Record]:
        """Lose all from an offset on, and return it."""
        lost = {at: record for at, record in self.records.items() if at >= offset}
        self.records = {at: record for at, record in self.records.items() if at < offset}
        self.end = min(self.end, max(offset, self.low))
        self.starts = {epoch: start for epoch, start in self.starts.items() if start <= self.end}
        return lost

    def end_of_epoch(self, epoch: int) -> int | None:
        """Answer as OffsetForLeaderEpoch does: where the epoch ends, or the one before it; None when none is known."""
        if epoch == max(self.starts):
            return self.end
        later = [max(start, self.low) for number, start in self.starts.items() if number > epoch]
        return min(later, default=None)  # what lies below the oldest record is forgotten

    def record_at(self, offset: int) -> Found | None:
        """Return the first record at an offset or behind it."""
        at = min((at for at in self.records if at >= offset), default=None)
        return None if at is None else Found(at, self.records[at].leader_epoch)


class FakeBroker:
    """One topic, one group; `members` are known to the group, in the order of joining.

    `tells_ends` is False for one that lists no ends of partitions.
    """

    tells_ends = True

    def __init__(self, partitions: int, *, is_eager: bool = False, keeps_metadata: bool = True) -> None:
        self.is_eager, self.keeps_metadata, self.is_away = is_eager, keeps_metadata, False
        self.compares_epochs, self.refuses_seeks = True, False
        self.numbers = range(partitions)
        self.incarnation = 0
        self.logs: dict[Partition, PartitionLog] = {}
        self.marks: dict[Partition, CommittedOffset] = {}
        self.members: list[FakeLog] = []
        self.owners: dict[Partition, FakeLog] = {}
        self.epoch = 0
        self.faults: deque[CommitFault] = deque()
        self.watchers: list[Callable[[Partition, CommittedOffset], None]] = []
        self.create()

    @property
    def topic_id(self) -> str:
        """The topic's present ID."""
        return f"id-{self.incarnation}"

    def create(self, *, forgets: bool = True) -> None:
        """Create the topic, or recreate it: an empty log under another id. The group's marks go with the old one.

        Unless a commit reaches the broker behind the deletion: then a mark of the old one stays.
        """
        self.incarnation += 1
        self.logs = {Partition(TOPIC, number): PartitionLog() for number in self.numbers}
        if forgets:
            self.marks.clear()

    def produce(self, number: int, values: Iterable[bytes], gap: int = 0) -> list[int]:
        """Append records, each behind a gap, and return their offsets."""
        place = Partition(TOPIC, number)
        log, offsets = self.logs[place], []
        for value in values:
            offset = log.end + gap
            key = self.key(number, offset, log.epoch).encode()  # names the record, whatever a worker makes of it
            log.records[offset] = Record(place, offset, 1_700_000_000_000 + offset, key, value, (), log.epoch)
            log.end = offset + 1
            offsets.append(offset)
        return offsets

    def key(self, number: int, offset: int, epoch: int) -> str:
        """Return what names a record: the epoch too, but for the first one."""
        return f"{self.topic_id}/{number}/{offset}" + (f"@{epoch}" if epoch else "")

    def elect(self, number: int) -> None:
        """Let another replica lead, which has everything."""
        log = self.logs[Partition(TOPIC, number)]
        log.elect(log.epoch + 1)

    def cut(self, number: int, offset: int) -> list[Record]:
        """Let a replica lead that lacks all from an offset on; return what is lost."""
        log = self.logs[Partition(TOPIC, number)]
        lost = log.cut(offset)
        log.elect(log.epoch + 1)
        return list(lost.values())

    def swap(self, number: int, replica: PartitionLog) -> None:
        """Let a replica lead that was away: its log is what it was then."""
        place = Partition(TOPIC, number)
        epoch = self.logs[place].epoch + 1
        self.logs[place] = replica
        replica.elect(epoch)

    def delete_below(self, number: int, offset: int) -> None:
        """Retention: move the low watermark up, at most to the end."""
        log = self.logs[Partition(TOPIC, number)]
        log.low = max(log.low, min(offset, log.end))
        log.records = {at: record for at, record in log.records.items() if at >= log.low}

    def id_of(self, topic: str) -> str:
        """Return the topic's id, as the port `Topics` does."""
        self.check_away()
        assert topic == TOPIC
        return self.topic_id

    def check_away(self) -> None:
        """Raise what a client hears of a broker that is away."""
        if self.is_away:
            raise Transient("the broker is away")

    def join(self, member: "FakeLog") -> None:
        """Let a member in: a rebalance begins."""
        self.members.append(member)
        self.epoch += 1

    def remove(self, member: "FakeLog") -> None:
        """Forget a member, that left or was silent for too long: a rebalance begins."""
        if member in self.members:
            self.members.remove(member)
            self.owners = {place: owner for place, owner in self.owners.items() if owner is not member}
            self.epoch += 1

    def target(self, place: Partition) -> "FakeLog":
        """Return the member that is to have a partition."""
        return self.members[(place.number + self.epoch) % len(self.members)]

    def may_assign(self) -> bool:
        """Tell whether partitions are given out: an eager group waits for all members to have given up theirs."""
        return not self.is_eager or all(member.epoch == self.epoch for member in self.members)

    def commit(self, member: "FakeLog", place: Partition, mark: CommittedOffset) -> ConsumerError | None:
        """Take a commit and return the answer that the member gets."""
        fault = self.faults.popleft() if self.faults else None
        if fault is CommitFault.NOT_KEPT:
            return Transient("REQUEST_TIMED_OUT")
        if member not in self.members:
            return Fenced("UNKNOWN_MEMBER_ID")
        if member.epoch != self.epoch and not self.is_eager and place.number % 2:
            return Transient("ILLEGAL_GENERATION")
        kept = (
            mark if self.keeps_metadata else CommittedOffset(mark.offset, "")
        )  # nor does such a broker keep the epoch
        self.marks[place] = kept
        for watch in self.watchers:
            watch(place, mark)
        return Transient("the answer was lost") if fault is CommitFault.ANSWER_LOST else None


class FakeLog:
    """A member: implements `Log` over the broker. Its commits wait in `sent` until the broker gets to them."""

    def __init__(self, broker: FakeBroker, records_max: int = 3) -> None:
        self.broker = broker
        self.records_max = records_max
        self.epoch = 0
        self.positions: dict[Partition, Position | None] = {}
        self._seen: dict[Partition, int] = {}  # the epoch that a position was compared for
        self.paused: set[Partition] = set()
        self.sent: deque[tuple[Partition, CommittedOffset]] = deque()
        self.answers: list[Answer] = []
        self._wants_rejoin = False
        self._listener: Listener
        self.unreadable: dict[Partition, str] = {}
        self.denied: set[Partition] = set()  # what this account may not read
        self._told: dict[Partition, dict[str, int]] = {}  # what a client said of a partition, and does not repeat

    def listen(self, listener: Listener) -> None:
        """Join the group."""
        self._listener = listener
        self.broker.join(self)

    def poll(self, timeout_s: float) -> Polled:
        """Serve callbacks first, as librdkafka does, then return what there is."""
        del timeout_s
        if self.broker.is_away:
            return Polled()
        self.deliver()
        if self._wants_rejoin:
            self._wants_rejoin = False
            self.leave()
            self.broker.join(self)
        elif self not in self.broker.members:
            self._drop(tuple(self.positions), self._listener.lost)
            self.broker.join(self)
        self._give_up()
        self._take_over()
        records, ends, cut = self._fetch()
        answers, self.answers = self.answers, []
        denied = {
            place: "may not be read" for place in self.denied & self.positions.keys() if self._is_news(place, denied=1)
        }
        return Polled(records, ends, answers, cut, dict(self.unreadable), denied)

    def _is_news(self, place: Partition, **what: int) -> bool:
        """Tell whether something was not said since a seek: a client repeats neither an end nor a refusal."""
        told = self._told.setdefault(place, {})
        is_news = not what.items() <= told.items()
        told |= what
        return is_news

    def commit(self, marks: Mapping[Partition, CommittedOffset]) -> None:
        """Send marks; one at a time for each partition."""
        waiting = {place for place, _ in self.sent}
        assert not waiting & set(marks), "a second mark before the first was answered"
        assert not {answer.partition for answer in self.answers} & set(marks)
        self.sent.extend(marks.items())

    def deliver(self) -> None:
        """Let what was sent reach the broker, in order."""
        while self.sent:
            place, mark = self.sent.popleft()
            error = self.broker.commit(self, place, mark)
            if place in self.positions:
                self.answers.append(Answer(place, mark, error))

    def pause(self, partition: Partition) -> None:
        """Take no more records of a partition."""
        assert partition in self.positions
        self.paused.add(partition)

    def resume(self, partition: Partition) -> None:
        """Take records of a partition again."""
        assert partition in self.positions
        self.paused.discard(partition)

    def seek(self, partition: Partition, position: Position) -> bool:
        """Read from here on; now and then not yet."""
        if self.broker.refuses_seeks:
            return False
        self.positions[partition] = position
        self._seen.pop(partition, None)
        self._told.pop(partition, None)
        return True

    def rejoin(self) -> None:
        """Give up everything at the next poll, and join again."""
        self._wants_rejoin = True

    def leave(self) -> None:
        """Give up everything and leave the group, as `close` does."""
        self._drop(tuple(self.positions), self._listener.revoked)
        self.broker.remove(self)

    def _give_up(self) -> None:
        if self.epoch == self.broker.epoch:
            return
        going = tuple(self.positions)
        if not self.broker.is_eager:
            going = tuple(place for place in going if self.broker.target(place) is not self)
        self._drop(going, self._listener.revoked)
        self.epoch = self.broker.epoch

    def _drop(self, places: tuple[Partition, ...], say: Callable[[tuple[Partition, ...]], None]) -> None:
        if places:
            say(places)
        self.deliver()  # before anybody else hears that the partitions are free
        for place in places:
            del self.positions[place]
            self._seen.pop(place, None)
            self._told.pop(place, None)
            self.paused.discard(place)
            if self.broker.owners.get(place) is self:
                del self.broker.owners[place]
        self.answers = [answer for answer in self.answers if answer.partition in self.positions]

    def _take_over(self) -> None:
        if not self.broker.may_assign():
            return
        free = [place for place in self.broker.logs if place not in self.broker.owners]
        mine = [place for place in free if self.broker.target(place) is self]
        self.broker.owners |= dict.fromkeys(mine, self)
        items = [self._describe(place) for place in mine]
        if items:
            self.positions |= self._listener.assigned(items)

    def _describe(self, place: Partition) -> Assigned:
        log = self.broker.logs[place]
        end = log.end if self.broker.tells_ends else None
        return Assigned(place, self.broker.topic_id, self.broker.marks.get(place), log.low, end)

    def _cut(self, place: Partition, position: Position) -> Cut | None:
        """Return why a partition can't be read on; epochs are compared when the leader is another, or after a seek."""
        log = self.broker.logs[place]
        if self._seen.get(place) != log.epoch and position.leader_epoch != NO_EPOCH and self.broker.compares_epochs:
            end = log.end_of_epoch(position.leader_epoch)
            if end is None or end < position.offset:
                return Cut(is_other=True, end=end)
        self._seen[place] = log.epoch
        return None if log.low <= position.offset <= log.end else Cut(is_other=False)

    def _fetch(self) -> tuple[list[Record], dict[Partition, int], dict[Partition, Cut]]:
        records: list[Record] = []
        ends: dict[Partition, int] = {}
        cuts: dict[Partition, Cut] = {}
        for place, position in self.positions.items():
            if position is None or place in self.paused or place in self.unreadable or place in self.denied:
                continue
            if (cut := self._cut(place, position)) is not None:
                cuts[place] = cut
                continue
            log = self.broker.logs[place]
            found = [log.records[at] for at in range(position.offset, log.end) if at in log.records][: self.records_max]
            records += found
            at_end = not found or found[-1].offset == max(log.records)
            epoch = found[-1].leader_epoch if found else position.leader_epoch
            self.positions[place] = Position(log.end if at_end else found[-1].offset + 1, epoch)
            if at_end and self._is_news(place, end=log.end):
                ends[place] = log.end
        return records, ends, cuts
