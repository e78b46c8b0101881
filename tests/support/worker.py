"""`python -m consumer` for one topic into one database, as long as a test needs it."""

import os
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.clickhouse import PASSWORD, USER, password_file
from tests.support.ledger import Census

_ROOT: Final = Path(__file__).resolve().parents[2]
_STOP_S: Final = 30.0


@contextmanager
def worker(directory: Path, bootstrap_servers: str, topic: str, clickhouse_url: str) -> Iterator[Census]:
    """Insert a topic into its own database; the value counts the event ids that analysts see there now."""
    database = f"fault_{uuid.uuid4().hex[:8]}"
    settings = {
        "bootstrap_servers": bootstrap_servers,
        "topic": topic,
        "dead_letter_topic": f"{topic}.dead",
        "group_id": database,
        "clickhouse_url": clickhouse_url,
        "clickhouse_user": USER,
        "clickhouse_password_file": password_file(),
        "clickhouse_database": database,
        "schema_cache_dir": directory / "schemas",
        "session_timeout_ms": 6000,
        "batch_age_s_max": 0.2,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONSUMER_")}
    environ = kept | {f"CONSUMER_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "consumer"]
    with (directory / "worker.log").open("ab") as log:
        subprocess.run([*command, "migrate"], cwd=_ROOT, env=environ, stdout=log, stderr=log, check=True)
        process = subprocess.Popen([*command, "run"], cwd=_ROOT, env=environ, stdout=log, stderr=log)
    try:
        yield lambda: _event_ids(clickhouse_url, database)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        finally:
            process.kill()
        _ask(clickhouse_url, f"DROP DATABASE {database}")


def _event_ids(url: str, database: str) -> Counter[str]:
    query = f"SELECT event_id, count() FROM {database}.events_unique GROUP BY event_id FORMAT TSV"
    rows = (line.split("\t") for line in _ask(url, query).splitlines())
    return Counter({event_id: int(count) for event_id, count in rows})


def _ask(url: str, query: str) -> str:
    account = {"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD}
    request = urllib.request.Request(f"{url}/?{urllib.parse.urlencode({'query': query})}", b"", account)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())
