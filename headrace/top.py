"""`headrace top`: lag, rates and freshness, live, as plain text."""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from consumer.commands import show
from consumer.delivery.ports import Partition
from consumer.errors import ConsumerError
from consumer.kafka.admin import Cluster
from consumer.operations.lag import lag_lines
from consumer.operations.preflight import find_topics
from consumer.operations.whereabouts import freshness
from consumer.parts import connect, kafka_properties
from headrace.arguments import seconds
from headrace.services import Services, addresses
from headrace.terminal import plain

ABOUT: Final = """
Shows, again and again: for each partition how far the workers are behind, how many events a second
come in and go out, and how old the oldest waiting one is; and of the tables how many rows came in
the last minute, how long they were under way, and until when the table is complete.

--once shows it once, after two looks that are --every-s apart, because a rate needs two.

A server that does not answer is `unknown`; the rest is shown all the same.

Exit code of --once: 0; 1 when a partition is halted; 2 a setting is wrong; 3 a server does not
answer.

  headrace top
  headrace top --once --json
"""
_CLEAR: Final = "\x1b[H\x1b[2J"
_PATIENCE_S: Final = 5.0


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--every-s", type=seconds, default=2.0, metavar="SECONDS", help="look again after so long (%(default)s)"
    )
    parser.add_argument("--once", action="store_true", help="show it once, and end")
    parser.add_argument("--json", action="store_true", help="one JSON object per look")
    parser.set_defaults(call=run)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look has seen.

    Attributes:
        at_s: when, in monotonic seconds.
        lines: of the partitions: topic, partition, committed, end, lag, note, waiting_s.
        tables: of ClickHouse: rows_per_minute, delay_s, complete_s.
        unknown: a sentence for each server that did not answer.
    """

    at_s: float
    lines: Sequence[Mapping[str, Any]] = ()
    tables: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def rated(before: Look | None, now: Look) -> list[dict[str, Any]]:
    """Return the lines of a look with rates per second since the one before; None where they can't be known.

    An end or a commit that went back is of a recreated topic or of a second reading: it is no rate.
    """
    then = {(line["topic"], line["partition"]): line for line in before.lines} if before else {}
    took_s = now.at_s - before.at_s if before else 0.0

    def rate(line: Mapping[str, Any], name: str) -> float | None:
        old = then.get((line["topic"], line["partition"]))
        if old is None or took_s <= 0 or line[name] < old[name]:
            return None
        return round(float(line[name] - old[name]) / took_s, 1)

    return [
        {
            "topic": line["topic"],
            "partition": line["partition"],
            "in_per_s": rate(line, "end"),
            "out_per_s": rate(line, "committed"),
            "lag": line["lag"],
            "waiting_s": line["waiting_s"],
            "note": line["note"],
        }
        for line in now.lines
    ]


def run(services: Services, arguments: argparse.Namespace) -> int:
    """Look and show, until Ctrl-C or once.

    Raises:
        ValueError: a setting is wrong.
    """
    watch = Watch(services)
    before: Look | None = None
    try:
        while True:
            began_s = time.monotonic()
            now = watch.look()
            if before is not None or not arguments.once:
                _show(before, now, as_json=arguments.json, is_live=not arguments.once)
            if before is not None and arguments.once:
                return _code(now)
            before = now
            time.sleep(max(0.0, arguments.every_s - (time.monotonic() - began_s)))
    except KeyboardInterrupt:
        return 0


def _code(look: Look) -> int:
    if look.unknown:
        return 3
    return 1 if any("halted" in str(line["note"]) for line in look.lines) else 0


def _show(before: Look | None, now: Look, *, as_json: bool, is_live: bool) -> None:
    lines = rated(before, now)
    if as_json:
        print(json.dumps({"partitions": lines, "tables": dict(now.tables), "unknown": now.unknown}), flush=True)
        return
    if is_live and sys.stdout.isatty():
        sys.stdout.write(_CLEAR)
    if lines:
        show([{name: _shown(value) for name, value in line.items()} for line in lines], as_json=False)
    if now.tables:
        print(f"\n{_of_tables(now.tables)}")
    for sentence in now.unknown:
        print(f"unknown: {plain(sentence)}")
    print(flush=True)


def _shown(value: object) -> object:
    return "-" if value is None else plain(value) if isinstance(value, str) else value


def _of_tables(tables: Mapping[str, Any]) -> str:
    rows = tables["rows_per_minute"]
    delay = f", under way for {tables['delay_s']} s (median)" if rows else ""
    complete_s = tables["complete_s"]
    complete = "not known yet" if complete_s is None else f"{complete_s} s ago"
    return f"table events: {rows} rows in the last minute{delay}; complete until: {complete}"


class Watch:
    """Looks at Kafka and ClickHouse."""

    def __init__(self, services: Services) -> None:
        self._settings = services.consumer()
        self._without_log, self._without_table = (
            services.missing("BOOTSTRAP_SERVERS"),
            services.missing("CLICKHOUSE_URL"),
        )
        self._cluster = (
            None if self._without_log else Cluster(kafka_properties(self._settings), self._settings.group_id)
        )
        self._connection = None if self._without_table else connect(self._settings).patient(_PATIENCE_S)

    def look(self) -> Look:
        """Return what is seen now."""
        unknown = [text for text in (self._without_log, self._without_table) if text]
        lines: list[Mapping[str, Any]] = []
        tables: Mapping[str, Any] = {}
        at_s = time.monotonic()
        if self._cluster is not None:
            try:
                lines = self._lines(self._cluster)
            except ConsumerError as error:
                unknown.append(f"Kafka: {error}")
        if self._connection is not None:
            try:
                tables = freshness(self._connection, self._settings.topic)
            except ConsumerError as error:
                unknown.append(f"{error}; asked: {addresses(self._connection)}")
        return Look(at_s, lines, tables, tuple(unknown))

    def _lines(self, cluster: Cluster) -> list[Mapping[str, Any]]:
        topics = find_topics(cluster, [self._settings.topic, self._settings.dead_letter_topic])
        return [dict(line) | {"waiting_s": _waiting_s(cluster, line)} for line in lag_lines(cluster, topics)]


def _waiting_s(cluster: Cluster, line: Mapping[str, Any]) -> float | None:
    """Return how old the oldest waiting record is by its Kafka timestamp; 0 when none waits, None when unknown."""
    if not line["lag"]:
        return 0.0
    at_ms = cluster.time_at(Partition(line["topic"], line["partition"]), line["committed"])
    return None if at_ms is None or at_ms < 0 else round(max(0.0, time.time() - at_ms / 1000), 1)
