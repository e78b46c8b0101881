"""Apache Kafka of the embedded pipeline: what it is told, and what it says when it can't run."""

from pathlib import Path

import pytest

from deploy.embedded.kafka import ApacheKafka, server_properties
from deploy.embedded.kafka_distribution import NotAvailableError
from deploy.embedded.local_broker import CannotStartError, find_free_port


def test_an_event_is_on_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    """One node has no copy of its log, so each batch is flushed; and it listens on this machine only."""
    told = server_properties(9092, 9093, tmp_path)

    assert told["log.flush.interval.messages"] == "1"
    assert told["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert told["log.dirs"] == str(tmp_path)
    assert {told[name] for name in told if name.endswith("replication.factor")} == {"1"}


@pytest.mark.parametrize("lacks", ["java", "home"])
def test_what_is_missing_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str) -> None:
    """Nothing is started, and no directory is made."""

    def refuse() -> str:
        raise NotAvailableError("java is not on the PATH")

    monkeypatch.setattr("deploy.embedded.kafka.java", lambda: "java")
    monkeypatch.setattr(f"deploy.embedded.kafka.{lacks}", refuse)

    with pytest.raises(CannotStartError, match="can't run on this machine: java is not on the PATH"):
        ApacheKafka(find_free_port(), tmp_path / "kafka").start()
    assert not (tmp_path / "kafka").exists()
