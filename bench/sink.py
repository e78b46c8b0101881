"""What a row costs on its way from Kafka into ClickHouse: headrace's worker beside a naive consumer, in one run.

Both read one topic of Apache Kafka into tables of their own with the same columns, in turns. A side's rate counts from
its first rows on, so a group's start is not in it. Rows are counted at the end; none may be missing.

Run `python -m bench.sink` (5 minutes). The figures go to bench/results.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from confluent_kafka import Producer

from bench.processes import Figures, cpu_s
from bench.sample_events import bodies
from consumer.clickhouse.client import Connection
from tests.support.clickhouse import USER, EmbeddedClickHouse, password_file
from tests.support.fixtures_consumer import open_database
from tests.support.kafka import KafkaCluster

_ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = _ROOT / "bench" / "results" / "sink.json"
_TOPIC: Final = "events"
_PARTITIONS: Final = 4
_LOOK_S: Final = 0.1
_LIMIT_S: Final = 300.0
_FRAME: Final = b"\0\0\0\0\1"
_ROWS: Final = (
    "SELECT sum(rows) AS n FROM system.parts WHERE database = currentDatabase() AND table = 'events' AND active"
)


def fill(bootstrap_servers: str, count: int) -> None:
    """Produce so many events, spread over the partitions."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all", "linger.ms": 20})
    for number, (at_ms, body) in enumerate(bodies(count, 3_600_000)):
        producer.produce(_TOPIC, _FRAME + body, partition=number % _PARTITIONS, timestamp=at_ms)
        if number % 1000 == 0:
            producer.poll(0)
    producer.flush()


def environ(side: str, database: str, servers: str, clickhouse: EmbeddedClickHouse, directory: str) -> dict[str, str]:
    """Return the environment of a side's process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONSUMER_")}
    if side == "naive consumer":
        return kept | {
            "BENCH_BOOTSTRAP_SERVERS": servers,
            "BENCH_TOPIC": _TOPIC,
            "BENCH_DATABASE": database,
            "BENCH_CLICKHOUSE_PORT": str(clickhouse.port),
            "BENCH_USER": USER,
            "BENCH_PASSWORD_FILE": str(password_file()),
        }
    settings = {
        "BOOTSTRAP_SERVERS": servers,
        "TOPIC": _TOPIC,
        "DEAD_LETTER_TOPIC": f"{_TOPIC}.dead",
        "GROUP_ID": database,
        "CLICKHOUSE_URL": clickhouse.url,
        "CLICKHOUSE_USER": USER,
        "CLICKHOUSE_PASSWORD_FILE": str(password_file()),
        "CLICKHOUSE_DATABASE": database,
        "SCHEMA_CACHE_DIR": directory,
    }
    return kept | {f"CONSUMER_{name}": value for name, value in settings.items()}


@contextmanager
def running(side: str, environment: Mapping[str, str]) -> Iterator[int]:
    """Run a side's process; the value is its id."""
    module = ["bench.naive_consumer"] if side == "naive consumer" else ["consumer", "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", *module],
        cwd=_ROOT,
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


def count(database: Connection) -> int:
    """Return how many rows the table of events has, without reading it."""
    return int(database.query(_ROWS)[0]["n"])


def measure(side: str, rows: int, servers: str, clickhouse: EmbeddedClickHouse, directory: str) -> dict[str, float]:
    """Let a side insert all rows into a new database; return what it took."""
    database = open_database(clickhouse, f"bench_{uuid.uuid4().hex[:8]}")
    environment = environ(side, database.database, servers, clickhouse, directory)
    migrate = [sys.executable, "-m", "consumer", "migrate"]
    ours = environ("headrace", database.database, servers, clickhouse, directory)
    subprocess.run(migrate, cwd=_ROOT, env=ours, check=True, capture_output=True)
    server = clickhouse.pid
    engine_s, limit_s = cpu_s(server), time.monotonic() + _LIMIT_S
    with running(side, environment) as pid:
        while not (first := count(database)):
            time.sleep(_LOOK_S)
            assert time.monotonic() < limit_s, f"{side} inserts nothing"
        began_s, worker_s = time.monotonic(), cpu_s(pid)
        while (there := count(database)) < rows:
            time.sleep(_LOOK_S)
            assert time.monotonic() < limit_s, f"{side}: {there} of {rows} rows"
        took_s, worker_s = time.monotonic() - began_s, cpu_s(pid) - worker_s
        engine_s = cpu_s(server) - engine_s
    assert there == rows, f"{side}: {there} rows of {rows}"
    database.command(f"DROP DATABASE {database.database}")
    database.close()
    return {
        "rows_per_s": (rows - first) / took_s,
        "worker_us_per_row": worker_s * 1e6 / (rows - first),
        "engine_us_per_row": engine_s * 1e6 / rows,
    }


def main() -> None:
    """Measure, print the table, and keep the figures."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=300_000)
    asked.add_argument("--rounds", type=int, default=5)
    options = asked.parse_args()
    sides: dict[str, list[dict[str, float]]] = {"headrace": [], "naive consumer": []}
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        broker, clickhouse = stack.enter_context(KafkaCluster(1)), stack.enter_context(EmbeddedClickHouse())
        broker.create_topic(_TOPIC, _PARTITIONS)
        broker.create_topic(f"{_TOPIC}.dead", 1)
        fill(broker.bootstrap_servers, options.rows)
        for number in range(options.rounds):
            for side in sorted(sides, reverse=bool(number % 2)):
                sides[side].append(measure(side, options.rows, broker.bootstrap_servers, clickhouse, directory))
    print("| side | rows/s | worker us/row | engine us/row |\n|---|---|---|---|")
    for side, rounds in sides.items():
        cells = [str(Figures.of([seen[key] for seen in rounds])) for key in rounds[0]]
        print(f"| {side} | {' | '.join(cells)} |")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(sides, indent=1) + "\n")


if __name__ == "__main__":
    main()
