"""What consumer/kafka/__init__.py says of assignments and of reading, on real brokers: one test for each sentence."""

import time
import uuid

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from consumer.delivery.ports import CommittedOffset, Position
from consumer.kafka import messages
from consumer.kafka.admin_connection import AdminConnection
from consumer.kafka.consumer import KafkaLog
from consumer.kafka.messages import UNREADABLE
from tests.support.fixtures_group import CLASSIC_ON_KAFKA, ON_EMBEDDED, ON_KAFKA, Group
from tests.support.kafka_clients import producer
from tests.support.log_members import Member, until
from tests.support.raw_headers import produce

pytestmark = pytest.mark.kafka
on_kafka = pytest.mark.parametrize("group", ON_KAFKA, ids="-".join, indirect=True)
# What no protocol of groups has a part in; where it matters only whether a group assigns all at once, two of them.
on_one = pytest.mark.parametrize("group", ON_KAFKA[:1], ids="-".join, indirect=True)
on_both_brokers = pytest.mark.parametrize("group", [*CLASSIC_ON_KAFKA, *ON_EMBEDDED], ids="-".join, indirect=True)


def rejoin(member: Member) -> None:
    """Let a member give up everything and wait until it has it again."""
    before = len(member.names)
    member.log.rejoin()
    until(
        lambda: len(member.owned) == 4 and member.names[before:] in (["revoked", "assigned"], ["assigned"]), member.poll
    )


@on_both_brokers
def test_a_paused_partition_is_read_on_after_it_came_back(group: Group) -> None:
    """A pause outlives the assignment in librdkafka, so the log takes it away: the new state knows of none."""
    place = group.places[0]
    group.produce([b"x"] * 10)
    member = group.member()
    until(lambda: member.offsets(place) == list(range(10)), member.poll)
    member.log.pause(place)

    rejoin(member)

    until(lambda: member.offsets(place)[10:] == list(range(10)), member.poll)


@on_one
def test_a_pause_outlives_the_assignment(group: Group) -> None:
    """The fact itself, of an ordinary consumer: nothing comes until it is resumed."""
    group.produce([b"x"] * 10)
    member = Consumer({**group.properties, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    for _ in range(2):
        member.subscribe([group.topic])
        until(lambda: len(member.assignment()) == 4, lambda: member.poll(0))
        places = member.assignment()
        member.pause(places)
        member.unsubscribe()
        until(lambda: not member.assignment(), lambda: member.poll(0))
    member.subscribe([group.topic])
    until(lambda: len(member.assignment()) == 4, lambda: member.poll(0))

    assert member.consume(10, 1.5) == []
    member.resume(places)
    assert len(member.consume(10, 60)) == 10
    member.close()


@on_kafka
def test_a_partition_that_is_not_to_be_read_is_not(group: Group) -> None:
    """The listener said so; asked again, it may say otherwise."""
    group.produce([b"x"] * 10)
    group.produce([b"x"] * 10, number=1)
    unread, other, *_ = group.places
    member = group.member()
    member.starts[unread] = None
    until(lambda: len(member.offsets(other)) == 10, member.poll)
    group.produce([b"x"] * 5)
    group.produce([b"x"] * 5, number=1)
    until(lambda: len(member.offsets(other)) == 15, member.poll)
    assert member.offsets(unread) == []

    member.starts.clear()
    rejoin(member)

    until(lambda: member.offsets(unread) == list(range(15)), member.poll)


@on_kafka
def test_an_offset_out_of_range_cuts_the_partition_until_it_is_asked_for_again(group: Group) -> None:
    """Below the log, and beyond it; a seek is refused."""
    place = group.places[0]
    group.produce([b"x"] * 10)
    admin = group.broker.admin()
    (deleted,) = admin.delete_records([TopicPartition(*place, 6)]).values()
    deleted.result(60)
    member = group.member()
    for start in (2, 50):  # below and beyond
        member.starts[place] = Position(start)
        rejoin(member)
        until(lambda: place in member.cut, member.poll)
        with pytest.raises(KafkaException, match="_STATE"):
            member.log._consumer.seek(TopicPartition(*place, 6))  # noqa: SLF001 - the fact is of librdkafka
        assert member.offsets(place) == []

        member.starts.clear()
        rejoin(member)

        until(lambda: member.offsets(place) == [6, 7, 8, 9], member.poll)
        assert member.owned[place].low == 6
        member.records.clear()
        member.cut.clear()


def recreate(group: Group) -> None:
    """Delete the group's topic and recreate it as soon as the broker allows."""
    admin: AdminClient = group.broker.admin()
    admin.delete_topics([group.topic])[group.topic].result(60)
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        try:
            admin.create_topics([NewTopic(group.topic, 4, 1)])[group.topic].result(60)
        except KafkaException:
            continue  # it is still being deleted
        return


def watching(group: Group) -> tuple[Member, str]:
    """Return a member that read ten records and paused, and the topic's id; then the topic is another, with thirty."""
    place = group.places[0]
    group.produce([b"old"] * 10)
    # One that has seen that the topic was not there looks again after this; workers do after 30 s.
    member = group.member(topic_metadata_refresh_interval_ms=2000)
    until(lambda: member.ends.get(place) == 10, member.poll)
    assert member.answer(place, CommittedOffset(10, "old")).error is None
    member.log.pause(place)
    before = member.log.id_of(group.topic)
    recreate(group)
    group.produce([b"new"] * 30)
    return member, before


@pytest.mark.parametrize("group", CLASSIC_ON_KAFKA, ids="-".join, indirect=True)
def test_a_classic_member_reads_on_in_a_topic_that_was_made_anew(group: Group) -> None:
    """It hears nothing; only the topic's id tells, and the group's mark is gone with the old topic."""
    place = group.places[0]
    member, before = watching(group)

    member.log.resume(place)
    until(lambda: len(member.offsets(place)) == 30 or place in member.cut, member.poll)

    assert member.names == ["assigned"]
    assert [record.value for record in member.records[10:]] == [b"new"] * 20
    assert member.log.id_of(group.topic) == group.broker.topic_id(group.topic) != before
    assert group.marks() == {}


@pytest.mark.parametrize("group", ON_KAFKA[2:], ids="-".join, indirect=True)
def test_a_kip_848_member_is_given_the_topic_that_was_made_anew(group: Group) -> None:
    """It gives up the old one and reads the new one from its start."""
    place = group.places[0]
    member, before = watching(group)

    until(lambda: member.names == ["assigned", "revoked", "assigned"], member.poll)
    until(lambda: len(member.offsets(place)) == 40, member.poll)

    assert member.offsets(place)[10:] == list(range(30))
    assert member.owned[place].topic_id != before
    assert member.owned[place].committed is None


@on_one
def test_ends_are_beyond_what_holds_no_record(group: Group) -> None:
    """Markers of transactions, and records of aborted ones: never seen, but the end tells that they are behind."""
    committed, aborted, *_ = group.places
    sender = producer(group.broker.bootstrap_servers, transactional_id=f"t-{uuid.uuid4().hex}")
    sender.init_transactions(60)
    for is_kept in (True, False, True):
        sender.begin_transaction()
        sender.produce(group.topic, b"x", partition=0)
        if not is_kept:
            sender.produce(group.topic, b"x", partition=1)
        assert sender.flush(60) == 0
        (sender.commit_transaction if is_kept else sender.abort_transaction)(60)
    member = group.member()

    until(lambda: member.ends.get(committed) == 6 and member.ends.get(aborted) == 2, member.poll)

    assert (member.offsets(committed), member.offsets(aborted)) == ([0, 4], [])
    assert member.log.end_of(committed) == 6


@on_both_brokers
def test_records_come_whole_and_the_end_after_them(group: Group) -> None:
    """Key, value and headers, where there are none too."""
    place = group.places[0]
    sender = producer(group.broker.bootstrap_servers)
    sender.produce(group.topic, b"value", b"key", partition=0, headers=[("name", b"\x00"), ("none", None)])
    sender.produce(group.topic, None, partition=0)
    assert sender.flush(60) == 0
    member = group.member()

    until(lambda: member.ends.get(place) == 2, member.poll)

    first, second = member.records
    assert (first.offset, first.key, first.value, first.headers) == (
        0,
        b"key",
        b"value",
        (("name", b"\x00"), ("none", b"")),
    )
    assert first.timestamp_ms > 0
    assert (second.offset, second.key, second.value, second.headers) == (1, b"", b"", ())


@on_one
def test_the_cluster_has_one_id(group: Group) -> None:
    """It starts every token, so it must be the same for every member."""
    one, other = (
        KafkaLog(group.properties, [group.topic], AdminConnection(group.properties)).cluster_id() for _ in range(2)
    )

    assert one == other == group.broker.admin().list_topics(timeout=60).cluster_id


@on_one
@pytest.mark.parametrize("is_compiled", [True, False])
def test_a_header_name_that_is_no_text_stops_nobody(
    group: Group, monkeypatch: pytest.MonkeyPatch, *, is_compiled: bool
) -> None:
    """The driver fails on it, in one way in a cold interpreter and in another in a warm one; it comes all the same."""
    assert messages.IS_COMPILED
    monkeypatch.setattr(messages, "IS_COMPILED", is_compiled)
    place = group.places[0]
    for _ in range(3):
        produce(group.broker.bootstrap_servers, place.topic, b"odd", b"\xff\xfe")
        group.produce([b"x"] * 200)
    member = group.member()
    until(lambda: len(member.offsets(place)) == 603, member.poll)

    records = [record for record in member.records if record.partition == place]
    assert {(record.value, record.headers) for record in records} == {(b"odd", (UNREADABLE,)), (b"x", ())}
