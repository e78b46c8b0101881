"""Each sentence of preflight about brokers and topics: brought about, its advice followed word for word, and well."""

import re
from collections.abc import Callable, Iterator

import pytest

from consumer.errors import Fatal
from consumer.kafka.admin import Cluster
from consumer.operations.preflight import check_metadata, size_warnings
from deploy.embedded.kafka_distribution import NotAvailableError
from tests.conftest import SOAK_ONLY
from tests.support.kafka import Broker, KafkaCluster
from tests.support.kafka_tools import run_tool

pytestmark = pytest.mark.kafka


def test_topics_whose_limits_do_not_fit(kafka: Broker, new_topic: Callable[..., str]) -> None:
    """A dead letter would be cut, or one record would be more than a batch; Kafka's own tool sets what is named."""
    if kafka.name == "embedded":
        pytest.skip("the embedded broker describes no settings")
    events, dead = new_topic(config={"max.message.bytes": "200000"}), new_topic(config={"max.message.bytes": "120000"})
    ours = Cluster({"bootstrap.servers": kafka.bootstrap_servers}, "group")
    for expected in ("dead letters of the largest records are cut", "more than CONSUMER_BATCH_BYTES_MAX"):
        (said,) = [line for line in size_warnings(ours, events, dead, 100_000) if expected in line]
        (command,) = re.findall("`([^`]+)`", said)
        run_tool(command)

    assert size_warnings(ours, events, dead, 100_000) == []


@pytest.fixture
def narrow() -> Iterator[KafkaCluster]:
    """A node that keeps little of what a commit says."""
    try:
        cluster = KafkaCluster(1, settings={"offset.metadata.max.bytes": "512"})
    except NotAvailableError as reason:
        pytest.skip(str(reason))
    with cluster:
        cluster.create_topic("events")
        yield cluster


@SOAK_ONLY
def test_brokers_that_have_no_room_for_an_intent(narrow: KafkaCluster) -> None:
    """It would be refused at the worst moment; the line goes where the sentence says."""
    ours = Cluster({"bootstrap.servers": narrow.bootstrap_servers}, "group")
    with pytest.raises(Fatal) as refused:
        check_metadata(ours, "events")
    said = str(refused.value)
    ((setting, advised),) = re.findall(r"brokers' (\S+) is 512, but \d+ are needed: set it to (\d+) in", said)
    (node,) = narrow.nodes
    properties = node.directory / "server.properties"

    node.stop()
    properties.write_text(
        re.sub(rf"^{setting}=.*$", f"{setting}={advised}", properties.read_text(), flags=re.MULTILINE)
    )
    node.start()

    assert check_metadata(Cluster({"bootstrap.servers": narrow.bootstrap_servers}, "group"), "events") is True
