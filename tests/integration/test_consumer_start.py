"""`python -m consumer run` says at its start which promise the broker lets it keep."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from consumer.clickhouse.client import Connection
from consumer.operations.preflight import guarantee
from tests.support.clickhouse import USER, ClickHouse, password_file
from tests.support.kafka import Broker
from tests.support.log_members import until

_ROOT: Final = Path(__file__).resolve().parents[2]


def test_the_guarantee_is_told(
    any_broker: Broker,
    new_topic: Callable[..., str],
    database: Connection,
    clickhouse: ClickHouse,
    tmp_path: Path,
) -> None:
    """Exactly once where a commit's metadata is kept; as a warning, what is left of it where it is not."""
    topic, dead = new_topic(), new_topic()
    told = {
        "BOOTSTRAP_SERVERS": any_broker.bootstrap_servers,
        "CLICKHOUSE_URL": clickhouse.url,
        "CLICKHOUSE_USER": USER,
        "CLICKHOUSE_PASSWORD_FILE": str(password_file()),
        "CLICKHOUSE_DATABASE": database.database,
        "TOPIC": topic,
        "DEAD_LETTER_TOPIC": dead,
        "GROUP_ID": topic,
        "SESSION_TIMEOUT_MS": "6000",
        "SCHEMA_CACHE_DIR": str(tmp_path),
    }
    environ = {name: text for name, text in os.environ.items() if not name.startswith("CONSUMER_")}
    environ |= {f"CONSUMER_{name}": text for name, text in told.items()}
    path = tmp_path / "worker.log"
    with path.open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "consumer", "run"], cwd=_ROOT, env=environ, stdout=log, stderr=log
        )
    try:
        until(lambda: '"worker started"' in path.read_text() or worker.poll() is not None)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(40) == 0, path.read_text()
    finally:
        worker.kill()

    lines = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
    (passed,) = (line for line in lines if line["message"] == "preflight passed")
    keeps = any_broker.supports_commit_metadata
    assert passed["guarantee"] == guarantee(keeps_metadata=keeps)
    assert ("at least once" in passed["guarantee"]) is not keeps
    assert passed["levelname"] == ("INFO" if keeps else "WARNING")
