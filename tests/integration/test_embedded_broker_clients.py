"""What clients of the embedded broker can and cannot rely on; each test states one fact of it."""

import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition

from deploy.embedded.broker import create_topics
from tests.support.kafka_broker import Broker, speaks_kip848
from tests.support.kafka_clients import await_assignment, consumer, deliver, producer, read, read_all

pytestmark = pytest.mark.kafka

Topics = Callable[..., str]


def test_creating_a_topic_again_changes_nothing(embedded_broker: Broker, topic: str) -> None:
    """create_topics makes what is missing and leaves what is there, its partitions too."""
    deliver(embedded_broker.bootstrap_servers, topic, [b"kept"])
    create_topics(embedded_broker.bootstrap_servers, {topic: 5, f"{topic}-more": 3})
    create_topics(embedded_broker.bootstrap_servers, {})
    leaders = embedded_broker.leaders(embedded_broker.bootstrap_servers)
    assert (len(leaders[topic]), len(leaders[f"{topic}-more"])) == (1, 3)
    assert read_all(embedded_broker, topic, 1) == [b"kept"]


def test_an_idempotent_producer_with_all_acks_is_served(embedded_broker: Broker, topic: str) -> None:
    """Acknowledged offsets count up from 0 without a gap, over two producers."""
    assert deliver(embedded_broker.bootstrap_servers, topic, [b"x"] * 500) == list(range(500))
    assert deliver(embedded_broker.bootstrap_servers, topic, [b"x"] * 10) == list(range(500, 510))


@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
def test_compressed_batches_come_back(embedded_broker: Broker, topic: str, codec: str) -> None:
    """Every codec of the client round-trips."""
    values = [codec.encode() * 100] * 20
    deliver(embedded_broker.bootstrap_servers, topic, values, compression_type=codec)
    assert read_all(embedded_broker, topic, 20) == values


def test_key_headers_and_timestamp_round_trip(embedded_broker: Broker, topic: str) -> None:
    """A record comes back with all of its parts, an absent header value and a repeated header too."""
    headers: list[tuple[str, str | bytes | None]] = [("origin", b"\x00\xff"), ("origin", b"2"), ("none", None)]
    sender = producer(embedded_broker.bootstrap_servers)
    sender.produce(topic, value=b"\x00value", key=b"key\xff", headers=headers, timestamp=1_700_000_000_123)
    sender.produce(topic, value=None, key=b"tombstone")
    assert sender.flush(60) == 0
    member = consumer(embedded_broker, f"group-{topic}")
    try:
        member.assign([TopicPartition(topic, 0, 0)])
        record, tombstone = read(member, 2)
    finally:
        member.close()
    assert (record.key(), record.value(), record.headers()) == (b"key\xff", b"\x00value", headers)
    assert record.timestamp()[1] == 1_700_000_000_123
    assert (tombstone.key(), tombstone.value()) == (b"tombstone", None)


def test_the_group_forms_in_half_of_the_session_timeout(embedded_broker: Broker, topic: str) -> None:
    """The heartbeat has no part in it; consumer_settings keep it near 1 s."""
    groups = count()

    def forms_s(session_ms: int, heartbeat_ms: int) -> float:
        times = {"session_timeout_ms": session_ms, "heartbeat_interval_ms": heartbeat_ms}
        member = consumer(embedded_broker, f"group-{topic}-{next(groups)}", **times)
        member.subscribe([topic])
        took_s = await_assignment([member], 1)
        member.close()
        return took_s

    assert forms_s(9000, 200) > 4.4
    assert any(forms_s(2000, 500) < 4.4 for _ in range(10))  # 1 s on a quiet machine


def test_two_members_share_the_partitions_and_one_inherits(embedded_broker: Broker, new_topic: Topics) -> None:
    """A second member gets half, and what a leaving one had goes to the other."""
    topic = new_topic(partitions=4)
    first, second = (consumer(embedded_broker, f"group-{topic}") for _ in range(2))
    first.subscribe([topic])
    await_assignment([first], 4)
    second.subscribe([topic])
    await_assignment([first, second], 4)
    assert (len(first.assignment()), len(second.assignment())) == (2, 2)
    second.close()
    await_assignment([first], 4)
    first.close()


def test_a_killed_member_is_expelled_after_its_session(embedded_broker: Broker, topic: str) -> None:
    """The partition of a member that was killed goes to the next one within some session timeouts."""
    program = (
        "import sys\nfrom confluent_kafka import Consumer\n"
        f"c = Consumer({{'bootstrap.servers': {embedded_broker.bootstrap_servers!r}, 'group.id': 'group-{topic}',"
        " 'session.timeout.ms': 2000, 'heartbeat.interval.ms': 500})\n"
        f"c.subscribe([{topic!r}])\n"
        "while not c.assignment():\n    c.poll(0.1)\n"
        "print('joined', flush=True)\nwhile True:\n    c.poll(0.1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"joined\n"
        victim.kill()
    successor = consumer(embedded_broker, f"group-{topic}")
    successor.subscribe([topic])
    await_assignment([successor], 1)
    successor.close()


def test_a_group_resumes_at_its_commit(embedded_broker: Broker, topic: str) -> None:
    """The next member starts at the committed offset, the first one at the earliest."""
    deliver(embedded_broker.bootstrap_servers, topic, [b"0", b"1", b"2", b"3"])
    first = consumer(embedded_broker, f"group-{topic}")
    first.subscribe([topic])
    assert [record.offset() for record in read(first, 4)] == [0, 1, 2, 3]
    first.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)
    first.close()
    second = consumer(embedded_broker, f"group-{topic}")
    second.subscribe([topic])
    assert [record.value() for record in read(second, 2)] == [b"2", b"3"]
    second.close()


def test_the_metadata_of_a_commit_is_not_kept(embedded_broker: Broker, topic: str) -> None:
    """An intent cannot live here: the offset comes back and its metadata does not."""
    member = consumer(embedded_broker, f"group-{topic}")
    member.subscribe([topic])
    await_assignment([member], 1)
    member.commit(offsets=[TopicPartition(topic, 0, 3, metadata="intent")], asynchronous=False)
    (committed,) = member.committed([TopicPartition(topic, 0)], timeout=60)
    member.close()
    assert (committed.offset, committed.metadata) == (3, None)


def test_an_expelled_member_cannot_commit(embedded_broker: Broker, topic: str) -> None:
    """Who did not poll in time is refused by name: the fence holds here too."""
    member = consumer(embedded_broker, f"group-{topic}", max_poll_interval_ms=2000, session_timeout_ms=2000)
    member.subscribe([topic])
    await_assignment([member], 1)
    deadline_s = time.monotonic() + 60
    refusals: set[int] = set()
    while not refusals and time.monotonic() < deadline_s:
        time.sleep(0.5)  # not polling is the fault that this test makes
        try:
            member.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
        except KafkaException as refusal:
            refusals.add(refusal.args[0].code())
    member.close()
    assert refusals
    assert refusals <= {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION}


def test_latest_starts_behind_what_is_there(embedded_broker: Broker, topic: str) -> None:
    """auto.offset.reset=latest skips the old record and reads the new one."""
    deliver(embedded_broker.bootstrap_servers, topic, [b"old"])
    member = consumer(embedded_broker, f"group-{topic}", auto_offset_reset="latest", enable_partition_eof=True)
    member.subscribe([topic])
    while (end := member.poll(60)) is not None and end.error() is None:  # until it knows where the end is
        raise AssertionError(end.value())
    assert end is not None
    assert end.offset() == 1
    deliver(embedded_broker.bootstrap_servers, topic, [b"new"])
    assert [record.value() for record in read(member, 1)] == [b"new"]
    member.close()


def test_an_offset_past_the_end_is_silence(embedded_broker: Broker, topic: str) -> None:
    """A position that does not exist is not told as an error, whatever auto.offset.reset says."""
    deliver(embedded_broker.bootstrap_servers, topic, [b"only"])
    reader = consumer(embedded_broker, f"group-{topic}", auto_offset_reset="error")
    reader.assign([TopicPartition(topic, 0, 1000)])
    assert reader.poll(2) is None
    reader.close()


def test_only_fetch_tells_the_true_end(embedded_broker: Broker, topic: str) -> None:
    """ListOffsets answers one past the first record of the last batch; the watermark that Fetch brings is right."""
    deliver(embedded_broker.bootstrap_servers, topic, [b"x"] * 10)
    reader = consumer(embedded_broker, f"group-{topic}")
    part = TopicPartition(topic, 0, 0)
    reader.assign([part])
    read(reader, 10)
    asked = reader.get_watermark_offsets(part, timeout=60)
    fetched = reader.get_watermark_offsets(part, cached=True)
    reader.close()
    assert asked is not None
    assert asked[1] < 10
    assert fetched == (0, 10)


def test_a_waiting_fetch_looks_again_after_half_of_its_limit(embedded_broker: Broker, topic: str) -> None:
    """A record that comes meanwhile is seen only then, so consumer_settings have a small fetch.wait.max.ms."""

    def seen_s(wait_ms: int) -> float:
        reader = consumer(embedded_broker, f"group-{topic}", fetch_wait_max_ms=wait_ms)
        (start,) = deliver(embedded_broker.bootstrap_servers, topic, [b"first"])
        reader.assign([TopicPartition(topic, 0, start)])
        read(reader, 1)
        deliver(embedded_broker.bootstrap_servers, topic, [b"second"])  # takes 0.5 s, for its producer's id
        acknowledged_s = time.monotonic()
        read(reader, 1)
        reader.close()
        return time.monotonic() - acknowledged_s

    # A machine that is busy with other tests may be late with any of them, but not with each.
    assert any(seen_s(50) + 0.5 < seen_s(6000) < 6.0 for _ in range(5))


def test_topics_have_ids_and_an_unknown_one_is_an_error(embedded_broker: Broker, topic: str) -> None:
    """describe_topics gives an id and every partition's leader, and refuses a name it does not know."""
    admin = embedded_broker.admin()
    known, unknown = topic, f"{topic}-unknown"
    answers = admin.describe_topics(TopicCollection([known, unknown]))
    description = answers[known].result(60)
    assert len(str(description.topic_id)) == 22  # 16 bytes in base64 without padding
    assert [part.id for part in description.partitions] == [0]
    with pytest.raises(KafkaException) as refusal:
        answers[unknown].result(60)
    assert refusal.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_producing_to_an_unknown_topic_makes_it(embedded_broker: Broker, topic: str) -> None:
    """A misspelt topic is not refused here, as it would be by a broker without automatic topics."""
    name = f"{topic}-misspelt"
    assert deliver(embedded_broker.bootstrap_servers, name, [b"x"]) == [0]
    assert name in embedded_broker.leaders(embedded_broker.bootstrap_servers)


def test_the_groups_of_kip_848_are_not_served(embedded_broker: Broker) -> None:
    """ConsumerGroupHeartbeat is not among its APIs, so the worker must use a classic group here."""
    assert not speaks_kip848(embedded_broker.bootstrap_servers)
