"""The commands migrate, audit, lag and replay of `python -m consumer`. Each prints its result."""

import getpass
import json
import logging
import socket
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, TextIO

from consumer.clickhouse.client import Connection
from consumer.clickhouse.migrations import create_database, migrate, migrations, patiently
from consumer.clickhouse.notes import write_audits
from consumer.clickhouse.promotion import Promotion, await_filled, promote, refresh_views
from consumer.clickhouse.remake import RECOUNT
from consumer.clickhouse.replica import copy_tables
from consumer.clickhouse.retention import Retention, apply_retention
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.servers import servers_of
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.ports import Partition
from consumer.errors import ConsumerError, Misconfigured
from consumer.kafka.admin import Cluster, Topic
from consumer.kafka.dead_letters import DeadLetterProducer
from consumer.metrics import PrometheusMetrics
from consumer.operations.audit import Auditor
from consumer.operations.background_audit import facts, row_of
from consumer.operations.erasure_key import ErasureKey, recorded
from consumer.operations.lag import lag_lines
from consumer.operations.people import ids_of
from consumer.operations.preflight import find_topics
from consumer.operations.replay import Choice, Letter, Replay, ReplayVerdict
from consumer.operations.spans import Finding, Span, intended
from consumer.parts import connect, erasure_key, find_schemas, kafka_properties, targets
from consumer.settings import Settings, settings_at

log = logging.getLogger(__name__)

_RECOUNT: Final = f"the view that counts them was missing; run `python -m consumer migrate`, then {RECOUNT}"
_SHOWN_MAX: Final = 20
_PAUSE_S: Final = 2.0
PATIENCE_S: Final = 3600.0
"""An answer about whole tables is waited for so long."""


def operator() -> str:
    """Return who runs this, as tables keep it."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def run_migrate(settings: Settings, arguments: Namespace) -> int:
    """Create or update the database and its tables, on each server, or ON CLUSTER."""
    first = connect(settings, database="")
    log.info("asking ClickHouse", extra={"host": first.address})
    for server in _servers(first):
        if server.server and len(first.urls) > 1:
            say(f"{server.address}:")
        create_database(server, settings.clickhouse_database, time.sleep)
        connection = server.beside(settings.clickhouse_database, first.layout)
        if arguments.replica_of:
            _copy(settings, arguments.replica_of, connection)
        _migrate(settings, connection)
    return 0


def _servers(first: Connection) -> list[Connection]:
    """Return the servers to migrate: each by itself, or one, that lets all of a cluster do the same."""
    if first.layout.is_replicated:
        return [first]
    found: list[Connection] = []
    patiently(lambda: found.extend(servers_of(first)), time.sleep)
    return found


def _copy(settings: Settings, url: str, connection: Connection) -> None:
    """Create what another replica has."""
    try:
        source = connect(settings_at(settings, url))
    except ValueError as error:
        raise Misconfigured(f"argument --replica-of: {error}") from error
    for sentence in copy_tables(source, connection):
        say(sentence)
    source.close()


def _migrate(settings: Settings, connection: Connection) -> None:
    applied = migrate(connection, migrations(), time.sleep)
    made = [] if applied.unknown else _make_more(settings, connection)
    for name in (*applied.now, *applied.made, *made):
        say(name)
    if applied.unknown:
        say(f"left unchanged, because a newer version made them: {', '.join(applied.unknown)}")
    if not applied.now and not applied.made and not made:
        say(f"nothing to do: {len(applied.before)} migrations were applied before")


def _make_more(settings: Settings, connection: Connection) -> list[str]:
    """Make what follows from settings: retention and views; return a sentence for each change."""
    retention = Retention(settings.events_days, settings.dead_letters_days, settings.ip_days)
    kept = apply_retention(connection, retention, time.sleep)
    return [*kept, *refresh_views(connection, settings.time_zone, time.sleep)]


def run_promote(settings: Settings, arguments: Namespace) -> int:
    """Give a member of properties a column."""
    wanted = Promotion(arguments.name, arguments.type)
    for connection in _servers(connect(settings)):
        for sentence in promote(connection, wanted, settings.time_zone, time.sleep):
            say(sentence)
        await_filled(connection, wanted, lambda text: say(text, sys.stderr), time.sleep)
    say(f"the column {wanted.column} is stored in all rows, and shown by events_unique and events_ready")
    return 0


def run_audit(settings: Settings, arguments: Namespace) -> int:
    """Compare all offsets that the group has committed with the tables."""
    connection = connect(settings)
    cluster = Cluster(kafka_properties(settings), settings.group_id)
    tables = {target.topic: target.table for target in targets(settings)}
    auditor = Auditor(connection, tables, cluster.gaps)
    deadline_s = time.monotonic() + arguments.patience_s
    while True:
        topics = find_topics(cluster, list(auditor.tables))
        findings = [auditor.audit(span) for span in spans(auditor, cluster, topics)]
        missing = sum(finding.missing.count for finding in findings)
        if not missing or time.monotonic() >= deadline_s:
            break
        time.sleep(min(_PAUSE_S, arguments.patience_s))  # a dead letter reaches its topic before its table
    if arguments.recount:
        findings = [auditor.recount(finding) if finding.uncounted else finding for finding in findings]
    findings = [replace(finding, expired=auditor.expired(finding.span)) for finding in findings]
    show([facts(finding) for finding in findings], as_json=arguments.json)
    _record(connection, findings)
    duplicates = sum(finding.duplicates for finding in findings)
    say(f"{missing} missing, {duplicates} duplicates", sys.stderr)
    if expired := sum(finding.expired for finding in findings):
        say(f"{expired} expired: inserted once, and removed since by retention", sys.stderr)
    if uncounted := sum(finding.uncounted.count for finding in findings):
        say(f"{uncounted} offsets have a row but are not counted: {_RECOUNT}", sys.stderr)
    if untold := sum(finding.untold.count for finding in findings):
        say(f"{untold} offsets of deleted topics are missing (gaps or loss: unknown)", sys.stderr)
    return 1 if missing or uncounted or duplicates else 0


def _record(connection: Connection, findings: Sequence[Finding]) -> None:
    """Keep what an audit has found in the table `audits`, if this account may."""
    try:
        if findings:
            write_audits(connection, [row_of(finding, "command") for finding in findings])
    except ConsumerError as error:
        say(f"not recorded in the table audits: {error}", sys.stderr)


def run_lag(settings: Settings, arguments: Namespace) -> int:
    """Show how far the group is behind."""
    cluster = Cluster(kafka_properties(settings), settings.group_id)
    topics = find_topics(cluster, [settings.topic, settings.dead_letter_topic])
    show(lag_lines(cluster, topics), as_json=arguments.json)
    return 0


def run_replay(settings: Settings, arguments: Namespace) -> int:
    """Plan a replay, and do it with --go."""
    schemas = find_schemas(settings)
    connection, rows = connect(settings), EventRows(schemas)
    table = ClickHouseTable(connection, targets(settings)[0], rows, schemas.schema_of, PrometheusMetrics())
    replay = Replay(connection, table, rows, schemas.schema_of)
    choice = Choice(
        settings.topic,
        tuple(arguments.reason),
        tuple(arguments.letter),
        arguments.partition,
        arguments.since,
        arguments.until,
        arguments.limit,
    )
    if choice.since_ms >= choice.until_ms:
        raise Misconfigured("argument --since: must be before --until")
    letters = _without_erased(settings, connection, replay.plan(choice, dict(arguments.set), again=arguments.again))
    show([_letter_line(letter) for letter in letters[:_SHOWN_MAX]], as_json=arguments.json)
    for verdict, count in Counter(letter.verdict for letter in letters).items():
        say(f"{count} dead letters: {verdict}", sys.stderr)
    ready = [letter for letter in letters if letter.verdict is ReplayVerdict.READY]
    if not ready or not arguments.go:
        say(f"nothing was sent; add --go to send {len(ready)}" if ready else "nothing to replay", sys.stderr)
        return 0
    publisher = DeadLetterProducer(kafka_properties(settings), settings.topic)
    try:
        count = replay.make(letters, publisher, operator())
    finally:
        publisher.close()
    say(f"{count} dead letters were put back onto {settings.topic}", sys.stderr)
    return 0 if count == len(ready) else 1


def _without_erased(settings: Settings, connection: Connection, letters: list[Letter]) -> list[Letter]:
    if (key := erasure_key(settings)) is None:
        return letters
    return without_erased(letters, key, recorded(connection, key))


def without_erased(letters: Sequence[Letter], key: ErasureKey, until_ms: Mapping[tuple[str, str], int]) -> list[Letter]:
    """Return a plan's dead letters; those of people who were erased since stay where they are.

    `until_ms` says until when events of an id's hash are erased, see `recorded`.
    """

    def judged(letter: Letter) -> Letter:
        named = ((kind, key.digest(value)) for kind, value in ids_of(letter.event).named())
        is_erased = any(until_ms.get(one, -1) >= letter.record.timestamp_ms for one in named)
        return replace(letter, verdict=ReplayVerdict.ERASED) if is_erased else letter

    return [judged(letter) for letter in letters]


def spans(auditor: Auditor, cluster: Cluster, topics: Mapping[str, Topic]) -> list[Span]:
    """Return the offsets that must be in the tables."""
    partitions = [Partition(name, number) for name, topic in topics.items() for number in range(topic.partitions)]
    marks = cluster.committed(partitions)  # before reading the table, so that committed offsets are in it
    bounds = cluster.bounds(partitions)
    known, adopted = {(span.partition, span.topic_id): span for span in auditor.topic_ids()}, auditor.adopted()
    found = {
        name: replace(span, is_gone=True)
        for name, span in known.items()
        if span.topic_id != topics[span.partition.topic].topic_id
    }
    for partition, mark in marks.items():
        topic_id = topics[partition.topic].topic_id
        intent = intended(mark)
        if intent is None or intent.topic_id == topic_id:
            first = known[partition, topic_id].low if (partition, topic_id) in known else mark.offset
            low = min(adopted.get((partition, topic_id), bounds[partition][0]), first, mark.offset)
            found[partition, topic_id] = Span(partition, topic_id, low, mark.offset)
    return [span for _, span in sorted(found.items())]


def _letter_line(letter: Letter) -> dict[str, object]:
    return {
        "letter": letter.letter_id,
        "reason": letter.reason,
        "event": str(letter.event.get("eventId", "")),
        "changed": ",".join(letter.changed),
        "verdict": str(letter.verdict),
        "detail": letter.detail,
    }


def show(lines: Sequence[Mapping[str, object]], *, as_json: bool) -> None:
    """Print lines as JSON, or as columns."""
    if as_json:
        for line in lines:
            say(json.dumps(line))
        return
    if lines:
        texts = [list(lines[0]), *([str(value) for value in line.values()] for line in lines)]
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        for row in texts:
            say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def say(text: str, where: TextIO | None = None) -> None:
    """Print a line."""
    print(text, file=where or sys.stdout)
