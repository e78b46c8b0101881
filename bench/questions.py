"""Asks the questions of docs/ANALYTICS.md on generated events, and keeps answers and costs for the page.

    .venv/bin/python -m bench.questions --millions 10 && make docs

Starts ClickHouse's own server (chdb-core) in a temporary directory, migrates it, and inserts a million events of a
newspaper's readers as a worker does, copies and late events too. More events are the same days of other readers:
ClickHouse copies the first ones under other ids. Answers are those of the first million. Times are the server process's
CPU, the best of three; what takes more than two seconds is asked once.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from bench.answers import PAGE, ROWS_SHOWN, Question, questions
from bench.events_table import Server
from bench.kept import keep, load
from bench.readers import DAY_MS, Plan, traffic
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.migrations import create_database, migrate, migrations
from consumer.clickhouse.products import make_products
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Partition, Record
from consumer.metrics import PrometheusMetrics
from consumer.operations.erasure import Eraser
from consumer.operations.erasure_key import ErasureKey
from consumer.operations.people import Kind, Person, with_visitors
from docs.tables import ROOT
from ingest.events.validator import EventLimits, Sender, Validator
from schemas.codec import Encoder, local_schema_id, read_schema
from schemas.event import read_catalogue
from schemas.registry import LocalSchemas

START_MS: Final = 1_767_571_200_000  # 2026-01-05, a Monday
DAYS: Final = 14
EVENTS_PER_VISIT: Final = 10.0  # about; the plan has a few visits more than are needed
FIRST: Final = 1_000_000
BLOCK: Final = 50_000
_ROLES: Final = (ROOT / "deploy/clickhouse/roles.sql").read_text("utf-8")
_ANALYST: Final = dict(re.findall(r"^    (max_memory_usage|max_bytes_\w*before_\w+) = (\d+)", _ROLES, re.MULTILINE))
_COPY: Final = """
CREATE MATERIALIZED VIEW page_views_hourly REFRESH EVERY 1 YEAR ENGINE = MergeTree ORDER BY (day, ping_id)
EMPTY AS SELECT * FROM page_views
SETTINGS max_memory_usage = 8000000000, max_bytes_before_external_group_by = 2000000000,
    max_bytes_ratio_before_external_group_by = 0
"""
_TIMES: Final = 3
_SLOW_MS: Final = 2000  # once is enough then
_COUNT: Final = "SELECT event_type, count() AS events FROM {table} GROUP BY event_type ORDER BY event_type"
_UUID: Final = (
    "toUUID(concat(left(toString({0}), 15), left({1}, 3), '-8', substring({1}, 4, 3), '-', substring({1}, 7, 12)))"
)
_STORED: Final = """
SELECT name FROM system.columns
WHERE database = currentDatabase() AND table = 'events' AND default_kind IN ('', 'DEFAULT') ORDER BY position
"""
_CHANGED: Final = {  # the time in an id stays
    "event_id": _UUID.format("event_id", "e"),
    "ping_id": _UUID.format("ping_id", "p"),
    "anon_id": "if(anon_id = '', '', lower(hex(sipHash128(anon_id, {copy}))))",
    "user_id": "if(user_id = '', '', concat('u', lower(hex(sipHash64(user_id, {copy})))))",
    "session_id": "if(session_id = '', '', lower(hex(sipHash64(session_id, {copy}))))",
    "_offset": "_offset + {copy} * 10000000",
}


def records(count: int) -> Iterator[Record]:
    """Yield what the ingress would publish of so many events, copies and late ones among them."""
    visits = count / DAYS / EVENTS_PER_VISIT
    plan = Plan(START_MS, START_MS + DAYS * DAY_MS, readers=max(1, int(visits * 2)), visits_per_day=visits * 1.5)
    validator, schema = Validator(read_catalogue(), EventLimits(), "production"), read_schema("event")
    encoder = Encoder(schema, local_schema_id(schema))
    good = (sent for sent in traffic(plan) if sent.kind != "bad")
    for number, sent in enumerate(islice(good, count)):
        body = msgspec.json.encode({"messageBody": [sent.event]})
        (event,) = validator.read(body, Sender(sent.at_ms, ip=sent.ip)).events
        yield Record(Partition("events", 0), number, sent.at_ms, b"", encoder.encode(event))


class Tables:
    """A database with the views, and what is asked of it."""

    def __init__(self, server: Server, database: str) -> None:
        self._server, self._database = server, database
        create_database(Connection(server.url, "default", "", "", 3600), database, time.sleep)
        self.connection = Connection(server.url, "default", "", database, 3600)
        migrate(self.connection, migrations(), time.sleep)
        make_products(self.connection, "UTC", time.sleep)

    def fill(self, count: int) -> float:
        """Insert so many events as a worker does; return microseconds of CPU a row."""
        rows, all_records = EventRows(LocalSchemas()), records(count)
        table = ClickHouseTable(
            self.connection, Target("events", "event", "events", 600), rows, None, PrometheusMetrics()
        )
        cpu_s, inserted = 0.0, 0
        while batch := list(islice(all_records, BLOCK)):
            rows.screen(batch)
            (block,) = rows.blocks(batch, Origin("t"), f"{inserted}")
            began_s = self._server.cpu_s()
            table.insert(block)
            cpu_s += self._server.cpu_s() - began_s
            inserted += len(batch)
        return cpu_s / inserted * 1e6

    def grow(self, source: "Tables", times: int) -> None:
        """Insert another database's rows, and as many times those of other readers."""
        columns = [row["name"] for row in self.connection.query(_STORED)]
        for copy in range(times):
            changed = _CHANGED if copy else {}
            texts = (f"{changed[name].format(copy=copy)} AS n_{name}" if name in changed else name for name in columns)
            self.connection.command(
                f"INSERT INTO events ({', '.join(columns)}) WITH lower(hex(sipHash128(event_id, {copy}))) AS e,"
                f" lower(hex(sipHash128(ping_id, {copy}))) AS p"
                f" SELECT {', '.join(texts)} FROM {source.connection.database}.events",
                settings={"optimize_on_insert": 0},
            )
        self.merge()

    def merge(self) -> None:
        """Merge all rows into one part for each month."""
        self.connection.command("OPTIMIZE TABLE events FINAL")

    def cost(self, statement: str) -> dict[str, float]:
        """Return what a statement costs at its best of three times; the CPU is the server process's.

        Nothing, if it takes more memory than an analyst has.
        """
        best: dict[str, float] = {}
        for _ in range(_TIMES):
            began_s, cpu_s = time.perf_counter(), self._server.cpu_s()
            query = f"{statement.rstrip().rstrip(';')} FORMAT Null"
            try:
                _, summary = self._server.ask(query, database=self._database, **_ANALYST)
            except RuntimeError as error:
                if "Code: 241" not in str(error):  # MEMORY_LIMIT_EXCEEDED
                    raise
                return {}
            took = {"ms": (time.perf_counter() - began_s) * 1e3, "cpu_ms": (self._server.cpu_s() - cpu_s) * 1e3}
            if not best or took["cpu_ms"] < best["cpu_ms"]:
                best = took | {name: float(summary[name]) for name in ("read_rows", "read_bytes")}
            if took["ms"] > _SLOW_MS:
                break
        return best

    def answer(self, statement: str) -> dict[str, Any]:
        """Return the columns of an answer, its first rows and how many there are."""
        text, _ = self._server.ask(f"{statement.rstrip().rstrip(';')} FORMAT JSONCompact", database=self._database)
        found = json.loads(text)
        columns = [column["name"] for column in found["meta"]]
        return {"columns": columns, "rows": found["data"][:ROWS_SHOWN], "count": len(found["data"])}

    def facts(self) -> dict[str, float]:
        """Return the table's size and the price of FINAL, of merged rows and of rows with a part of copies.

        The copies stay.
        """
        (size,) = self.connection.query("SELECT count() AS n FROM events")
        once = {table: self.cost(_COUNT.format(table=table))["cpu_ms"] for table in ("events", "events_unique")}
        self.connection.command("SYSTEM STOP MERGES events")
        self.connection.command("INSERT INTO events SELECT * FROM events WHERE cityHash64(event_id) % 100 = 0")
        copies_ms = self.cost(_COUNT.format(table="events_unique"))["cpu_ms"]
        return {
            "rows": size["n"],
            "count_ms": once["events"],
            "final_ms": once["events_unique"],
            "unmerged_ms": copies_ms,
        }

    def copied(self, asked: list[Question]) -> dict[str, float]:
        """Keep a copy of page_views, and ask it what was asked of the view; return the costs of both."""
        self.connection.command(_COPY)
        began_s = time.perf_counter()
        self.connection.command("SYSTEM REFRESH VIEW page_views_hourly")
        self.connection.command("SYSTEM WAIT VIEW page_views_hourly")
        refresh_s = time.perf_counter() - began_s
        mine = [question.sql for question in asked if re.search(r"\bFROM page_views\b", question.sql)]
        views_ms = sum(self.cost(sql)["cpu_ms"] for sql in mine)
        copy_ms = sum(self.cost(sql.replace("FROM page_views", "FROM page_views_hourly"))["cpu_ms"] for sql in mine)
        self.connection.command("DROP VIEW page_views_hourly SYNC")
        return {"refresh_s": refresh_s, "view_ms": views_ms, "copy_ms": copy_ms}

    def bytes_per_row(self) -> float:
        """Return the bytes on disk of a row."""
        (size,) = self.connection.query(
            "SELECT sum(bytes_on_disk) / sum(rows) AS bytes FROM system.parts"
            " WHERE database = currentDatabase() AND table = 'events' AND active"
        )
        return float(size["bytes"])

    def erase(self) -> float:
        """Erase the user with most events; return the seconds."""
        (user,) = self.connection.query(
            "SELECT user_id FROM events WHERE user_id != '' GROUP BY user_id ORDER BY count() DESC, user_id LIMIT 1"
        )
        eraser = Eraser(self.connection, LocalSchemas().schema_of, print)
        began_s = time.perf_counter()
        people = with_visitors(self.connection, [Person(Kind.USER, user["user_id"], eraser.now_ms())])
        eraser.erase(people, ErasureKey(b"only for this measurement"), "bench")
        return time.perf_counter() - began_s


def prepare(server: Server, millions: list[float]) -> tuple[dict[str, Tables], float]:
    """Make and fill a database for each size; return them, and microseconds of CPU of an inserted row."""
    first = Tables(server, "headrace")
    insert_us = first.fill(FIRST)
    first.merge()
    made = {"1": first}
    for size in sorted({round(size) for size in millions} - {1}):
        made[f"{size}"] = Tables(server, f"headrace_{size}")
        made[f"{size}"].grow(first, size)
    return made, insert_us


def again(made: dict[str, Tables], only: str) -> dict[str, Any]:
    """Ask the questions with this text in them at each size; the rest stays as it was kept."""
    document = load("questions")
    for question in questions((ROOT / PAGE).read_text("utf-8")):
        for size, tables in made.items() if only in question.sql else ():
            document["questions"][question.sql]["costs"][size] = tables.cost(question.sql)
            print(size, question.asked, document["questions"][question.sql]["costs"][size], flush=True)
    return document


def measure(made: dict[str, Tables], insert_us: float) -> dict[str, Any]:
    """Ask every question at each size."""
    asked = questions((ROOT / PAGE).read_text("utf-8"))
    kept: dict[str, Any] = {question.sql: {"costs": {}} for question in asked}
    sizes: dict[str, Any] = {}
    for size, tables in made.items():
        sizes[size] = tables.copied(asked)
        for question in asked:
            kept[question.sql]["costs"][size] = tables.cost(question.sql)
            print(f"{size} M {kept[question.sql]['costs'][size].get('ms', -1):8.0f} ms  {question.asked}", flush=True)
    for question in asked:
        kept[question.sql]["answer"] = made["1"].answer(question.sql)
    # Copies have the texts of the first million, and compress better than events do.
    sizes["1"] |= {"insert_us": insert_us, "bytes_per_row": made["1"].bytes_per_row()}
    for size, tables in made.items():
        sizes[size] |= {"erase_s": tables.erase()} | tables.facts()
    (version,) = made["1"].connection.query("SELECT version() AS v")
    asked_so = "Each question at its best of three times; what takes more than two seconds once."
    return {"clickhouse": version["v"], "asked": asked_so, "tables": sizes, "questions": kept}


def main() -> None:
    """Measure, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, action="append", help="also of so many events; repeatable")
    parser.add_argument(
        "--only", help="ask only questions with this text in their statement, and keep the other figures"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        server = Server(directory)
        try:
            made, insert_us = prepare(server, arguments.millions or [])
            keep("questions", again(made, arguments.only) if arguments.only else measure(made, insert_us))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
