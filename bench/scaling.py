"""What more processes change under a steady load: 1 -> 2 ingress processes, then 1 -> 3 -> 1 workers.

Requests of 10 events come in at an even rate over HTTP. This machine has two cores for everything, so more processes
would not make it faster; each one is therefore held to a known capacity: an ingress process to so many requests at
once, each of which waits for a linger of 100 ms, and a worker to one insert at a time of so many rows into a ClickHouse
that answers late. What is shown is how the parts share the work and hand it over, not how fast they are.

A request that was refused (503) is sent again with the same event ids, as clients do. At the end each accepted event
is looked for: none may be missing, and none may be there twice.

Run `python -m bench.scaling` (3 minutes). The figures go to bench/figures.
"""

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.kept import keep
from bench.sink import await_group
from consumer.clickhouse.client import Connection
from consumer.clickhouse.migrations import create_database, migrate, migrations
from tests.support.clickhouse import USER, EmbeddedClickHouse, password_file
from tests.support.fixtures_consumer import open_database
from tests.support.ingress import Ingress
from tests.support.kafka import KafkaCluster
from tests.support.proxy import DelayAnswer, FaultProxy

_ROOT: Final = Path(__file__).resolve().parents[1]
TOPIC: Final = "events"
PARTITIONS: Final = 6
EVENTS_A_REQUEST: Final = 10
REQUESTS_AT_ONCE: Final = 12
LINGER_MS: Final = 100
BATCH_ROWS: Final = 400
INSERT_S: Final = 0.4
_SENDERS: Final = 100
_REQUESTS_A_CONNECTION: Final = 20  # balancers open new ones too; a kept one stays with its process
_PAUSE_S: Final = 0.2
_SAMPLE_S: Final = 0.5
_LIMIT_S: Final = 90.0
_ROWS: Final = (
    "SELECT sum(rows) AS n FROM system.parts WHERE database = currentDatabase() AND table = 'events' AND active"
)
_COUNTS: Final = (
    "SELECT count() AS total, uniqExact(event_id) AS events, uniqExact(_partition, _offset) AS offsets FROM events"
)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the run: how many processes there are, and for how long (s); or until little waits."""

    ingress: int
    workers: int
    seconds: float
    until_waiting: int = -1


PHASES: Final = (Phase(1, 1, 15), Phase(2, 1, 15), Phase(2, 3, 75, until_waiting=3000), Phase(2, 1, 15))


@dataclass
class Load:
    """Requests at an even rate. Threads share the counts.

    Attributes:
        accepted: the event ids that were answered 201.
        refused: answers of 503.
        broken: requests without an answer; sent again too.
    """

    port: int
    per_s: float
    accepted: list[str] = field(default_factory=list)
    refused: int = 0
    broken: int = 0
    _due: deque[list[str]] = field(default_factory=deque)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Make requests due at the rate, until `stop`."""
        threads = [threading.Thread(target=self._send, daemon=True) for _ in range(_SENDERS)]
        for thread in threads:
            thread.start()
        began_s, number = time.monotonic(), 0
        while not self._stop.is_set():
            while time.monotonic() >= began_s + number / self.per_s:
                self._due.append([str(uuid.uuid4()) for _ in range(EVENTS_A_REQUEST)])
                number += 1
            time.sleep(0.002)
        for thread in threads:
            thread.join(_LIMIT_S)

    def stop(self) -> None:
        """Make no more; what is due is still sent."""
        self._stop.set()

    def _send(self) -> None:
        connection, uses = self._connection(), 0
        while True:
            try:
                ids = self._due.popleft()
            except IndexError:
                if self._stop.is_set():
                    connection.close()
                    return
                time.sleep(0.005)
                continue
            if uses >= _REQUESTS_A_CONNECTION:
                connection.close()
                uses = 0
            uses += 1
            status = self._try(connection, ids)
            with self._lock:
                self.refused += status == http.client.SERVICE_UNAVAILABLE
                self.broken += status == 0
                self.accepted += ids if status == http.client.CREATED else []
            if status != http.client.CREATED:
                time.sleep(_PAUSE_S)
                self._due.append(ids)

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    @staticmethod
    def _try(connection: http.client.HTTPConnection, ids: list[str]) -> int:
        """Return the status; 0 when there was no answer."""
        events = [{"eventType": "VIEW", "eventId": one, "anonId": one, "clientId": "bench"} for one in ids]
        body = json.dumps({"messageBody": events}).encode()
        try:
            connection.request("POST", "/collect/event", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0
        return answer.status


@dataclass
class Rig:
    """The servers of the run, and the processes that come and go."""

    servers: str
    ingress: Ingress
    database: Connection
    environ: dict[str, str]
    directory: Path
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def scale(self, phase: Phase) -> None:
        """Have as many processes as a phase says: gunicorn adds a worker process at SIGTTIN."""
        for _ in range(phase.ingress - len(self.ingress.workers)):
            self.ingress.process.send_signal(signal.SIGTTIN)
        while len(self.workers) < phase.workers:
            with (self.directory / f"worker-{uuid.uuid4().hex[:6]}.log").open("wb") as log:
                command = [sys.executable, "-m", "consumer", "run"]
                self.workers.append(subprocess.Popen(command, cwd=_ROOT, env=self.environ, stdout=log, stderr=log))
        leaving = [self.workers.pop() for _ in range(len(self.workers) - phase.workers)]
        for worker in leaving:
            worker.terminate()
        for worker in leaving:
            worker.wait(60)

    def rows(self) -> int:
        """Return how many rows there are, by the parts of the table, which costs nothing."""
        return int(self.database.query(_ROWS)[0]["n"])


@contextmanager
def rig() -> Iterator[Rig]:
    """Run the servers, and one ingress process."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker, clickhouse = stack.enter_context(KafkaCluster(1)), stack.enter_context(EmbeddedClickHouse())
        broker.create_topic(TOPIC, PARTITIONS)
        broker.create_topic(f"{TOPIC}.dead", 1)
        proxy = stack.enter_context(FaultProxy("127.0.0.1", clickhouse.port))
        name = f"bench_{uuid.uuid4().hex[:8]}"
        create_database(open_database(clickhouse, ""), name, time.sleep)
        database = open_database(clickhouse, name)
        migrate(database, migrations(), time.sleep)
        proxy.set(DelayAnswer(INSERT_S))
        limits = {"linger_ms": LINGER_MS, "requests_max": REQUESTS_AT_ONCE, "workers": 1}
        ingress = Ingress(directory, broker.bootstrap_servers, **limits)
        ingress.start()
        stack.callback(ingress.end)
        servers = broker.bootstrap_servers
        made = Rig(servers, ingress, database, _environ(servers, proxy.port, name, directory), directory)
        yield made
        made.scale(Phase(0, 0, 0))


def _environ(servers: str, clickhouse_port: int, database: str, directory: Path) -> dict[str, str]:
    """Return a worker's environment: one insert at a time, of few rows."""
    settings = {
        "BOOTSTRAP_SERVERS": servers,
        "CLICKHOUSE_URL": f"http://127.0.0.1:{clickhouse_port}",
        "CLICKHOUSE_USER": USER,
        "CLICKHOUSE_PASSWORD_FILE": str(password_file()),
        "CLICKHOUSE_DATABASE": database,
        "GROUP_ID": database,
        "SCHEMA_CACHE_DIR": str(directory),
        "INSERT_THREADS": 1,
        "BATCH_ROWS_MAX": BATCH_ROWS,
        "EARLY_INSERTS_PER_S_MAX": 0,
        "SESSION_TIMEOUT_MS": 6000,
        "DRAIN_S_MAX": 5,
        "AUDIT_EVERY_S": 0,
        "HEARTBEAT_EVERY_S": 0,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONSUMER_")}
    return kept | {f"CONSUMER_{name}": str(value) for name, value in settings.items()}


def measure(per_s: float) -> dict[str, Any]:
    """Run all phases; return what was seen every half second, and how it ended."""
    samples: list[dict[str, float]] = []
    with rig() as servers:
        load = Load(servers.ingress.port, per_s)
        servers.scale(PHASES[0])
        await_group(servers.servers, servers.database.database)
        sender = threading.Thread(target=load.run)
        sender.start()
        began_s = time.monotonic()
        for phase in PHASES:
            servers.scale(phase)
            phase_until_s = time.monotonic() + phase.seconds
            while time.monotonic() < phase_until_s:
                samples.append(_sample(servers, load, time.monotonic() - began_s, phase))
                print({name: round(value, 1) for name, value in samples[-1].items()}, flush=True)
                if samples[-1]["accepted"] - samples[-1]["rows"] < phase.until_waiting:
                    break
        load.stop()
        sender.join()
        last = PHASES[-1]
        until_s = time.monotonic() + _LIMIT_S
        while servers.rows() < len(load.accepted) and time.monotonic() < until_s:
            samples.append(_sample(servers, load, time.monotonic() - began_s, last))
        return {"samples": samples, "end": _end(servers, load)}


def _sample(servers: Rig, load: Load, at_s: float, phase: Phase) -> dict[str, float]:
    time.sleep(_SAMPLE_S)
    accepted, rows = len(load.accepted), servers.rows()
    return {
        "at_s": round(at_s, 2),
        "accepted": accepted,
        "rows": rows,
        "refused": load.refused,
        "ingress": phase.ingress,
        "workers": phase.workers,
    }


def _end(servers: Rig, load: Load) -> dict[str, int]:
    """Compare what was accepted with what is in the table.

    Raises:
        AssertionError: an event is missing, or there twice.
    """
    counts = {name: int(value) for name, value in servers.database.query(_COUNTS)[0].items()}
    there = {str(row["id"]) for row in servers.database.query("SELECT toString(event_id) AS id FROM events")}
    missing = len(set(load.accepted) - there)
    assert missing == 0, f"{missing} accepted events have no row"
    assert counts["total"] == counts["offsets"], counts
    seen = {"accepted": len(load.accepted), "missing": missing, "double": counts["total"] - counts["events"]}
    return seen | {"refused": load.refused, "broken": load.broken}


def main() -> None:
    """Measure, and keep the figures."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--per-s", type=float, default=150.0, help="requests a second")
    options = asked.parse_args()
    seen = measure(options.per_s)
    print(seen["end"])
    limits = {
        "requests_at_once": REQUESTS_AT_ONCE,
        "linger_ms": LINGER_MS,
        "batch_rows": BATCH_ROWS,
        "insert_s": INSERT_S,
        "partitions": PARTITIONS,
    }
    keep("scaling", {"per_s": options.per_s * EVENTS_A_REQUEST, "limits": limits, **seen})


if __name__ == "__main__":
    main()
