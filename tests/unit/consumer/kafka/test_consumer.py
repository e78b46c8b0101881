"""A member over a client that says what a test tells it to; how real ones behave, the integration tests state."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from consumer.delivery.ports import Assigned, CommittedOffset, Partition
from consumer.kafka import admin_connection, consumer, ends, starts
from consumer.kafka.admin_connection import AdminConnection
from consumer.kafka.consumer import KafkaLog
from consumer.kafka.refusals import Refusals
from tests.support.consumer_fakes import Clock

PLACE, OTHER = Partition("events", 0), Partition("events", 1)
MARK = CommittedOffset(8, "")
KIP_848_REFUSAL = KafkaError(KafkaError._FATAL, "Fatal error: Broker: Group authorization failed: heartbeat")  # noqa: SLF001  (its public name)


def said(topic: str | None, partition: int = -1, error: KafkaError | None = None) -> Message:
    """Return a message; some errors are about no topic."""
    if topic is None:
        return Message(error=error)
    return Message(topic=topic, partition=partition, offset=8, error=error)


class Client:
    """Both a consumer and an admin client."""

    made: list["Client"]

    def __init__(self, _: object, on_commit: Callable[..., None] | None = None, **__: object) -> None:
        self.on_commit = on_commit
        self.sent: list[TopicPartition] = []
        self.says: list[Message] = []
        self.is_cut_off = False
        self.trouble = KafkaError._TRANSPORT  # noqa: SLF001  (its public name)
        self.on_assign: Callable[..., None]
        if on_commit is not None:
            self.made.append(self)

    def subscribe(
        self, _: Sequence[str], on_assign: Callable[..., None], on_lost: Callable[..., None], **__: object
    ) -> None:
        """Keep whom to tell."""
        self.on_assign, self.on_lost = on_assign, on_lost

    def consume(self, *_: object) -> list[Message]:
        """Say it all."""
        says, self.says = self.says, []
        return says

    def commit(self, offsets: list[TopicPartition], **_: object) -> None:
        """Keep what was sent."""
        self.sent += offsets

    def answer(self) -> None:
        """Answer the oldest commit: it is stored."""
        assert self.on_commit is not None
        self.on_commit(None, [self.sent.pop(0)])

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        """Return what fetches have told: nothing."""
        return -1001, -1001

    def list_offsets(self, asked: dict[TopicPartition, object], **_: object) -> dict[TopicPartition, Future[Any]]:
        """Tell that every partition ends at 70."""
        answer: Future[Any] = Future()
        answer.set_result(SimpleNamespace(offset=70))
        return dict.fromkeys(asked, answer)

    def list_topics(self, *_: object, **__: object) -> None:
        """Answer if it reaches a broker."""
        if self.is_cut_off:
            raise KafkaException(KafkaError(self.trouble))

    def ignore(self, *_: object, **__: object) -> None:
        """Do nothing."""

    poll = assign = unassign = incremental_assign = incremental_unassign = pause = resume = seek = close = ignore


class Listener:
    """Reads no partition, and keeps what it has lost."""

    def __init__(self) -> None:
        self.gone: list[Partition] = []

    def assigned(self, partitions: Sequence[Assigned]) -> dict[Partition, None]:
        """Begin nowhere."""
        return {item.partition: None for item in partitions}

    def lost(self, partitions: Sequence[Partition]) -> None:
        """Note them."""
        self.gone += partitions

    revoked = lost


class Member:
    """A log, its clock, and its present client."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, protocol: str = "classic") -> None:
        self.clock, self.made = Clock(), list[Client]()
        monkeypatch.setattr(Client, "made", self.made, raising=False)
        monkeypatch.setattr(consumer, "Consumer", Client)
        monkeypatch.setattr(admin_connection, "AdminClient", Client)
        monkeypatch.setattr(consumer, "monotonic", self.clock)
        monkeypatch.setattr(ends, "monotonic", self.clock)
        monkeypatch.setattr(starts, "monotonic", self.clock)
        monkeypatch.setattr(consumer, "Refusals", partial(Refusals, now_s=self.clock))
        self.log = KafkaLog(
            {"group.id": "headrace", "group.protocol": protocol}, ["events", "events.dead"], AdminConnection({})
        )
        self.is_away = False
        monkeypatch.setattr(self.log._survey, "of", self._found)  # noqa: SLF001  (asks brokers)
        self.listener = Listener()
        self.log.listen(self.listener)

    def _found(self, places: Sequence[Partition]) -> list[Assigned]:
        if self.is_away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))  # noqa: SLF001  (its public name)
        return [Assigned(place, "id", None, 0, 0) for place in places]

    @property
    def client(self) -> Client:
        """The one that joined last."""
        return self.made[-1]

    def own(self, *places: Partition) -> None:
        """Let the group give it partitions."""
        self.client.on_assign(self.client, [TopicPartition(*place) for place in places])

    def hears(self, *says: Message) -> None:
        """Poll, with these messages."""
        self.client.says += says
        self.log.poll(0)


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> Member:
    """A member that owns a partition."""
    made = Member(monkeypatch)
    made.own(PLACE)
    return made


def test_a_commit_that_an_ended_client_sent_is_not_waited_for_by_its_successor(member: Member) -> None:
    """The same mark again: the new client's answer counts; the old one's, if it comes at all, is nobody's."""
    member.log.commit({PLACE: MARK})
    (old,) = member.made
    member.hears(said(None, error=KIP_848_REFUSAL))
    member.clock.now_s += 60
    member.hears()
    assert member.client is not old
    member.own(PLACE, OTHER)
    member.log.commit({PLACE: MARK})
    member.client.answer()

    assert [answer.mark for answer in member.log.poll(0).answers] == [MARK]
    old.answer()
    assert member.log.poll(0).answers == []
    member.log.commit({OTHER: MARK})
    assert len(member.client.sent) == 1


def test_a_poll_ends_when_a_commit_is_answered(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    """An insert may wait for it; the records that are left come with the next poll."""
    portions = [[said("events", number)] for number in range(3)]

    def consume(*_: object) -> list[Message]:
        if len(portions) == 2:
            member.client.answer()
        return portions.pop(0) if portions else []

    monkeypatch.setattr(member.client, "consume", consume)
    member.log.commit({PLACE: MARK})

    polls = [member.log.poll(0) for _ in range(2)]
    assert [[record.partition.number for record in polled.records] for polled in polls] == [[0, 1], [2]]
    assert [[answer.mark for answer in polled.answers] for polled in polls] == [[MARK], []]


def test_a_group_that_answers_a_commit_refuses_no_more(member: Member) -> None:
    """The coordinator was asked for once without the right; the member never lost its partitions."""
    member.hears(said(None, error=KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)))
    assert "give it Read on that group" in member.log.refusal
    member.clock.now_s += 1
    member.hears()
    assert member.log.refusal
    member.log.commit({PLACE: MARK})
    member.client.answer()
    member.log.poll(0)

    assert member.log.refusal == ""


def test_a_group_that_keeps_an_idle_member_for_a_session_refuses_it_no_more(member: Member) -> None:
    """It has nothing to commit. Had its heartbeats been refused, it would have lost its partitions."""
    refused = said(None, error=KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
    member.hears(refused)
    member.clock.now_s += 44
    member.hears(refused)
    member.clock.now_s += 44
    member.hears()
    assert member.log.refusal
    member.clock.now_s += 2
    member.hears()

    assert member.log.refusal == ""


def test_a_group_that_has_expelled_its_member_refuses_it_still(member: Member) -> None:
    """However long it says nothing."""
    member.hears(said(None, error=KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)))
    member.client.on_lost(member.client, [TopicPartition(*PLACE)])
    member.clock.now_s += 600
    member.hears()

    assert "give it Read on that group" in member.log.refusal


def test_a_topic_whose_end_comes_is_refused_no_more(member: Member) -> None:
    """No assignment follows when the right is there again; what came in the same poll shows nothing.

    A refusal of the whole topic does not deny partition 0, which this member owns.
    """
    refused = said("events", error=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    end = said("events", 0, KafkaError(KafkaError._PARTITION_EOF))  # noqa: SLF001  (its public name)
    member.hears(end, refused)
    assert "may not read the topic events" in member.log.refusal
    member.clock.now_s += 1
    member.hears(said("events.dead", 0, KafkaError(KafkaError._PARTITION_EOF)))  # noqa: SLF001  (as above)
    assert member.log.refusal
    member.hears(end)

    assert member.log.refusal == ""


def test_a_topic_that_is_seen_again_is_refused_no_more(member: Member) -> None:
    """A member that has no partition of it gets no record; a broker is asked for it now and then."""
    member.hears(said("events.dead", error=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))
    answer: Future[object] = Future()
    answer.set_result(None)
    member.log._presence._take("events.dead", member.clock.now_s - 1, answer)  # noqa: SLF001  (a driver's thread does)
    member.hears()
    assert member.log.refusal
    member.log._presence._take("events.dead", member.clock.now_s + 1, answer)  # noqa: SLF001  (as above)
    member.hears()

    assert member.log.refusal == ""


@pytest.mark.parametrize("is_away", [False, True], ids=["at once", "late"])
def test_the_end_of_a_partition_that_is_not_read_is_asked_for(
    member: Member,
    is_away: bool,  # noqa: FBT001  (a case)
) -> None:
    """It is halted, and its lag grows; a broker that did not answer at its assignment changes nothing of that."""
    member.is_away = is_away
    member.own(OTHER)
    member.is_away = False
    member.clock.now_s += 3
    member.hears()
    assert member.log.end_of(OTHER) == 0
    member.clock.now_s += 6
    member.log.end_of(OTHER)

    assert member.log.end_of(OTHER) == 70


@pytest.fixture
def kip848(monkeypatch: pytest.MonkeyPatch) -> Member:
    """As `member`, in a group whose brokers alone end a session."""
    made = Member(monkeypatch, "consumer")
    made.own(PLACE)
    return made


class CutOff:
    """A member that has lost its partitions, and whose client reaches no broker."""

    def __init__(self, member: Member) -> None:
        self.member, self.first = member, member.client
        member.client.on_lost(member.client, [TopicPartition(*PLACE)])
        self.first.is_cut_off = True

    def turns(self, count: int, *, others_answer: bool = True) -> None:
        """Let so many polls pass, six seconds each, with or without an answer to the admin client."""
        for _ in range(count):
            self.member.clock.now_s += 6
            if others_answer:
                self.member.log._presence.described = {"events": self.member.clock.now_s - 1}  # noqa: SLF001  (a driver's thread)
            self.member.hears()


def test_a_client_that_alone_reaches_no_broker_is_replaced(member: Member) -> None:
    """After two looks; its successor joins the group."""
    cut_off = CutOff(member)
    cut_off.turns(1)
    assert member.client is cut_off.first
    cut_off.turns(1)

    assert member.client is not cut_off.first
    member.own(PLACE)
    member.log.commit({PLACE: MARK})
    member.client.answer()
    assert [answer.mark for answer in member.log.poll(0).answers] == [MARK]


def test_clients_are_replaced_less_and_less_often_when_it_does_not_help(member: Member) -> None:
    """Each goes through a rebalance of the whole group."""
    cut_off = CutOff(member)
    for _ in range(40):
        member.client.is_cut_off = True
        cut_off.turns(1)

    assert 1 < len(member.made) <= 6


def test_a_client_is_kept_while_nobody_reaches_a_broker(member: Member) -> None:
    """A new one would not either."""
    cut_off = CutOff(member)
    cut_off.turns(20, others_answer=False)

    assert member.client is cut_off.first


@pytest.mark.parametrize("owns", [True, False], ids=["owner", "idle"])
def test_a_client_that_reaches_its_brokers_is_kept(member: Member, owns: bool) -> None:  # noqa: FBT001  (a case)
    """An idle member of a large group owns nothing for days, and an owner's partitions may be silent as long."""
    cut_off = CutOff(member)
    cut_off.first.is_cut_off = False
    if owns:
        member.own(PLACE)
    cut_off.turns(20)

    assert member.client is cut_off.first


def test_an_owner_that_alone_reaches_no_broker_loses_its_partitions_and_is_replaced(kip848: Member) -> None:
    """The group tells it nothing, because it asks nobody. After a minute, when the old member's session is over."""
    cut_off = CutOff(kip848)
    kip848.own(PLACE)
    kip848.listener.gone.clear()
    cut_off.turns(11)
    assert (kip848.client, kip848.listener.gone) == (cut_off.first, [])
    cut_off.turns(1)

    assert kip848.client is not cut_off.first
    assert kip848.listener.gone == [PLACE]
    kip848.own(PLACE)
    kip848.log.commit({PLACE: MARK})
    kip848.client.answer()
    assert [answer.mark for answer in kip848.log.poll(0).answers] == [MARK]


def test_an_owner_whose_broker_is_late_is_kept(kip848: Member) -> None:
    """It waits a moment for an answer; the connection is there."""
    cut_off = CutOff(kip848)
    cut_off.first.trouble = KafkaError._TIMED_OUT  # noqa: SLF001  (its public name)
    kip848.own(PLACE)
    cut_off.turns(20)

    assert kip848.client is cut_off.first


def test_an_owner_that_hears_of_its_partitions_is_kept(kip848: Member) -> None:
    """It reads, so it has a connection, whatever a look finds."""
    cut_off = CutOff(kip848)
    kip848.own(PLACE)
    for _ in range(6):
        cut_off.turns(10)
        kip848.hears(said("events", 0, KafkaError(KafkaError._PARTITION_EOF)))  # noqa: SLF001  (its public name)

    assert kip848.client is cut_off.first


def test_a_classic_owner_is_told_by_its_client(member: Member) -> None:
    """When its session is over; a successor would wait for that, too, and the group with it."""
    cut_off = CutOff(member)
    member.own(PLACE)
    cut_off.turns(40)

    assert member.client is cut_off.first


def test_what_a_replaced_client_says_of_its_partitions_is_nobodys(kip848: Member) -> None:
    """It closes on its own thread, perhaps when its successor owns them already."""
    cut_off = CutOff(kip848)
    kip848.own(PLACE)
    cut_off.turns(12)
    kip848.own(PLACE)
    kip848.listener.gone.clear()
    cut_off.first.on_lost(cut_off.first, [TopicPartition(*PLACE)])

    assert kip848.log._formation.is_formed  # noqa: SLF001  (membership asks a broker)
    assert kip848.listener.gone == []


def test_one_look_that_fails_now_and_then_replaces_no_client(member: Member) -> None:
    """A connection is made again meanwhile."""
    cut_off = CutOff(member)
    for _ in range(10):
        cut_off.first.is_cut_off = not cut_off.first.is_cut_off
        cut_off.turns(1)

    assert member.client is cut_off.first


def test_what_came_before_a_partition_was_given_up_is_not_told_of_its_next_assignment(member: Member) -> None:
    """Both may happen within one poll. The new assignment begins at the committed offset, before the old one's end."""
    end = said("events", 0, KafkaError(KafkaError._PARTITION_EOF))  # noqa: SLF001  (its public name)
    other = said("events", 1, KafkaError(KafkaError._PARTITION_EOF))  # noqa: SLF001  (as above)
    portions = iter(([end, other], [], [end], []))

    def consume(*_: object) -> list[Message]:
        portion = next(portions)
        if not portion:  # librdkafka serves the group's callbacks within the call
            member.client.on_lost(member.client, [TopicPartition(*PLACE)])
            member.own(PLACE)
        return portion

    member.own(OTHER)
    member.client.consume = consume  # type: ignore[method-assign]  # what this client says depends on the call

    assert member.log.poll(0).ends == {OTHER: 8}
    assert member.log.poll(0).ends == {}
