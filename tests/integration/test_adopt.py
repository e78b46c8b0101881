"""A failover to a copy of the topics on another Kafka cluster: halted, adopted, and each event is shown once."""

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition

from tests.conftest import SOAK_ONLY
from tests.support.fixtures_consumer import encoded
from tests.support.kafka import Broker, KafkaCluster
from tests.support.kafka_clients import deliver
from tests.support.log_members import until
from tests.support.operator import WAIT_S, Operator

DELETED, LAG = 4, 3
"""So many records of a partition the copy lacks; so many offsets its copied commit lies behind."""


class Copier:
    """Copies a group's topics to another cluster as MirrorMaker 2 does: also commits, with their metadata."""

    def __init__(self, operator: Operator, source: Broker, target: KafkaCluster) -> None:
        self._source, self._target = source, target
        self._group = operator.environ["CONSUMER_GROUP_ID"]
        self._topics = {operator.topic: 2, operator.dead_topic: 1}

    def copy(self) -> None:
        """Copy the records that retention has left, and then the commits."""
        reader = Consumer({"bootstrap.servers": self._source.bootstrap_servers, "group.id": "copier"})
        for topic, partitions in self._topics.items():
            self._target.create_topic(topic, partitions)
            for number in range(partitions):
                end = reader.get_watermark_offsets(TopicPartition(topic, number), timeout=WAIT_S)[1]
                if end > DELETED:
                    reader.assign([TopicPartition(topic, number, DELETED)])
                    records = reader.consume(end - DELETED, WAIT_S)
                    deliver(self._target.bootstrap_servers, topic, [item.value() or b"" for item in records], number)
        reader.close()
        asked = [ConsumerGroupTopicPartitions(self._group)]
        source, target = self._source.admin(), self._target.admin()  # kept until they have answered
        marks = source.list_consumer_group_offsets(asked)[self._group].result(WAIT_S).topic_partitions
        moved = [
            TopicPartition(
                mark.topic, mark.partition, max(0, mark.offset - DELETED - LAG * mark.partition), mark.metadata
            )
            for mark in marks
        ]
        assert all(mark.metadata for mark in moved)
        told = [ConsumerGroupTopicPartitions(self._group, moved)]

        def is_told() -> bool:
            target.alter_consumer_group_offsets(told)[self._group].result(WAIT_S)
            there = target.list_consumer_group_offsets(asked)[self._group].result(WAIT_S).topic_partitions
            return len(there) == len(moved)

        until(is_told, timeout_s=WAIT_S)  # at first a new cluster answers that nobody coordinates its groups yet


@SOAK_ONLY
def test_after_a_failover_each_event_is_shown_once(operator: Operator) -> None:
    """Nothing is read until an operator has adopted the copy; then only what the copied commits lack comes again."""
    if operator.broker.name != "apache-kafka":
        pytest.skip("the embedded broker keeps no metadata to copy")
    operator.make_tables()
    operator.send(10)
    operator.send(10, partition=1, first=100)
    operator.work()
    operator.await_rows(20)
    operator.await_status("idle", "/healthz")
    operator.stop()
    with KafkaCluster(1) as target:
        Copier(operator, operator.broker, target).copy()
        operator.environ["CONSUMER_BOOTSTRAP_SERVERS"] = target.bootstrap_servers
        operator.work()
        assert "python -m consumer adopt" in operator.await_status("halted")
        operator.stop()
        assert operator.rows() == 20

        code, _, said = operator.run("adopt", "--go")
        assert (code, said.splitlines()[-1]) == (0, "committed 3 partitions: start the workers")
        operator.work()
        for partition in (0, 1):
            deliver(target.bootstrap_servers, operator.topic, [encoded(1000 + partition)], partition)
        shown = "SELECT count() AS n, uniqExact(event_id) AS ids FROM events_unique"
        until(lambda: operator.database.query(shown) == [{"n": 22, "ids": 22}], timeout_s=WAIT_S)
        operator.await_status("idle", "/healthz")
        operator.stop()

        assert operator.rows() == 22 + LAG
        code, lines = operator.lines("audit")
        assert (code, [line["missing"] for line in lines]) == (0, [0] * len(lines)), lines
