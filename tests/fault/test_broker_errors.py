"""A broker that answers wrongly, late or with no: each error ends in its documented answer, and nothing is lost."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from tests.conftest import SOAK_ONLY
from tests.fault.conftest import Oracle, await_broker, on_disk, p99_ms, statuses
from tests.support.ingress import Ingress, ingress
from tests.support.load import Request, load
from tests.support.mock_cluster import Api, MockCluster

_TOPIC = "events"
_RETRIED = (KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.REQUEST_TIMED_OUT)
_FAILED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.MSG_SIZE_TOO_LARGE)
_FATAL = (KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,)


@pytest.fixture
def mock() -> Iterator[MockCluster]:
    """A broker that answers as the test says."""
    with MockCluster() as cluster:
        cluster.create_topic(_TOPIC, partitions=2)
        yield cluster


def durabilities(requests: list[Request]) -> dict[str, int]:
    """Count requests by where their events are."""
    said = [request.durability for request in requests]
    return {name: said.count(name) for name in sorted(set(said))}


@pytest.mark.parametrize(
    "code",
    [
        *(_RETRIED[0], _FAILED[0], *_FATAL),
        *(pytest.param(code, marks=SOAK_ONLY) for code in (*_RETRIED[1:], *_FAILED[1:])),
    ],
    ids=lambda code: KafkaError(code).name(),
)
def test_an_error_on_the_nth_produce(mock: MockCluster, tmp_path: Path, oracle: Oracle, code: int) -> None:
    """What librdkafka retries nobody notices; what fails goes to disk and is sent again."""
    with (
        ingress(tmp_path, mock.bootstrap_servers, topic=_TOPIC, ack_slow_s=30) as collector,
        load(collector.port, tmp_path, clients=4, rate=100) as clients,
    ):
        clients.await_count(30)
        await_broker(clients, 20)
        pushed_at = time.time()
        mock.push_request_errors(Api.PRODUCE, code)
        clients.await_count(len(clients.so_far) + 50)
        collector.await_drained(60)
        clients.await_count(len(clients.so_far) + 50)
        requests = clients.stop()
        figures = collector.figures()
        renewals, parked = figures["producer_renewals_total"], figures["spool_parked_events"]
        concluded = figures["producer_missing_offsets_total"]
        account = oracle.settle(requests, mock.bootstrap_servers, _TOPIC)
        oracle.tell(account, requests, durabilities=durabilities(requests), renewals=renewals, concluded=concluded)
    assert set(statuses(requests)) == {201}
    # librdkafka may conclude from a later request that the refused one was stored: that is not believed.
    is_spooled = code not in _RETRIED or concluded > 0
    assert (on_disk(requests, pushed_at) > 0) is is_spooled, collector.log_path.read_text()[-3000:]
    assert bool(renewals) is (code in _FATAL)
    assert parked == 0
    assert {request.durability for request in requests[-20:]} == {"broker"}


def test_half_a_second_of_round_trip(mock: MockCluster, tmp_path: Path, oracle: Oracle) -> None:
    """A far broker is a broker, where the threshold allows for it: every answer waits, and none goes to disk."""
    with (
        ingress(tmp_path, mock.bootstrap_servers, topic=_TOPIC, ack_slow_s=4) as collector,
        load(collector.port, tmp_path, clients=16, rate=25) as clients,
    ):
        clients.await_count(10)
        await_broker(clients, 10)
        mock.set_rtt(1, 500)
        far_since = time.time() + 0.5
        clients.await_count(len(clients.so_far) + 100)
        near_since = time.time()
        mock.set_rtt(1, 0)
        requests = clients.stop()
        account = oracle.settle(requests, mock.bootstrap_servers, _TOPIC)
        far = [request for request in requests if far_since < request.at_s < near_since - request.took_s]
        oracle.tell(account, requests, durabilities=durabilities(requests), p99_ms=p99_ms(far))
    assert set(statuses(requests)) == {201}
    assert on_disk(requests, far_since) == 0
    assert far
    assert all(request.took_s >= 0.5 for request in far)


@SOAK_ONLY
def test_five_seconds_of_round_trip(mock: MockCluster, tmp_path: Path, oracle: Oracle) -> None:
    """Beyond message.timeout.ms it is away: to disk in time, then at once; drained when it is near again."""
    with (
        ingress(tmp_path, mock.bootstrap_servers, topic=_TOPIC) as collector,
        load(collector.port, tmp_path, clients=16, rate=50) as clients,
    ):
        clients.await_count(50)
        mock.set_rtt(1, 5000)
        clients.await_count(len(clients.so_far) + 400)
        mock.set_rtt(1, 0)
        drained_s = collector.await_drained(60)
        requests = clients.stop()
        account = oracle.settle(requests, mock.bootstrap_servers, _TOPIC)
        slow = [request for request in requests if request.took_s > 0.5]
        oracle.tell(account, requests, durabilities=durabilities(requests), slow=len(slow), drained_s=drained_s)
    assert set(statuses(requests)) == {201}
    assert account.on_disk > 0
    assert all(request.took_s < 5 for request in requests)
    assert len(slow) < len(requests) / 2


def test_an_event_too_large_for_the_log(mock: MockCluster, tmp_path: Path, oracle: Oracle) -> None:
    """413, and nothing of its request is published, while others are."""
    properties = tmp_path / "kafka.properties"
    properties.write_text("message.max.bytes=20000\n")
    with ingress(tmp_path, mock.bootstrap_servers, topic=_TOPIC, kafka_config_file=properties) as collector:
        with load(collector.port, tmp_path, clients=2, rate=20, padding=30_000) as clients:
            clients.await_count(10)
            large = clients.stop()
        with load(collector.port, tmp_path, clients=2, rate=20) as clients:
            clients.await_count(10)
            small = clients.stop()
        account = oracle.settle(large + small, mock.bootstrap_servers, _TOPIC)
        oracle.tell(account, large + small)
    assert set(statuses(large)) == {413}
    assert set(statuses(small)) == {201}
    assert account.unclaimed == 0


def test_an_event_that_the_broker_finds_too_large(mock: MockCluster, tmp_path: Path, oracle: Oracle) -> None:
    """Its limit is lower than ours: kept on disk out of the way of the others, told, and sent by hand once repaired."""
    with ingress(tmp_path, mock.bootstrap_servers, topic=_TOPIC, ack_slow_s=30) as collector:
        mock.push_request_errors(Api.PRODUCE, *[KafkaError.MSG_SIZE_TOO_LARGE] * 2)
        with load(collector.port, tmp_path, clients=1, events=1, requests_max=1) as clients:
            clients.await_count(1)
            requests = clients.stop()
        parked = await_figure(collector, "spool_parked_events")
        with load(collector.port, tmp_path) as clients:
            clients.await_count(200)
            requests += clients.stop()
        collector.terminate()
        collector.await_end(60)
        command = [sys.executable, "-m", "ingest", "spool", "drain", "--parked"]
        run = subprocess.run(command, env=collector.environ(), capture_output=True, text=True, timeout=60, check=True)
        account = oracle.settle(requests, mock.bootstrap_servers, _TOPIC)
        oracle.tell(account, requests, parked=parked, said=repr(run.stdout.strip()))
    assert parked == 1
    assert durabilities(requests)["disk"] == 1
    assert "sent 1 events" in run.stdout


def await_figure(collector: Ingress, name: str) -> float:
    """Wait until a metric is not 0 and return it."""
    deadline_s = time.monotonic() + 60
    while not (value := collector.figures()[name]):
        assert time.monotonic() < deadline_s, f"{name} stays 0"
        time.sleep(0.1)
    return value


def test_a_full_queue(mock: MockCluster, tmp_path: Path, oracle: Oracle) -> None:
    """What finds no room before a broker that is well, but far, is told to come again; nothing goes to disk."""
    with (
        ingress(
            tmp_path, mock.bootstrap_servers, topic=_TOPIC, queue_bytes_max=8 * 1024 * 1024, ack_slow_s=4
        ) as collector,
        load(collector.port, tmp_path, clients=24, rate=40, events=3, padding=240_000) as clients,
    ):
        clients.await_count(10)
        await_broker(clients, 10)
        slow_since, opened = time.time(), collector.figures()["breaker_opened_total"]
        mock.set_rtt(1, 800)
        clients.await_count(len(clients.so_far) + 60)
        mock.set_rtt(1, 0)
        collector.await_drained(60)
        requests = clients.stop()
        figures = collector.figures()
        account = oracle.settle(requests, mock.bootstrap_servers, _TOPIC)
        oracle.tell(account, requests, durabilities=durabilities(requests), p99_ms=p99_ms(requests))
    assert set(statuses(requests)) == {201, 503}
    assert {request.retry_after for request in requests if request.status == 503} == {"1"}
    assert on_disk(requests, slow_since) == 0
    assert figures["breaker_opened_total"] == opened
    assert figures['events_total{outcome="shed"}'] == 3 * statuses(requests)[503]


def test_a_producer_that_may_not_write_at_the_start(mock: MockCluster, tmp_path: Path, oracle: Oracle) -> None:
    """Fatal from the first moment, until the permission is given: disk, then broker, without a restart."""
    mock.push_request_errors(Api.INIT_PRODUCER_ID, *[KafkaError.CLUSTER_AUTHORIZATION_FAILED] * 3)
    with (
        ingress(tmp_path, mock.bootstrap_servers, topic=_TOPIC) as collector,
        load(collector.port, tmp_path, clients=4, rate=50) as clients,
    ):
        deadline_s = time.monotonic() + 60
        while not clients.so_far or clients.so_far[-1].durability != "broker":
            assert time.monotonic() < deadline_s, "never with the broker"
            time.sleep(0.2)
        collector.await_drained(60)
        requests = clients.stop()
        renewals = collector.figures()["producer_renewals_total"]
        account = oracle.settle(requests, mock.bootstrap_servers, _TOPIC)
        oracle.tell(account, requests, durabilities=durabilities(requests), renewals=renewals)
    assert set(statuses(requests)) == {201}
    assert account.on_disk > 0
    assert renewals >= 1
