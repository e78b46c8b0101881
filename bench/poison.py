"""How long poison holds up a batch of 100,000 records: by kind and share, until its good rows are in and until the end.

A worker over a real ClickHouse, its log and its dead-letter topic in memory: what is measured is the search, the
inserts and the intents, not Kafka. Figures: docs/decisions/poison.md. Run `python -m bench.poison` (5 minutes), or with
kinds and shares: `python -m bench.poison --kinds uuid mixed --shares 0.05`.
"""

import argparse
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.migrations import create_database, migrate, migrations
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.backoff import Backoff
from consumer.delivery.buffer import BufferLimits
from consumer.delivery.executor import Pools, WorkerConfig
from consumer.delivery.pipeline import Pipeline
from consumer.delivery.ports import Block, Partition, Record
from consumer.delivery.worker import Worker
from schemas.registry import LocalSchemas
from tests.support.clickhouse import provide
from tests.support.consumer_fakes import Tally
from tests.support.fake_group import TOPIC, FakeBroker, FakeLog
from tests.support.fixtures_consumer import AT_MS, encoded, encoded_loosely, open_database

ROWS: Final = 100_000
SHARES: Final = (0.001, 0.01, 0.05, 0.2, 1.0)
_LIMIT_S: Final = 120.0
_EXPRESSION: Final = "toUInt8(concat('1', access_type))"
_AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"


def good(number: int, **fields: object) -> bytes:
    """Return an event of ordinary size, or one with other fields."""
    ordinary = {
        "url": f"https://example.org/news/{number}",
        "userAgent": _AGENT,
        "clientId": "web",
        "anonId": f"a{number}",
    }
    return encoded(number, **{**ordinary, **fields})


KINDS: Final[Mapping[str, Callable[[int], bytes]]] = {
    "frame": lambda _: b"no frame",
    "truncated": lambda n: good(n)[:-9],
    "uuid": lambda n: encoded_loosely(n, eventId="not-a-uuid"),
    "number": lambda n: good(n, active=5000),
    "time": lambda n: good(n, receivedAt=9_999_999_999_999_999),
    "constraint": lambda n: good(n, pageType="forbidden"),
    "expression": lambda n: good(n, accessType="x"),
}
"""`constraint` and `expression` are an operator's: a CHECK, and a column computed by a function that throws."""


class Letters:
    """A `DeadLetters` that counts."""

    def __init__(self) -> None:
        self.count = 0

    def send(self, records: object, poison: list[object], topic_id: str) -> None:
        """Count letters."""
        del records, topic_id
        self.count += len(poison)


class CountingTable(ClickHouseTable):
    """A table that counts the rows it has taken."""

    rows = 0

    def insert(self, block: Block) -> None:
        """Insert a block."""
        super().insert(block)
        self.rows += len(block.offsets)


class Untouched:
    """A `Repairer` and a record of what is inserted for tables that nobody else writes to, and where nothing fails."""

    def repair(self, block: Block, records: object) -> int:
        """Look for nothing."""
        del block, records
        return 0

    def end(self, partition: Partition, topic_id: str, reading: int) -> int:
        """Know of no earlier row."""
        del partition, topic_id, reading
        return 0


def values(kind: str, share: float) -> list[bytes]:
    """Return a batch's values, its poison spread evenly; `mixed` takes the kinds in turn, but for `expression`."""
    mixed = [make for name, make in KINDS.items() if name != "expression"]
    made, bad = [], 0
    for number in range(ROWS):
        if int((number + 1) * share) > int(number * share):
            make = mixed[bad % len(mixed)] if kind == "mixed" else KINDS[kind]
            made.append(make(number))
            bad += 1
        else:
            made.append(good(number))
    return made


def run(database: Connection, batch: list[bytes], good_rows: int) -> tuple[float, float, int, int]:
    """Return the seconds until the good rows are in, and until all is settled, the probes, and the batches."""
    broker, letters, metrics, schemas = FakeBroker(1), Letters(), Tally(), LocalSchemas()
    place = Partition(TOPIC, 0)
    broker.logs[place].records = {n: Record(place, n, AT_MS, b"", value) for n, value in enumerate(batch)}
    broker.logs[place].end = len(batch)
    rows, log = EventRows(schemas), FakeLog(broker, records_max=len(batch))
    table = CountingTable(database, Target("events", "event", TOPIC, 60), rows, schemas.schema_of, metrics)
    pipeline = Pipeline(rows, table, letters, broker, Untouched(), Untouched())  # type: ignore[arg-type]  # simpler letters
    terms = WorkerConfig(BufferLimits(len(batch), 10**9, 0.1, 10**10), "bench", 1.0, Backoff())
    good_at_s = 0.0
    with ThreadPoolExecutor(4) as pool:
        worker = Worker(log, {TOPIC: pipeline}, Pools(pool, pool, {TOPIC: pool}), terms, metrics)
        log.listen(worker)
        began_s = time.monotonic()
        while time.monotonic() - began_s < _LIMIT_S:
            worker.turn()
            time.sleep(0.005)
            if not good_at_s and table.rows == good_rows:
                good_at_s = time.monotonic()
            if (mark := broker.marks.get(place)) and mark.offset == len(batch):
                break
        ended_s = time.monotonic()
    return (
        (good_at_s or ended_s) - began_s,
        ended_s - began_s,
        metrics.counts["poison_probes/events"],
        metrics.counts["intents/written"],
    )


def main() -> None:
    """Print a line for each kind and share."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--kinds", nargs="*", default=[*KINDS, "mixed"])
    asked.add_argument("--shares", nargs="*", type=float, default=SHARES)
    chosen = asked.parse_args()
    with provide() as clickhouse:
        first, name = open_database(clickhouse, ""), f"bench_{uuid.uuid4().hex[:8]}"
        create_database(first, name, time.sleep)
        print("| kind | share | good rows in (s) | settled (s) | probes | batches |\n|---|---|---|---|---|---|")
        for kind in chosen.kinds:
            for share in chosen.shares:
                database = open_database(clickhouse, name, 60)
                migrate(database, migrations(), time.sleep)
                database.command("ALTER TABLE events ADD CONSTRAINT pages CHECK page_type != 'forbidden'")
                if kind == "expression":
                    database.command(f"ALTER TABLE events ADD COLUMN access UInt8 MATERIALIZED {_EXPRESSION}")
                good_s, all_s, probes, batches = run(database, values(kind, share), ROWS - int(ROWS * share))
                print(f"| {kind} | {share:.1%} | {good_s:.1f} | {all_s:.1f} | {probes} | {batches} |", flush=True)
                database.close()
                first.command(f"DROP DATABASE {name}")
                first.command(f"CREATE DATABASE {name}")
        first.command(f"DROP DATABASE {name}")
        first.close()


if __name__ == "__main__":
    main()
