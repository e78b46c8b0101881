"""A backlog that is small in the log and large in memory: a worker does not hold all of it several times over."""

from pathlib import Path
from typing import Final

from confluent_kafka import Message

from tests.fault.conftest import Oracle, new_topic_on
from tests.support.clickhouse import ClickHouse
from tests.support.fixtures_consumer import encoded
from tests.support.fleet import Fleet, until
from tests.support.kafka import KafkaCluster
from tests.support.kafka_clients import producer

_PARTITIONS: Final = 4
_RECORDS: Final = 20
_VALUE_BYTES: Final = 250_000
_BATCHES: Final = 100
_MIB: Final = 1024 * 1024
_PEAK_BYTES_MAX: Final = 1024 * _MIB  # what one fetch inflates to, 500 MB, and as much again for all other terms


def send_amplified(servers: str, topic: str) -> None:
    """Produce batches of 5 MB, which are half a kilobyte in the log, to all partitions in turn."""
    sizes = {"batch_num_messages": _RECORDS, "batch_size": 8_000_000, "message_max_bytes": 8_000_000}
    client = producer(servers, compression_type="zstd", linger_ms=500, **sizes)
    faults: list[object] = []

    def report(error: object, _: Message) -> None:
        if error is not None:
            faults.append(error)

    filler = f'{{"a":"{"0" * _VALUE_BYTES}"}}'
    for number in range(_BATCHES * _RECORDS):
        partition = number // _RECORDS % _PARTITIONS
        client.produce(topic, encoded(number, properties=filler), b"one", partition, on_delivery=report)
        if number % 200 == 199:
            client.flush(60)
    assert not client.flush(60)
    assert not faults


def test_an_amplified_backlog_is_not_held_several_times_over(
    broker: KafkaCluster, clickhouse: ClickHouse, tmp_path: Path, oracle: Oracle
) -> None:
    """500 MB of records are some 50 KB in the log, less than one fetch, which no client can bound; all become rows."""
    topic = new_topic_on(broker, _PARTITIONS)
    send_amplified(broker.bootstrap_servers, topic)
    with Fleet(tmp_path, broker.bootstrap_servers, topic, clickhouse.url) as fleet:
        worker = fleet.start(waiting_bytes_max=64 * _MIB, batch_bytes_max=8 * _MIB)
        until(lambda: worker.inserted() >= _BATCHES * _RECORDS, "all rows", 100)
        peak = worker.peak_bytes()
        oracle.say(peak_mib=peak / _MIB)
        assert worker.stop() == 0, worker.said()[-2000:]

    assert peak < _PEAK_BYTES_MAX
