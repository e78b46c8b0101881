"""`python -m consumer run` at its start: which promise the broker lets it keep, and what its log is made of."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from consumer.clickhouse.client import Connection
from consumer.operations.preflight import guarantee
from tests.support.clickhouse import USER, ClickHouse, password_file
from tests.support.command import environ_of
from tests.support.kafka import Broker
from tests.support.log_members import until
from tests.support.ports import free_port

_ROOT: Final = Path(__file__).resolve().parents[2]


def lines_of_a_start(directory: Path, word: str, **settings: str) -> list[dict[str, Any]]:
    """Run a worker until a word stands in its log, and stop it; return the lines, each of which must be JSON."""
    environ = environ_of("CONSUMER_", **settings)
    path = directory / "worker.log"
    with path.open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "consumer", "run"], cwd=_ROOT, env=environ, stdout=log, stderr=log
        )
    try:
        until(lambda: word in path.read_text() or worker.poll() is not None)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0, path.read_text()
    finally:
        worker.kill()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_guarantee_is_told(
    any_broker: Broker,
    new_topic: Callable[..., str],
    database: Connection,
    clickhouse: ClickHouse,
    tmp_path: Path,
) -> None:
    """Exactly once where a commit's metadata is kept; as a warning, what is left of it where it is not."""
    topic, dead = new_topic(), new_topic()
    lines = lines_of_a_start(
        tmp_path,
        '"worker started"',
        BOOTSTRAP_SERVERS=any_broker.bootstrap_servers,
        CLICKHOUSE_URL=clickhouse.url,
        CLICKHOUSE_USER=USER,
        CLICKHOUSE_PASSWORD_FILE=str(password_file()),
        CLICKHOUSE_DATABASE=database.database,
        TOPIC=topic,
        DEAD_LETTER_TOPIC=dead,
        GROUP_ID=topic,
        SESSION_TIMEOUT_MS="6000",
        SCHEMA_CACHE_DIR=str(tmp_path),
    )

    (passed,) = (line for line in lines if line["message"] == "preflight passed")
    keeps = any_broker.supports_commit_metadata
    assert passed["guarantee"] == guarantee(keeps_metadata=keeps)
    assert ("at least once" in passed["guarantee"]) is not keeps
    assert passed["levelname"] == ("INFO" if keeps else "WARNING")


def test_what_librdkafka_says_by_itself_is_json_too(tmp_path: Path) -> None:
    """It writes to standard error where nobody takes its lines: a log shipper could not read those."""
    properties = tmp_path / "kafka.properties"
    properties.write_text("debug=broker\n", "utf-8")
    lines = lines_of_a_start(
        tmp_path,
        '"librdkafka"',
        BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}",
        CLICKHOUSE_URL=f"http://127.0.0.1:{free_port()}",
        KAFKA_CONFIG_FILE=str(properties),
        LOG_LEVEL="DEBUG",
    )

    said = [line for line in lines if line["name"] == "librdkafka" and "facility" in line]
    assert said
    assert all(line["message"] and line["client"] for line in said)
