"""The mock cluster, seen by ordinary clients: it does what its faults are called."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.support.kafka_clients import await_assignment, deliver, read
from tests.support.mock_cluster import Api, MockCluster


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    """One broker with the topic "events" of two partitions."""
    with MockCluster() as started:
        started.create_topic("events", 2)
        yield started


def group_member(cluster: MockCluster, group: str = "group", **settings: str | float | bool) -> Consumer:
    """Return a consumer from the earliest offset on, not yet subscribed."""
    return Consumer(
        {
            "bootstrap.servers": cluster.bootstrap_servers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 0,
            **settings,
        }
    )


def seconds_to_deliver(cluster: MockCluster, **settings: str | float | bool) -> float:
    """Return how long one record takes to be acknowledged by a client that is connected already."""
    sender = Producer({"bootstrap.servers": cluster.bootstrap_servers, "linger.ms": 0, "log_level": 0, **settings})
    faults: list[KafkaError | None] = []
    for _ in range(2):
        start_s = time.monotonic()
        sender.produce("events", b"x", partition=0, on_delivery=lambda fault, _: faults.append(fault))
        assert sender.flush(20) == 0
    assert faults == [None, None]
    return time.monotonic() - start_s


def test_a_group_reads_and_resumes_with_its_commits_metadata(cluster: MockCluster) -> None:
    """Records, offsets and commit metadata come back to ordinary clients, and the group forms at once."""
    assert deliver(cluster.bootstrap_servers, "events", [b"a", b"b"]) == [0, 1]
    member = group_member(cluster)
    member.subscribe(["events"])
    assert await_assignment([member], 2) < 5
    assert [record.value() for record in read(member, 2)] == [b"a", b"b"]
    member.commit(offsets=[TopicPartition("events", 0, 1, metadata="intent")], asynchronous=False)
    (committed,) = member.committed([TopicPartition("events", 0)], timeout=5)
    member.close()
    assert (committed.offset, committed.metadata) == (1, "intent")


def test_a_created_topic_has_its_partitions(cluster: MockCluster) -> None:
    """The metadata shows as many partitions as were asked for; the same name again is refused."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
    assert set(admin.list_topics(timeout=5).topics["events"].partitions) == {0, 1}
    with pytest.raises(RuntimeError, match="TOPIC_ALREADY_EXISTS"):
        cluster.create_topic("events")


def test_a_permanent_error_fails_the_record_at_once(cluster: MockCluster) -> None:
    """A pushed MSG_SIZE_TOO_LARGE is what the delivery report says, and the next record passes."""
    cluster.push_request_errors(Api.PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE)
    with pytest.raises(KafkaException) as failure:
        deliver(cluster.bootstrap_servers, "events", [b"x"], enable_idempotence=False)
    assert failure.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert deliver(cluster.bootstrap_servers, "events", [b"y"]) == [0]


def test_passing_errors_are_retried_by_the_client(cluster: MockCluster) -> None:
    """Two retriable errors cost two retries, and the record arrives once."""
    cluster.push_request_errors(Api.PRODUCE, *[KafkaError.NOT_LEADER_FOR_PARTITION] * 2)
    assert deliver(cluster.bootstrap_servers, "events", [b"x"]) == [0]


def test_cleared_errors_are_not_met(cluster: MockCluster) -> None:
    """What clear_errors takes back, no client sees; without it five hundred would be met first."""
    cluster.push_request_errors(Api.PRODUCE, *[KafkaError.NOT_LEADER_FOR_PARTITION] * 500)
    with pytest.raises(KafkaException):
        deliver(cluster.bootstrap_servers, "events", [b"x"], message_timeout_ms=1000)
    cluster.clear_errors(Api.PRODUCE)
    assert deliver(cluster.bootstrap_servers, "events", [b"y"]) == [0]


def test_a_refused_commit_is_told_to_the_consumer(cluster: MockCluster) -> None:
    """Errors go to the kind of request that was named: a commit fails as if the member had been expelled."""
    member = group_member(cluster)
    member.subscribe(["events"])
    await_assignment([member], 2)
    cluster.push_request_errors(Api.OFFSET_COMMIT, KafkaError.ILLEGAL_GENERATION)
    with pytest.raises(KafkaException) as refusal:
        member.commit(offsets=[TopicPartition("events", 0, 1)], asynchronous=False)
    member.close()
    assert refusal.value.args[0].code() == KafkaError.ILLEGAL_GENERATION


def test_a_round_trip_takes_as_long_as_it_is_set(cluster: MockCluster) -> None:
    """Acknowledgements are late by the broker's round trip, until that is 0 again."""
    assert seconds_to_deliver(cluster) < 0.35
    cluster.set_rtt(1, 400)
    assert 0.4 <= seconds_to_deliver(cluster) < 2
    cluster.set_rtt(1, 0)
    assert seconds_to_deliver(cluster) < 0.35


def test_a_broker_that_is_down_takes_nothing_until_it_is_up(cluster: MockCluster) -> None:
    """Records time out meanwhile; afterwards they are taken and what was there before is still there."""
    deliver(cluster.bootstrap_servers, "events", [b"before"])
    cluster.broker_down(1)
    with pytest.raises(KafkaException) as failure:
        deliver(cluster.bootstrap_servers, "events", [b"lost"], message_timeout_ms=1000)
    assert failure.value.args[0].code() == KafkaError._MSG_TIMED_OUT  # noqa: SLF001 - the name its client gives it
    cluster.broker_up(1)
    assert deliver(cluster.bootstrap_servers, "events", [b"after"]) == [1]


def test_one_broker_of_several_may_be_down() -> None:
    """A cluster of three lists three addresses, and partitions of the living ones are served."""
    with MockCluster(brokers=3) as cluster:
        cluster.create_topic("events", 3)
        assert len(cluster.bootstrap_servers.split(",")) == 3
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
        partitions = admin.list_topics(timeout=5).topics["events"].partitions
        cluster.broker_down(partitions[0].leader)
        alive = next(number for number in partitions if partitions[number].leader != partitions[0].leader)
        assert deliver(cluster.bootstrap_servers, "events", [b"x"], alive) == [0]
        with pytest.raises(KafkaException):
            deliver(cluster.bootstrap_servers, "events", [b"x"], 0, message_timeout_ms=1000)


def test_a_topic_error_is_in_its_metadata(cluster: MockCluster) -> None:
    """Clients that look the topic up are told the error until it is set to 0."""
    cluster.set_topic_error("events", KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException) as failure:
        deliver(cluster.bootstrap_servers, "events", [b"x"], message_timeout_ms=1000)
    assert failure.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    cluster.set_topic_error("events", 0)
    assert deliver(cluster.bootstrap_servers, "events", [b"x"]) == [0]


def test_another_process_uses_it_too(cluster: MockCluster) -> None:
    """The cluster is on the network: a producer elsewhere reaches it."""
    program = (
        "import sys\nfrom tests.support.kafka_clients import deliver\n"
        "print(deliver(sys.argv[1], 'events', [b'from afar']))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, cluster.bootstrap_servers],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert run.stdout == "[0]\n"


def test_an_unknown_broker_and_a_closed_cluster_are_errors(cluster: MockCluster) -> None:
    """Mistakes in a test do not pass for faults."""
    with pytest.raises(RuntimeError, match="BROKER_NOT_AVAILABLE"):
        cluster.set_rtt(7, 1)
    cluster.close()
    cluster.close()
    with pytest.raises(RuntimeError, match="closed"):
        cluster.broker_down(1)
