"""`headrace doctor`: says which guarantees hold here and now, and what to do for those that do not."""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from typing import Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.notes import server_ms
from consumer.errors import ConsumerError, Fatal, Misconfigured
from consumer.kafka.admin import Cluster
from consumer.operations.preflight import check_tables, find_topics
from consumer.operations.whereabouts import audited, server_version
from consumer.parts import connect, kafka_properties, pace, targets
from consumer.settings import Settings
from headrace.checks import Check, Level, Promise, clock, machine_checks, transport
from headrace.checks_kafka import KafkaChecks
from headrace.checks_registry import registry_checks
from headrace.services import Services, addresses
from headrace.terminal import plain
from schemas.transport.access import read_url

ABOUT: Final = """
Says which guarantees hold here and now: of this machine (open files, the spool's disk, files of
secrets, versions), of Kafka (copies, min.insync.replicas, sizes, retention, whether it keeps
intents, its clocks), of ClickHouse (tables, deduplication windows, audits, its clock) and of the
Schema Registry, if there is one. Each finding that is not fine says what to do. What can't be asked
is `unknown`.

It leaves nothing behind: like a worker at its start it commits for groups of random names,
which it deletes, and makes temporary tables, which it drops.

Exit code: 0 every guarantee holds, or is weak; 1 one is broken (with --strict: or weak); 3 none is
broken, and something is unknown; 2 a setting or an argument is wrong.

  headrace doctor
  headrace doctor --json | jq 'select(.level == "broken")'
"""
_TESTED: Final = "26."
_PATIENCE_S: Final = 10.0
_SET: Final = "set it, or name a file that does with --env"
_AUDIT_OLD_S: Final = 3600


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--strict", action="store_true", help="exit with 1 for a weak guarantee too")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.set_defaults(call=run)


def run(services: Services, arguments: argparse.Namespace) -> int:
    """Check everything, and print it.

    Raises:
        ValueError: a setting is wrong.
    """
    checks: list[Check] = []
    for check in _all(services):
        checks.append(check)
        print(_json(check) if arguments.json else text_of(check), flush=True)
    if not arguments.json:
        print(f"\n{_sum(checks)}")
    return code_of(checks, is_strict=arguments.strict)


def code_of(checks: Sequence[Check], *, is_strict: bool) -> int:
    """Return the exit code."""
    levels = {check.level for check in checks}
    if Level.BROKEN in levels or (is_strict and Level.WEAK in levels):
        return 1
    return 3 if Level.UNKNOWN in levels else 0


def text_of(check: Check) -> str:
    """Return a line, and one of the cure; control characters of a server's are escaped."""
    cure = f"\n{'':<9}-> {plain(check.cure)}" if check.cure and check.level is not Level.HOLDS else ""
    return f"{check.level:<8} {check.promise}: {plain(check.says)}{cure}"


def _json(check: Check) -> str:
    return json.dumps({"level": check.level, "promise": check.promise, "says": check.says, "cure": check.cure})


def _sum(checks: Sequence[Check]) -> str:
    counts = {level: sum(check.level is level for check in checks) for level in Level if level is not Level.NOTE}
    return ", ".join(f"{count} {level}" for level, count in counts.items())


def _all(services: Services) -> Iterator[Check]:
    settings = services.consumer()
    yield from machine_checks(services.variables, services.spool_dir())
    yield from registry_checks(settings)
    if why := services.missing("BOOTSTRAP_SERVERS"):
        yield Check(Promise.DURABLE, Level.UNKNOWN, f"Kafka: {why}", _SET)
    else:
        yield from KafkaChecks(settings, kafka_properties(settings)).run()
    if why := services.missing("CLICKHOUSE_URL"):
        yield Check(Promise.ONCE, Level.UNKNOWN, f"ClickHouse: {why}", _SET)
    else:
        yield from _clickhouse(services, settings)


def _clickhouse(services: Services, settings: Settings) -> Iterator[Check]:
    url = read_url(settings.clickhouse_url, ("http", "https"), "")
    yield transport("ClickHouse", url.host, has_tls=url.has_tls, setting="CONSUMER_CLICKHOUSE_URL=https://…")
    connection = connect(settings).patient(_PATIENCE_S)
    try:
        told = server_version(connection)
        yield _clock_of(connection, settings)
    except Misconfigured as error:
        yield Check(Promise.ONCE, Level.BROKEN, f"ClickHouse: {error}", "see the sentence")
        return
    except ConsumerError as error:
        says = f"{error}; asked: {addresses(connection)}"
        yield Check(Promise.ONCE, Level.UNKNOWN, says, "start it, or repair the way to it")
        return
    yield _version(told)
    yield from _tables(services, settings, connection)
    yield from _audit(connection)


def _version(told: str) -> Check:
    if told.startswith(_TESTED):
        return Check(Promise.VERSIONS, Level.NOTE, f"ClickHouse {told}")
    says = f"ClickHouse {told}: headrace was tested with {_TESTED}x only"
    return Check(Promise.VERSIONS, Level.WEAK, says, "run headrace's tests against it, or use that version")


def _clock_of(connection: Connection, settings: Settings) -> Check:
    server_ms(connection)  # opens the connection, which takes its own time
    before_s = time.time()
    at_s = server_ms(connection) / 1000
    after_s = time.time()
    within_s = (after_s - before_s) / 2
    return clock("ClickHouse", at_s - before_s - within_s, within_s, settings.arrival_s_max)


def _tables(services: Services, settings: Settings, connection: Connection) -> Iterator[Check]:
    """Yield what preflight says of the tables; the window depends on the topics' partitions."""
    partitions, unsure = 0, ""
    try:
        if not services.missing("BOOTSTRAP_SERVERS"):
            cluster = Cluster(kafka_properties(settings), settings.group_id)
            names = (settings.topic, settings.dead_letter_topic)
            partitions = sum(topic.partitions for topic in find_topics(cluster, names).values())
    except ConsumerError as error:
        unsure = str(error)
    needed = pace(settings, partitions or 1)
    try:
        check_tables(connection, [(target, needed) for target in targets(settings)])
    except Fatal as error:
        yield Check(Promise.ONCE, Level.BROKEN, f"ClickHouse: {error}", "see the sentence")
        return
    except ConsumerError as error:
        yield Check(Promise.ONCE, Level.UNKNOWN, f"ClickHouse: {error}")
        return
    if partitions:
        says = f"the tables are whole, and remember the {needed.window} blocks that {partitions} partitions need"
        yield Check(Promise.ONCE, Level.HOLDS, says)
    else:
        says = (
            f"the tables are whole; whether their windows are large enough is unknown{f': {unsure}' if unsure else ''}"
        )
        yield Check(Promise.ONCE, Level.UNKNOWN, says, "run this when the brokers answer")


def _audit(connection: Connection) -> Iterator[Check]:
    """Yield what the newest audits of each partition have found."""
    try:
        found = audited(connection)
    except ConsumerError as error:
        yield Check(Promise.ONCE, Level.UNKNOWN, f"the audits can't be read: {error}")
        return
    if not found["partitions"]:
        yield Check(Promise.ONCE, Level.UNKNOWN, "no audit has run yet", "run `headrace consumer audit`")
    elif found["missing"] or found["duplicates"]:
        says = f"the last audits found {found['missing']} missing and {found['duplicates']} double"
        yield Check(Promise.ONCE, Level.BROKEN, says, "run `headrace consumer audit`, which names them")
    elif found["age_s"] > _AUDIT_OLD_S:
        says = f"the last audit is {found['age_s']} s old"
        yield Check(Promise.ONCE, Level.WEAK, says, "run `headrace consumer audit`, or see why workers do not audit")
    else:
        where = f"{found['partitions']} partitions, {found['age_s']} s ago"
        says = f"the last audits found nothing missing or double, in {where}"
        yield Check(Promise.ONCE, Level.HOLDS, says)
