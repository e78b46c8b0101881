"""What a row costs on its way from Kafka into ClickHouse: headrace's worker beside a naive consumer, in one run.

Both read one topic of Apache Kafka into tables of their own with the same columns, in turns. A side's time and
processor time count from the moment its group is formed until all rows are there; so the start of a process is not in
them.
ClickHouse's processor time counts until its merges have ended. Every row is counted: none may be missing or double.

A third side is the engine alone: it reads the same rows from Avro files, in inserts of 100,000.

Run `python -m bench.sink` (3 minutes). The figures go to bench/figures.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confluent_kafka import ConsumerGroupState, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from bench.kept import Rounds, keep
from bench.processes import cpu_s, memory_mib
from bench.sample_events import bodies
from consumer.clickhouse.client import Connection
from consumer.clickhouse.containers import coordinates
from consumer.clickhouse.migrations import create_database, migrate, migrations
from consumer.clickhouse.statements import insert_statement
from consumer.delivery.ports import Partition, Record
from schemas.codec import container_header, local_schema_id, read_schema, varint
from tests.support.clickhouse import USER, EmbeddedClickHouse, password_file
from tests.support.fixtures_consumer import open_database
from tests.support.kafka import KafkaCluster, KafkaNode

_ROOT: Final = Path(__file__).resolve().parents[1]
TOPIC: Final = "events"
PARTITIONS: Final = 4
HEADRACE: Final = "headrace"
NAIVE: Final = "naive consumer"
FILES: Final = "engine, from files"
_LOOK_S: Final = 0.1
_LIMIT_S: Final = 120.0
_FILE_ROWS: Final = 100_000
_BLOCK_ROWS: Final = 1000
SCHEMA: Final = read_schema("event")
FRAME: Final = b"\0" + local_schema_id(SCHEMA).to_bytes(4, "big")
_ROWS: Final = (
    "SELECT sum(rows) AS n FROM system.parts WHERE database = currentDatabase() AND table = 'events' AND active"
)
_COUNTS: Final = "SELECT count() AS rows, uniqExact(_partition, _offset) AS offsets FROM events"
_DISK: Final = _ROWS.replace("sum(rows)", "sum(bytes_on_disk)")
_INSERTS: Final = "SELECT value FROM system.events WHERE event = 'InsertQuery'"
_MERGES: Final = "SELECT count() AS n FROM system.merges WHERE database = currentDatabase()"


@dataclass(frozen=True)
class Rig:
    """The servers of a run, and the rows that lie on the topic."""

    servers: str
    cluster: KafkaCluster
    clickhouse: EmbeddedClickHouse
    directory: Path
    rows: Sequence[tuple[int, bytes]] = ()

    @property
    def broker(self) -> KafkaNode:
        """The broker's process."""
        return self.cluster.nodes[0]

    def make_topic(self, topic: str) -> None:
        """Make a topic for events and one for its dead letters; nothing in them is too old to keep."""
        self.cluster.create_topic(topic, PARTITIONS, config={"retention.ms": "-1"})
        self.cluster.create_topic(f"{topic}.dead", 1)


@contextmanager
def rig(rows: Sequence[tuple[int, bytes]]) -> Iterator[Rig]:
    """Run Kafka and ClickHouse, and put rows on the topic."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster, clickhouse = stack.enter_context(KafkaCluster(1)), stack.enter_context(EmbeddedClickHouse())
        made = Rig(cluster.bootstrap_servers, cluster, clickhouse, directory, rows)
        made.make_topic(TOPIC)
        fill(made.servers, rows)
        yield made


def fill(bootstrap_servers: str, rows: Sequence[tuple[int, bytes]]) -> None:
    """Produce rows, spread over the partitions, compressed as the ingress does."""
    properties = {"bootstrap.servers": bootstrap_servers, "acks": "all", "linger.ms": 5, "compression.type": "lz4"}
    producer = Producer(properties)
    for number, (at_ms, body) in enumerate(rows):
        key = b"%036d" % (number // 10)  # as long as a visitor's id
        producer.produce(TOPIC, FRAME + body, key, partition=number % PARTITIONS, timestamp=at_ms)
        if number % 1000 == 0:
            producer.poll(0)
            while len(producer) > 50_000:
                producer.poll(0.1)
    producer.flush()


def environ(side: str, database: str, rig: Rig, topic: str = TOPIC) -> dict[str, str]:
    """Return the environment of a side's process, which reads a topic into a database."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONSUMER_")}
    if side == NAIVE:
        return kept | {
            "BENCH_BOOTSTRAP_SERVERS": rig.servers,
            "BENCH_TOPIC": topic,
            "BENCH_DATABASE": database,
            "BENCH_CLICKHOUSE_PORT": str(rig.clickhouse.port),
            "BENCH_USER": USER,
            "BENCH_PASSWORD_FILE": str(password_file()),
        }
    settings = {
        "BOOTSTRAP_SERVERS": rig.servers,
        "TOPIC": topic,
        "DEAD_LETTER_TOPIC": f"{topic}.dead",
        "GROUP_ID": database,
        "CLICKHOUSE_URL": rig.clickhouse.url,
        "CLICKHOUSE_USER": USER,
        "CLICKHOUSE_PASSWORD_FILE": str(password_file()),
        "CLICKHOUSE_DATABASE": database,
        "SCHEMA_CACHE_DIR": str(rig.directory),
    }
    return kept | {f"CONSUMER_{name}": value for name, value in settings.items()}


@contextmanager
def running(side: str, environment: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a side's process."""
    module = ["bench.naive_consumer"] if side == NAIVE else ["consumer", "run"]
    command = [sys.executable, "-m", *module]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=_ROOT, env=dict(environment), stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def tables(rig: Rig) -> Iterator[Connection]:
    """Make a database with headrace's tables, for one round."""
    name = f"bench_{uuid.uuid4().hex[:8]}"
    server = open_database(rig.clickhouse, "")
    create_database(server, name, time.sleep)
    database = open_database(rig.clickhouse, name)
    migrate(database, migrations(), time.sleep)
    try:
        yield database
    finally:
        database.close()
        server.command(f"DROP DATABASE {name}")
        server.close()


def await_group(servers: str, group: str) -> None:
    """Return when a group is formed.

    Raises:
        TimeoutError: it does not form.
    """
    admin, limit_s = AdminClient({"bootstrap.servers": servers}), time.monotonic() + _LIMIT_S
    while time.monotonic() < limit_s:
        with suppress(KafkaException):
            if admin.describe_consumer_groups([group])[group].result(5).state is ConsumerGroupState.STABLE:
                return
        time.sleep(0.02)
    raise TimeoutError(f"the group {group} does not form")


def await_rows(database: Connection, rows: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return when the table has so many rows; look at its parts, which costs nothing.

    Raises:
        TimeoutError: they do not come.
    """
    limit_s = time.monotonic() + _LIMIT_S
    while (there := int(database.query(_ROWS)[0]["n"])) < rows:
        if time.monotonic() > limit_s or process.poll() is not None:
            raise TimeoutError(f"{there} of {rows} rows; the process says: {log.read_text()[-2000:]}")
        time.sleep(_LOOK_S)


def asked_inserts(database: Connection) -> int:
    """Return how many inserts the server has begun since its start."""
    return sum(int(row["value"]) for row in database.query(_INSERTS))


def await_merges(database: Connection) -> None:
    """Return when no merge runs."""
    while int(database.query(_MERGES)[0]["n"]):
        time.sleep(_LOOK_S)


def check(database: Connection, side: str, rows: int) -> None:
    """Count the rows.

    Raises:
        AssertionError: one is missing or double.
    """
    counts = database.query(_COUNTS)[0]
    assert int(counts["rows"]) == int(counts["offsets"]) == rows, f"{side}: {counts}, and {rows} on the topic"


def consume(side: str, rig: Rig) -> dict[str, float]:
    """Let a side insert all rows into new tables; return what it took."""
    rows, log = len(rig.rows), rig.directory / "side.log"
    with tables(rig) as database, running(side, environ(side, database.database, rig), log) as process:
        await_group(rig.servers, database.database)
        inserts = asked_inserts(database)
        began_s, worker_s, engine_s = time.monotonic(), cpu_s(process.pid), cpu_s(rig.clickhouse.pid)
        broker_s = cpu_s(rig.broker.pid or 0)
        await_rows(database, rows, process, log)
        took_s, worker_s = time.monotonic() - began_s, cpu_s(process.pid) - worker_s
        broker_s, worker_mib = cpu_s(rig.broker.pid or 0) - broker_s, memory_mib(process.pid)
        inserts = asked_inserts(database) - inserts
        await_merges(database)
        engine_s = cpu_s(rig.clickhouse.pid) - engine_s
        check(database, side, rows)
        table_bytes = int(database.query(_DISK)[0]["n"])
    seen = {"broker_us_per_row": broker_s * 1e6 / rows, "worker_mib": worker_mib, "table_bytes": table_bytes / rows}
    return figures(rows, took_s, worker_s, engine_s, inserts) | seen


def figures(rows: int, took_s: float, worker_s: float, engine_s: float, inserts: int) -> dict[str, float]:
    """Return the figures of a round: rates, and microseconds of processor time a row."""
    return {
        "rows_per_s": rows / took_s,
        "worker_us_per_row": worker_s * 1e6 / rows,
        "engine_us_per_row": engine_s * 1e6 / rows,
        "both_us_per_row": (worker_s + engine_s) * 1e6 / rows,
        "rows_per_insert": rows / max(1, inserts),
    }


def files(rows: Sequence[tuple[int, bytes]]) -> list[bytes]:
    """Return the rows as Avro files, with the blocks of 1,000 rows that files have."""
    header, made = container_header(SCHEMA), []
    for first in range(0, len(rows), _FILE_ROWS):
        parts = [header]
        for start in range(first, min(first + _FILE_ROWS, len(rows)), _BLOCK_ROWS):
            block = b"".join(
                coordinates(Record(Partition(TOPIC, number % PARTITIONS), number // PARTITIONS, at_ms, b"", b"")) + body
                for number, (at_ms, body) in enumerate(rows[start : start + _BLOCK_ROWS], start)
            )
            count = min(_BLOCK_ROWS, len(rows) - start)
            parts += (varint(count), varint(len(block)), block, header[-16:])
        made.append(b"".join(parts))
    return made


def insert_files(rig: Rig, containers: Sequence[bytes]) -> dict[str, float]:
    """Let ClickHouse read files, with its own settings; return what it took."""
    origin = {"topic_id": "bench", "leader_epoch": 0, "reading": 0}
    with tables(rig) as database:
        statement = insert_statement("events", "event", TOPIC)
        database.query("SELECT 1")
        began_s, engine_s = time.monotonic(), cpu_s(rig.clickhouse.pid)
        for data in containers:
            database.command(statement, origin, data, {"async_insert": 0, "max_partitions_per_insert_block": 0})
        took_s = time.monotonic() - began_s
        await_merges(database)
        engine_s = cpu_s(rig.clickhouse.pid) - engine_s
        check(database, FILES, len(rig.rows))
    return figures(len(rig.rows), took_s, 0.0, engine_s, len(containers))


def log_bytes(broker: KafkaNode) -> float:
    """Return the size of the topic's files."""
    return sum(file.stat().st_size for file in broker.directory.glob(f"data/{TOPIC}-*/*.log"))


def main() -> None:
    """Measure, and keep the figures."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=300_000)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--sides", nargs="*", default=[HEADRACE, NAIVE, FILES])
    options = asked.parse_args()
    rounds: Rounds = {side: [] for side in options.sides}
    rows = list(bodies(options.rows, options.rows))
    with rig(rows) as servers:
        containers = files(rows)
        log = log_bytes(servers.broker) / options.rows
        for number in range(options.rounds):
            for side in sorted(rounds, reverse=bool(number % 2)):
                seen = insert_files(servers, containers) if side == FILES else consume(side, servers)
                rounds[side].append(seen)
                print(side, {name: round(value, 1) for name, value in seen.items()}, flush=True)
    sizes = {"log_bytes": log, "avro_bytes": sum(len(body) for _, body in rows) / options.rows}
    keep("sink", {"rows": options.rows, "sizes": sizes, "sides": rounds})


if __name__ == "__main__":
    main()
