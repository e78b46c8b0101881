"""What consumer/kafka/__init__.py says of logs that were cut, on a real broker: one test for each sentence."""

from pathlib import Path

import pytest
from confluent_kafka import OFFSET_END, Consumer, Message, TopicPartition

from consumer.delivery.ports import CommittedOffset, Cut, Partition, Position
from consumer.kafka import starts
from tests.integration.test_consumer_kafka_away import Deaf
from tests.support.cut_logs import copy_log, put_back
from tests.support.fixtures_group import PROTOCOLS, member_properties
from tests.support.kafka import KafkaCluster
from tests.support.kafka_clients import deliver
from tests.support.log_members import Member, until

pytestmark = pytest.mark.kafka
TOPIC = "cut"
PLACE = Partition(TOPIC, 0)


@pytest.fixture(scope="module")
def cut(one_node: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> KafkaCluster:
    """A node on which a log had thirty records, was put back to twenty, and then took fifteen."""
    copy: Path = tmp_path_factory.mktemp("log") / "copy"
    one_node.create_topic(TOPIC)
    deliver(one_node.bootstrap_servers, TOPIC, [b"first"] * 20)
    copy_log(one_node.nodes[0], TOPIC, 0, copy)
    deliver(one_node.bootstrap_servers, TOPIC, [b"lost"] * 10)
    put_back(one_node.nodes[0], TOPIC, 0, copy)
    deliver(one_node.bootstrap_servers, TOPIC, [b"new"] * 15)
    return one_node


def member_at(cluster: KafkaCluster, protocol: str, name: str, position: Position) -> Member:
    """Return a member of a group of its own that starts at a position."""
    member = Member(member_properties(cluster, f"{name}-{protocol}", protocol), TOPIC)
    member.starts[PLACE] = position
    return member


def epochs_of(cluster: KafkaCluster) -> dict[int, int]:
    """Return the leader epoch of each record."""
    reader = member_at(cluster, "range", "epochs", Position(0))
    until(lambda: len(reader.offsets(PLACE)) == 35, reader.poll)
    reader.log.close()
    return {record.offset: record.leader_epoch for record in reader.records}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_member_hears_of_a_log_that_was_cut(cut: KafkaCluster, protocol: str) -> None:
    """Where it parts from what was read; the record before its own position is asked for, when its epoch is known."""
    epochs = epochs_of(cut)
    lost_epoch = epochs[20] - 1
    assert epochs[19] < lost_epoch
    told = member_at(cut, protocol, "told", Position(30, lost_epoch))
    until(lambda: PLACE in told.cut, told.poll)
    untold = member_at(cut, protocol, "untold", Position(30))
    until(lambda: len(untold.offsets(PLACE)) == 5, untold.poll)
    well = member_at(cut, protocol, "well", Position(20, epochs[19]))
    until(lambda: len(well.offsets(PLACE)) == 15, well.poll)
    newer = member_at(cut, protocol, "newer", Position(30, 99))
    until(lambda: PLACE in newer.cut, newer.poll)

    assert told.cut == {PLACE: Cut(is_other=True, end=20)}
    assert newer.cut == {PLACE: Cut(is_other=True)}
    assert (untold.cut, well.cut, told.records) == ({}, {}, [])
    for member in (told, untold, well, newer):
        member.log.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_position_that_is_assigned_is_read_from_as_it_stands(cut: KafkaCluster, protocol: str) -> None:
    """The fact itself, of an ordinary consumer of a group: only the seek asks."""
    lost = TopicPartition(TOPIC, 0, 30, leader_epoch=epochs_of(cut)[20] - 1)
    for seeks in (False, True):
        properties = member_properties(cut, f"assigned-{protocol}-{seeks}", protocol)
        reader = Consumer({**properties, "auto.offset.reset": "error", "enable.auto.commit": False})
        reader.list_topics(timeout=60)

        def take(member: Consumer, _: object, seeks: bool = seeks) -> None:  # noqa: FBT001  (bound now, not late)
            (member.assign if protocol == "range" else member.incremental_assign)([lost])
            if seeks:
                member.seek(lost)

        reader.subscribe([TOPIC], on_assign=take)
        (message,) = _first(reader)
        assert (message.error() is None, message.offset() == 30) == (not seeks, not seeks)
        reader.close()


def test_a_seek_is_overtaken_by_what_was_asked_about_the_end(cut: KafkaCluster) -> None:
    """The fact that makes a partition whose marks can't be read yet wait at an offset, not at the end.

    The two race: on a busy machine the seek may win.
    """
    assert any(_is_overtaken(cut, f"overtaken-{number}") for number in range(10)), "the seek held each time"


def _is_overtaken(cut: KafkaCluster, group: str) -> bool:
    start = TopicPartition(TOPIC, 0, 20, leader_epoch=epochs_of(cut)[19])
    reader = Consumer({**member_properties(cut, group, "range"), "enable.partition.eof": True})
    reader.list_topics(timeout=60)

    def take(member: Consumer, _: object) -> None:
        member.assign([TopicPartition(TOPIC, 0, OFFSET_END)])
        member.seek(start)

    reader.subscribe([TOPIC], on_assign=take)
    (message,) = _first(reader)
    reader.close()
    return message.error() is not None and message.offset() == 35


def test_a_partition_that_is_opened_at_once_again_is_read_from_its_mark(
    cut: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing about its end is under way that could move it there."""
    monkeypatch.setattr(starts, "_ASK_AGAIN_S", 0.0)
    member = member_at(cut, "range", "late", Position(3))
    member.log._starts._survey = Deaf(member.log._survey)  # noqa: SLF001 - a broker can't be made deaf to one question

    until(lambda: len(member.offsets(PLACE)) == 32, member.poll)

    assert member.offsets(PLACE) == list(range(3, 35))
    member.log.close()


def test_a_commit_keeps_the_epoch_of_the_record_before_it(cut: KafkaCluster) -> None:
    """It comes back with the offset and the text, and with the answer."""
    member = member_at(cut, "range", "kept", Position(0))
    until(lambda: bool(member.owned), member.poll)

    assert member.answer(PLACE, CommittedOffset(7, "text", 4)).error is None
    member.log.close()
    again = member_at(cut, "range", "kept", Position(7))
    until(lambda: bool(again.owned), again.poll)
    assert again.owned[PLACE].committed == CommittedOffset(7, "text", 4)
    assert again.owned[PLACE].end == 35
    again.log.close()


def _first(reader: Consumer) -> list[Message]:
    found: list[Message] = []
    until(lambda: bool(found), lambda: found.extend(reader.consume(1, 0.2)))
    return found
