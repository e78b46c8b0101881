"""The compose file's broker: Apache Kafka, of the same version, starts with those very settings."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]  # its stub forgets to export

from deploy.embedded.kafka_distribution import NotAvailableError, home, java
from tests.conftest import SOAK_ONLY
from tests.support.containers import part
from tests.support.kafka_node import HOST, KafkaNode
from tests.support.ports import free_port


def properties() -> dict[str, str]:
    """Return the service's variables as the image makes Kafka's properties of them."""
    variables = {name: str(value) for name, value in part("kafka")["environment"].items()}
    return {
        name.removeprefix("KAFKA_").replace("_", ".").lower(): value
        for name, value in variables.items()
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }


def moved(value: str, node: KafkaNode, internal_port: int) -> str:
    """Return an address setting with the ports of a node on this machine."""
    ports = {"9092": node.port, "9093": node.controller_port, "19092": internal_port}
    ours = re.sub(r"(?<=:)(9092|9093|19092)\b", lambda found: str(ports[found[0]]), value)
    return re.sub(r"//[^:,]+:", f"//{HOST}:", ours)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[KafkaNode]:
    """A node with the compose file's settings, but for ports, host and directory."""
    try:
        broker = KafkaNode(1, tmp_path / "kafka", java(), home())
    except NotAvailableError as reason:
        pytest.skip(str(reason))
    internal_port = free_port()
    settings = {name: moved(value, broker, internal_port) for name, value in properties().items()}
    broker.configure(settings | {"log.dirs": str(tmp_path / "data")})
    formatting = broker.format(part("kafka")["environment"]["CLUSTER_ID"])
    said, _ = formatting.communicate(timeout=60)
    assert formatting.returncode == 0, said
    broker.start()
    yield broker
    broker.stop()


@SOAK_ONLY
def test_kafka_takes_every_setting(node: KafkaNode) -> None:
    """It starts, knows each property by its name, and has taken the value."""
    admin = AdminClient({"bootstrap.servers": node.address})
    resource = ConfigResource(ConfigResource.Type.BROKER, "1")
    known = admin.describe_configs([resource], request_timeout=60)[resource].result(timeout=60)

    addresses = {"log.dirs", "listeners", "advertised.listeners", "controller.quorum.voters"}
    for name, value in properties().items():
        assert name in known, name
        assert name in addresses or known[name].value == value
    assert admin.list_topics(timeout=60).cluster_id == part("kafka")["environment"]["CLUSTER_ID"]
