"""`python -m consumer`: run a worker, or look after its tables. Settings are environment variables, CONSUMER_<NAME>."""

import argparse
import logging
import os
import sys
import threading
from collections.abc import Sequence
from typing import Final, NoReturn

from consumer import commands, recovery, service
from consumer.arguments import (
    LIMIT_MAX,
    OFFSET_MAX,
    PARTITION_MAX,
    Parser,
    letter,
    moment_ms,
    partition,
    repair,
    seconds,
    whole_number,
)
from consumer.errors import ConsumerError, Misconfigured, Reason
from consumer.metrics import start_logging
from consumer.operations.replay import UNTIL_MS
from consumer.settings import SERVERS, Settings, load
from schemas.transport.librdkafka_log import LIBRARY

_PATIENCE_S: Final = 0.5  # idle threads of a pool end in milliseconds
_KAFKA, _CLICKHOUSE = "bootstrap_servers", "clickhouse_url"
_SIGINT_CODE: Final = 130  # what a shell calls the end by Ctrl-C

_RUN: Final = """
Works until SIGTERM: takes records of the events topic and of the dead-letter topic as a member of
the consumer group, and inserts each into ClickHouse exactly once. Any number of workers share the
partitions; start as many as there are partitions at the most.

At the start it waits for servers that are away, then checks tables, settings and topics, and
exits with one sentence if something must be repaired first. On SIGTERM it inserts and commits
what it took. The last log line states, for each partition: read = rows_inserted + dead_letters +
returned.

  CONSUMER_BOOTSTRAP_SERVERS=kafka:9092 CONSUMER_CLICKHOUSE_URL=http://clickhouse:8123 python -m consumer run
"""
_MIGRATE: Final = """
Creates the database and its tables, or brings them up to date, and prints what it applied. Run it
before the workers of a new version start; any number may run at once, again, or after one that
died. An older version leaves newer tables alone.

  CONSUMER_CLICKHOUSE_URL=http://clickhouse:8123 python -m consumer migrate
"""
_AUDIT: Final = """
Proves that every offset that the group has committed was inserted exactly once, as a row or as a
dead letter. Prints one line for each partition and incarnation of a topic, and names what is
missing or double. Exit code 1 if anything is.

Rows are counted in the ledger `offsets`, which a view fills from each insert into `events`. Rows
that are lost from `events` alone, by a kill, a person, a TTL or a disk, are not seen here: merges
replace rows of one event, so nobody can count them. A worker that repeats an insert looks for what
a kill took, and puts it back.

An offset that has a row in `events` and is not in the ledger is `uncounted`, no loss: the view was
gone for a time. `migrate` makes it again, and --recount counts what it missed.

Offsets that the log has no record for (transactions, compaction) are not missing, as long as the
log has them: what was deleted there counts as missing. Of a topic that was recreated the log can't
be asked: such offsets are `untold`, gaps or loss, and no reason for exit code 1.

Run it after an incident, after an upgrade, before deleting old records from Kafka; it may run
while workers work, and costs about a row read per million offsets. Workers do the same for what
the log has of their own partitions, every CONSUMER_AUDIT_EVERY_S.

  python -m consumer audit
  python -m consumer audit --json | jq 'select(.missing > 0)'
"""
_REPLAY: Final = """
Puts dead letters back onto the events topic, once what refused them is repaired. Says what it
would do, and does it with --go. A replayed event keeps its id, so replaying twice changes
nothing: what was replayed before, what is in the table, and what the table would refuse again (it
is asked, and writes nothing) stays where it is. The table `replays` keeps who put back what, and
where to.

Use it when the cause is gone: a constraint was dropped, a registry has its schema again, a field
needs another value. Events that the ingress refused are not records; repair and post them again.

  python -m consumer replay --reason constraint --since 2026-01-31
  python -m consumer replay --letter events/3/1234 --set url=https://example.org/ --go
"""
_RESUME: Final = """
Goes on where a partition is halted because the log, the group and the tables do not agree: the log
was cut (an unclean election, a restored copy), the group's offsets have expired or were set back,
records were deleted before they were read. Says for each partition what was found, what stays in
the tables and where it would go on, and commits that with --go. All workers must be stopped.

Nothing is skipped that the log still has, and what is in the tables is not inserted again: it goes
on behind that, or where the log parts from what was read. What it reads then has a new reading
number, which is part of its tokens. Run `audit` behind it: it names what is missing all the same.

  python -m consumer resume
  python -m consumer resume --partition events/3 --go
"""
_REPROCESS: Final = """
Has offsets read a second time on purpose: rows were deleted, a ClickHouse was restored from a
backup, `audit` names what is missing. All that is read becomes rows again, under a new reading
number; delete first what should not be there twice (`events_unique` shows each event once in any
case). With an end the partition goes on afterwards where it is now, without one it reads on from
there. Says what it would do, and commits it with --go. All workers must be stopped.

Times are Kafka's timestamps. Offsets that the log has no more can't be read again.

  python -m consumer reprocess --partition events/3 --from-offset 100 --to-offset 200 --go
  python -m consumer reprocess --partition events/0 --partition events/1 --from-time 2026-01-31
"""
_DOWNGRADE: Final = """
Writes what the group has committed in the form of the release before this one, whose workers would
hold their partitions otherwise. For a rollback: stop all workers of this release in order, run this
with --go, start the former ones. Refuses while a batch is not finished or offsets are being read
again; the sentence says what to do.

  python -m consumer downgrade --go
"""
_LAG: Final = """
Shows for each partition what the group has committed, where the log ends, and how far behind that
is. An intent is a batch that a worker is about to insert, or that its successor will. Asks the
brokers alone; workers need not run.

  python -m consumer lag
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; exit 2 with one sentence when a setting is wrong, 1 when the command can't go on."""
    arguments = parser().parse_args(argv)
    needed = {*arguments.needed, *([_KAFKA] if getattr(arguments, "go", False) else ())}
    try:
        settings = load(os.environ, needed)
    except ValueError as error:
        sys.stderr.write(f"consumer: {error}\n")
        sys.exit(2)
    start_logging(settings.log_level)
    if arguments.command != "run" and settings.log_level != "DEBUG":
        logging.getLogger(LIBRARY).setLevel(logging.CRITICAL)  # what a command can't do, its own sentence says
    try:
        code = arguments.call(settings, arguments)
    except ConsumerError as error:
        sys.stderr.write(f"consumer: {error}\n")
        code = 2 if isinstance(error, Misconfigured) else 1
    except KeyboardInterrupt:
        code = _SIGINT_CODE
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    _end(code)


def _end(code: int) -> NoReturn:
    """End the process, though an insert may still wait for its server: its intent covers it."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(_PATIENCE_S)
            if thread.is_alive():
                logging.shutdown()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    sys.exit(code)


def parser() -> Parser:
    """Return the parser of all commands."""
    made = Parser(prog="python -m consumer", description=__doc__, allow_abbrev=False)
    found = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = _add(found, "run", "work until SIGTERM: Kafka in, ClickHouse out", _RUN)
    run.set_defaults(call=_run, needed=SERVERS)
    migrate = _add(found, "migrate", "create or update the database and its tables", _MIGRATE)
    migrate.set_defaults(call=commands.run_migrate, needed=(_CLICKHOUSE,))
    audit = _add(found, "audit", "prove that every offset was inserted once", _AUDIT)
    audit.set_defaults(call=commands.run_audit, needed=SERVERS)
    audit.add_argument("--patience-s", type=seconds, default=10.0, help="ask again for what is missing (%(default)s)")
    audit.add_argument("--recount", action="store_true", help="count in the ledger what has a row and is not counted")
    replay = _add(found, "replay", "put dead letters back onto the topic", _REPLAY)
    replay.set_defaults(call=commands.run_replay, needed=(_CLICKHOUSE,))
    _add_choice(replay)
    replay.add_argument("--set", metavar="FIELD=VALUE", type=repair, action="append", default=[], help="repair a field")
    replay.add_argument("--again", action="store_true", help="also what was replayed before")
    replay.add_argument("--go", action="store_true", help="do it, instead of saying what would be done")
    lag = _add(found, "lag", "show how far the group is behind", _LAG)
    lag.set_defaults(call=commands.run_lag, needed=(_KAFKA,))
    marked = _add_marks(found)
    for each in (audit, replay, lag, *marked):
        each.add_argument("--json", action="store_true", help="one JSON object per line")
    return made


def _add_marks(found: "argparse._SubParsersAction[Parser]") -> list[argparse.ArgumentParser]:
    """Add what changes the marks of a stopped group."""
    resume = _add(found, "resume", "go on where a partition is halted", _RESUME)
    resume.set_defaults(call=recovery.run_resume, needed=SERVERS)
    again = _add(found, "reprocess", "read offsets a second time", _REPROCESS)
    again.set_defaults(call=recovery.run_reprocess, needed=SERVERS)
    offset = whole_number(0, OFFSET_MAX)
    again.add_argument("--from-offset", type=offset, help="the first offset to read again")
    again.add_argument("--from-time", type=moment_ms, help="the same by Kafka timestamp (UTC)")
    again.add_argument("--to-offset", type=offset, help="the first offset not to read again")
    again.add_argument("--to-time", type=moment_ms, help="the same by Kafka timestamp (UTC)")
    former = _add(found, "downgrade", "hand the group to the release before this one", _DOWNGRADE)
    former.set_defaults(call=recovery.run_downgrade, needed=SERVERS)
    made = [resume, again, former]
    for each in made:
        each.add_argument("--partition", type=partition, action="append", default=[], help="this one; repeatable")
        each.add_argument("--go", action="store_true", help="do it, instead of saying what would be done")
    return made


def _add(found: "argparse._SubParsersAction[Parser]", name: str, summary: str, text: str) -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    return found.add_parser(name, help=summary, description=text, formatter_class=form, allow_abbrev=False)


def _add_choice(replay: argparse.ArgumentParser) -> None:
    reasons = [str(reason) for reason in Reason]
    replay.add_argument("--reason", action="append", default=[], choices=reasons, help="refused for this; repeatable")
    replay.add_argument("--letter", type=letter, action="append", default=[], help="this one; repeatable")
    number = whole_number(0, PARTITION_MAX)
    replay.add_argument("--partition", type=number, default=-1, help="refused from this partition")
    replay.add_argument("--since", type=moment_ms, default=0, help="not before this Kafka timestamp (UTC)")
    replay.add_argument("--until", type=moment_ms, default=UNTIL_MS, help="before this Kafka timestamp (UTC)")
    limit = whole_number(1, LIMIT_MAX)
    replay.add_argument("--limit", type=limit, default=1000, help="at most so many (%(default)s)")


def _run(settings: Settings, _: argparse.Namespace) -> int:
    service.run(settings)
    return 0


if __name__ == "__main__":
    main()
