"""The cluster seen from outside the group, on Apache Kafka and on the embedded broker."""

import itertools
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import TopicPartition

from consumer.delivery.intent import METADATA_BYTES_MAX
from consumer.delivery.ports import CommittedOffset, Partition
from consumer.errors import Fatal, Transient
from consumer.health import HealthMonitor, PartitionProgress
from consumer.kafka.admin import Cluster
from consumer.operations.completeness import Completeness
from consumer.operations.heart import Heart
from consumer.operations.preflight import LETTER_HEADERS_BYTES, check_metadata, find_topics, guarantee, size_warnings
from tests.support.consumer_fakes import Tally
from tests.support.kafka import Broker
from tests.support.kafka_clients import consumer, deliver, producer
from tests.support.log_members import until
from tests.support.ports import free_port


@pytest.fixture
def cluster(any_broker: Broker) -> Cluster:
    """A client of the broker, for a group of the test's own."""
    return Cluster({"bootstrap.servers": any_broker.bootstrap_servers}, f"group-{uuid.uuid4().hex[:8]}")


def test_a_topic_has_an_id_and_partitions_and_one_that_is_not_there_is_named(
    cluster: Cluster, any_broker: Broker, new_topic: Callable[..., str]
) -> None:
    """A worker that starts before the topic was made says what to run."""
    name = new_topic(partitions=3)

    (topic,) = find_topics(cluster, [name]).values()

    assert (topic.topic_id, topic.partitions) == (any_broker.topic_id(name), 3)
    with pytest.raises(
        Fatal, match=r"there is no topic nowhere: run `kafka-topics\.sh --bootstrap-server \S+ --create"
    ):
        find_topics(cluster, [name, "nowhere"])


def test_ends_are_right_where_records_are_and_where_none_are(
    cluster: Cluster, any_broker: Broker, new_topic: Callable[..., str]
) -> None:
    """Also on the broker whose ListOffsets tells too small an end."""
    name = new_topic(partitions=2)
    deliver(any_broker.bootstrap_servers, name, [b"x"] * 250)

    assert cluster.bounds([Partition(name, 0), Partition(name, 1)]) == {
        Partition(name, 0): (0, 250, 250),
        Partition(name, 1): (0, 0, 0),
    }


def test_heartbeats_of_a_worker_that_has_read_all_claim_it(
    cluster: Cluster, any_broker: Broker, new_topic: Callable[..., str]
) -> None:
    """Also on the broker whose ListOffsets tells too small an end."""
    name = new_topic(partitions=2)
    deliver(any_broker.bootstrap_servers, name, [b"x"] * 250)
    topic, monitor = cluster.topic(name), HealthMonitor(60, time.monotonic)
    assert topic is not None
    monitor.progress = {
        Partition(name, number): PartitionProgress(position, 0, 0.0, topic_id=topic.topic_id)
        for number, position in ((0, 250), (1, 0))
    }
    clock = itertools.count(100_000, 1000)
    heart = Heart(cluster, monitor, Completeness(0), lambda _: None, lambda: next(clock), Tally())
    for _ in range(2):
        heart.beat()

    assert [(beat.log_end, beat.complete_ms) for beat in heart.beat()] == [(250, 101_000), (0, 101_000)]


def test_marks_of_the_group_come_back_with_what_the_broker_keeps_of_them(
    cluster: Cluster, any_broker: Broker, topic: str
) -> None:
    """The audit and lag read them beside the group."""
    deliver(any_broker.bootstrap_servers, topic, [b"x"] * 10)
    member = consumer(any_broker, cluster.group)
    member.commit(offsets=[TopicPartition(topic, 0, 7, metadata="1|id|7|9|")], asynchronous=False)
    member.close()

    marks = cluster.committed([Partition(topic, 0)])

    assert marks == {
        Partition(topic, 0): CommittedOffset(7, "1|id|7|9|" if any_broker.supports_commit_metadata else "")
    }


def test_it_is_told_whether_metadata_is_kept(cluster: Cluster, any_broker: Broker, topic: str) -> None:
    """On the embedded broker it is not, and the log says which guarantee is left."""
    keeps = check_metadata(cluster, topic)

    assert keeps is any_broker.supports_commit_metadata
    assert ("at least once" in guarantee(keeps_metadata=keeps)) is not keeps
    assert any_broker.name == "embedded" or not _probes(any_broker, cluster)


def test_workers_that_start_together_do_not_take_each_others_probe(
    kafka: Broker, new_topic: Callable[..., str]
) -> None:
    """Eight of one group ask at once, and all are told the same; no group is left behind."""
    name, group = new_topic(), f"group-{uuid.uuid4().hex[:8]}"
    clusters = [Cluster({"bootstrap.servers": kafka.bootstrap_servers}, group) for _ in range(8)]

    with ThreadPoolExecutor(8) as pool:
        told = [keeps for _ in range(3) for keeps in pool.map(lambda cluster: cluster.keeps_metadata(name), clusters)]

    assert told == [kafka.supports_commit_metadata] * 24
    assert kafka.name == "embedded" or not _probes(kafka, clusters[0])


def test_the_log_is_asked_for_single_offsets(cluster: Cluster, any_broker: Broker, topic: str) -> None:
    """Where records are there is no gap, and beyond the end nobody knows of one."""
    deliver(any_broker.bootstrap_servers, topic, [b"x"] * 20)

    assert cluster.gaps(Partition(topic, 0), [3, 4, 17]) == set()
    assert cluster.gaps(Partition(topic, 0), [18, 19, 20, 99]) == set()


def test_what_the_log_holds_no_more_is_no_gap(kafka: Broker, new_topic: Callable[..., str]) -> None:
    """Deleted by retention or by hand: whether a record was there is unknown."""
    if kafka.name == "embedded":
        pytest.skip("the embedded broker deletes no records")
    name = new_topic()
    _send_transactions(kafka, name, 4)
    cluster = Cluster({"bootstrap.servers": kafka.bootstrap_servers}, "group")
    admin = kafka.admin()
    (deleted,) = admin.delete_records([TopicPartition(name, 0, 4)]).values()
    deleted.result(60)

    assert cluster.gaps(Partition(name, 0), list(range(9))) == {5, 7}
    assert cluster.gaps(Partition(name, 0), [0, 1, 2]) == set()


def test_the_marker_of_a_transaction_is_no_record(kafka: Broker, new_topic: Callable[..., str]) -> None:
    """An offset that the log uses up without a record: the audit does not call it missing."""
    name = new_topic()
    _send_transactions(kafka, name, 2)
    cluster = Cluster({"bootstrap.servers": kafka.bootstrap_servers}, "group")

    (bounds,) = cluster.bounds([Partition(name, 0)]).values()

    assert bounds == (0, 4, 4)
    assert cluster.gaps(Partition(name, 0), [0, 1, 2, 3]) == {1, 3}


def test_an_open_transaction_keeps_back_the_end(kafka: Broker, new_topic: Callable[..., str]) -> None:
    """What lies behind its first record can't be read yet; when that was written is known."""
    name = new_topic()
    place = Partition(name, 0)
    deliver(kafka.bootstrap_servers, name, [b"x"] * 3)
    began_ms = time.time() * 1000
    sender = producer(kafka.bootstrap_servers, transactional_id=f"t-{uuid.uuid4().hex[:8]}")
    sender.init_transactions(60)
    sender.begin_transaction()
    sender.produce(name, b"x")
    assert sender.flush(60) == 0
    deliver(kafka.bootstrap_servers, name, [b"x"] * 2)
    cluster = Cluster({"bootstrap.servers": kafka.bootstrap_servers}, "group")

    assert cluster.bounds([place]) == {place: (0, 3, 6)}
    assert began_ms - 1 <= (cluster.time_at(place, 3) or 0) <= time.time() * 1000
    sender.abort_transaction(60)
    until(lambda: cluster.bounds([place]) == {place: (0, 7, 7)})  # its marker may be on its way


def test_a_broker_with_too_little_room_is_refused(any_broker: Broker, topic: str) -> None:
    """An intent that does not fit would be refused at the worst moment."""

    class Narrow(Cluster):
        def broker_setting(self, name: str) -> str | None:
            assert name == "offset.metadata.max.bytes"
            return "512"

    narrow = Narrow({"bootstrap.servers": any_broker.bootstrap_servers}, "group")

    with pytest.raises(Fatal, match=f"is 512, but {METADATA_BYTES_MAX} are needed: set it to 4096"):
        check_metadata(narrow, topic)


def test_the_brokers_own_setting_is_read(kafka: Broker) -> None:
    """Apache Kafka tells it; its default has room."""
    if kafka.name == "embedded":
        pytest.skip("the embedded broker describes no settings")
    told = Cluster({"bootstrap.servers": kafka.bootstrap_servers}, "group").broker_setting("offset.metadata.max.bytes")

    assert told == "4096"


def test_topics_whose_limits_do_not_fit_are_told(kafka: Broker, new_topic: Callable[..., str]) -> None:
    """A dead letter of the largest record must fit, and the largest record a batch; each sentence says what to set."""
    if kafka.name == "embedded":
        pytest.skip("the embedded broker describes no settings")
    events, narrow, wide = (
        new_topic(config={"max.message.bytes": str(limit)}) for limit in (100_000, 120_000, 100_000 + 64 * 1024)
    )
    ours = Cluster({"bootstrap.servers": kafka.bootstrap_servers}, "group")

    assert size_warnings(ours, events, wide, 100_000) == []
    (cut,) = size_warnings(ours, events, narrow, 100_000)
    (large,) = size_warnings(ours, events, wide, 99_999)

    assert cut.startswith(f"{narrow} accepts 120000 bytes, {events} 100000: dead letters")
    assert cut.endswith(f"--entity-name {narrow} --add-config max.message.bytes={100_000 + LETTER_HEADERS_BYTES}`")
    assert large.startswith(f"{events} accepts 100000 bytes, more than CONSUMER_BATCH_BYTES_MAX (99999)")
    assert size_warnings(ours, "not-there", wide, 1) == []


def test_a_cluster_that_is_away_is_waited_for() -> None:
    """Nothing here is Fatal because nobody answers."""
    away = Cluster({"bootstrap.servers": f"127.0.0.1:{free_port()}", "client.id": "away"}, "group")

    with pytest.raises(Transient):
        away.topic("events")


def _send_transactions(broker: Broker, topic: str, count: int) -> None:
    """Send transactions of one record each: a record and a marker take turns."""
    sender = producer(broker.bootstrap_servers, transactional_id=f"t-{uuid.uuid4().hex[:8]}")
    sender.init_transactions(60)
    for _ in range(count):
        sender.begin_transaction()
        sender.produce(topic, b"x")
        sender.commit_transaction(60)
    cluster, place = Cluster({"bootstrap.servers": broker.bootstrap_servers}, "group"), Partition(topic, 0)
    until(lambda: cluster.bounds([place])[place].end == 2 * count)  # the last marker may be on its way


def _probes(broker: Broker, cluster: Cluster) -> list[str]:
    """Return the groups of the preflight that are still there."""
    admin = broker.admin()  # kept by name: its answers die with it
    groups = admin.list_consumer_groups(request_timeout=60).result(60).valid
    return [group.group_id for group in groups if group.group_id.startswith(f"{cluster.group}.preflight")]
