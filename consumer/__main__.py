"""`python -m consumer`: run a worker, or maintain its tables. Settings are environment variables, CONSUMER_<NAME>."""

import argparse
import logging
import os
import sys
import threading
from collections.abc import Sequence
from typing import Final, NoReturn

from consumer import archives, canary, commands, countries, people, recovery, register, service
from consumer.arguments import (
    LIMIT_MAX,
    PARTITION_MAX,
    Parser,
    letter,
    repair,
)
from consumer.errors import ConsumerError, Misconfigured, Reason
from consumer.metrics import start_logging
from consumer.operations.replay import UNTIL_MS
from consumer.settings import SERVERS, Settings, load
from schemas.arguments import moment_ms, partition, seconds, whole_number
from schemas.transport.librdkafka_log import LIBRARY

_SERVICES: Final = ("run", "canary")  # they work until they are stopped
_PATIENCE_S: Final = 0.5  # idle pool threads end within milliseconds
_KAFKA, _CLICKHOUSE = "bootstrap_servers", "clickhouse_url"
_SIGINT_CODE: Final = 130  # a shell's exit code after Ctrl-C

_RUN: Final = """
Works until SIGTERM: reads the events topic and the dead-letter topic as a member of the consumer
group, and inserts each record into ClickHouse exactly once. Workers share the partitions; more
workers than partitions have nothing to do.

At the start it waits for servers that are away, then checks tables, settings and topics, and
exits with one sentence if something must be repaired first. On SIGTERM it inserts and commits
what it has read. The last log line states for each partition: read = rows_inserted +
dead_letters + returned.

  CONSUMER_BOOTSTRAP_SERVERS=kafka:9092 CONSUMER_CLICKHOUSE_URL=http://clickhouse:8123 python -m consumer run
"""
_MIGRATE: Final = """
Creates the database and its tables, or brings them up to date, and prints what it applied. Run it
before the workers of a new version start. It may run several times, several times at once, and
after one that died. An older version does not change newer tables.

It also applies the settings that concern tables: CONSUMER_TIME_ZONE, and how many days rows stay
(CONSUMER_EVENTS_DAYS, CONSUMER_DEAD_LETTERS_DAYS, CONSUMER_IP_DAYS; 0: for ever). Without one of
these variables its rule stays as it is.

It changes every server that CONSUMER_CLICKHOUSE_URL leads to. With CONSUMER_CLICKHOUSE_CLUSTER it
also makes a table over all shards beside each table (events_all); where the tables are Replicated,
one server lets all others do the same (ON CLUSTER). A new replica gets its tables as another one
has them, with --replica-of and only the new server in CONSUMER_CLICKHOUSE_URL.

  CONSUMER_CLICKHOUSE_URL=http://clickhouse:8123 python -m consumer migrate
"""
_PROMOTE: Final = """
Gives any member of properties a typed column, with a comment: NAME is the member, TYPE is string,
number, integer, decimal, boolean or strings. The column is named like the member, in snake_case. A
value that does not fit leaves it empty (NULL, '' or []), never the event refused.

Workers go on meanwhile, and fill it in new rows at once. Old rows show it at once too; ClickHouse
stores it in them in the background, and this command shows how many parts are left. Views are made
again with the column. Running it again finishes what was interrupted. For POST /collect/validate, say
so in the collector's catalogue file (INGEST_CATALOGUE_FILE): promoted = "TYPE".

To remove a column: ALTER TABLE events DROP COLUMN …, then `migrate`.

  CONSUMER_CLICKHOUSE_URL=http://clickhouse:8123 python -m consumer promote readingMode string
"""
_AUDIT: Final = """
Checks that every offset that the group has committed was inserted exactly once, as a row or as a
dead letter. Prints one line for each partition and topic ID, and lists missing and duplicate
offsets. Exit code 1 if there are any. The table `audits` keeps what it found.

It counts rows in the table `offsets`, which a view fills from each insert into `events`. It can't
see rows that were lost from `events` alone, by a kill, a DELETE or a disk: merges replace
rows of one event, so they can't be counted there. A worker that repeats an insert looks for rows
that a kill took, and inserts them again. Rows and dead letters that retention has removed are
`expired`: they are no loss.

An offset with a row in `events` that `offsets` lacks is `uncounted`. That is no loss: the view was
missing for a time. `migrate` recreates it, and --recount counts what it missed.

Offsets without a record (transactions, compaction) are not missing while the log still has that
stretch; once it was deleted, they count as missing. The log of a deleted or recreated topic can't
be asked: its missing offsets are `unknown` (gaps or loss), and do not cause exit code 1.

Run it after an incident, after an upgrade, and before deleting old records from Kafka. It may run
while workers run, and reads about one row per million offsets. Workers audit their own partitions
every CONSUMER_AUDIT_EVERY_S, as far as the log reaches.

  python -m consumer audit
  python -m consumer audit --json | jq 'select(.missing > 0)'
"""
_REPLAY: Final = """
Puts dead letters back onto the events topic after their cause was repaired. Prints what it would
do, and does it with --go. A replayed event keeps its id, so replaying twice changes nothing. Dead
letters that were replayed before, whose event is in the table, or that the table would refuse
again (it is asked, and writes nothing) stay where they are. The table `replays` records who put
back what, and where.

Use it when the cause is gone: a constraint was dropped, a registry has its schema again, or a
field needs another value. Events that the ingress refused are not records: repair and post them
again.

  python -m consumer replay --reason constraint --since 2026-01-31
  python -m consumer replay --letter events/3/1234 --set url=https://example.org/ --go
"""
_RESUME: Final = """
Resumes partitions that are halted because the log, the group and the tables disagree: the log was
cut (an unclean election, a restored copy), the group's offsets expired or were set back, or
records were deleted before they were read. Prints for each partition what was found, which rows
stay, and where it would resume; commits that with --go, when all workers are stopped.

It skips no record that the log still has, and inserts nothing twice: it resumes after the rows in
the tables, or where the log diverges from what was read. From there on the reading number is
higher, and it is part of the tokens. Run `audit` afterwards: it lists what is still missing.

  python -m consumer resume
  python -m consumer resume --partition events/3 --go
"""
_ADOPT: Final = """
Goes on with a copy of the topics on another Kafka cluster, after a failover: programs that copy
topics (MirrorMaker 2) copy the group's commits too. Workers see that a commit is of another
cluster, and halt: its topic's ID is another one, and they would read the copy from its start. This
takes the commits as they are, with their translated offsets, which may be earlier than what was
read. Events from there on come again; `events_unique` shows each once. Prints what it would do;
commits it with --go, when all workers are stopped, and the copying has ended.

  python -m consumer adopt --go
"""
_DOWNGRADE: Final = """
Rewrites the group's commits in the format of the previous release, whose workers would otherwise
halt their partitions. For a rollback: stop all workers of this release with SIGTERM, run this with
--go, start the previous ones. Refuses while a batch is unfinished or offsets are being read again,
and says what to do.

  python -m consumer downgrade --go
"""
_LAG: Final = """
Shows for each partition the committed offset, the end of the log, and the difference. An intent
is a batch that a worker, or its successor, is about to insert. Asks only the brokers; workers need
not run.

  python -m consumer lag
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; exit with one sentence: code 2 when a setting is wrong, 1 when the command fails."""
    arguments = parser().parse_args(argv)
    needed = {*arguments.needed, *(getattr(arguments, "needed_to_go", ()) if getattr(arguments, "go", False) else ())}
    try:
        settings = load(os.environ, needed)
    except ValueError as error:
        sys.stderr.write(f"consumer: {error}\n")
        sys.exit(2)
    start_logging(settings.log_level)
    if arguments.command not in _SERVICES and settings.log_level != "DEBUG":
        logging.getLogger(LIBRARY).setLevel(logging.CRITICAL)  # the command's own sentence says what failed
    try:
        code = arguments.call(settings, arguments)
    except ConsumerError as error:
        sys.stderr.write(f"consumer: {error}\n")
        code = 2 if isinstance(error, Misconfigured) else 1
    except KeyboardInterrupt:
        code = _SIGINT_CODE
    except BrokenPipeError:  # the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    _end(code)


def _end(code: int) -> NoReturn:
    """End the process even if an insert still waits for its server: its intent covers it."""
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
    migrate.add_argument("--replica-of", metavar="URL", default="", help="first create what this server has")
    migrate.set_defaults(call=commands.run_migrate, needed=(_CLICKHOUSE,))
    promote = _add(found, "promote", "give a member of properties a typed column", _PROMOTE)
    promote.add_argument("name", metavar="NAME", help="the member, such as readingMode")
    promote.add_argument("type", metavar="TYPE", help="string, number, integer, decimal, boolean or strings")
    promote.set_defaults(call=commands.run_promote, needed=(_CLICKHOUSE,))
    told = _add(found, "countries", "load which country an address is of, for the views", countries.COUNTRIES)
    told.set_defaults(call=countries.run_countries, needed=(_CLICKHOUSE,))
    countries.add_countries(told)
    audit = _add(found, "audit", "check that every offset was inserted once", _AUDIT)
    audit.set_defaults(call=commands.run_audit, needed=SERVERS)
    audit.add_argument(
        "--patience-s", type=seconds, default=10.0, help="recheck missing offsets for this long (%(default)s)"
    )
    audit.add_argument("--recount", action="store_true", help="add uncounted offsets to the table `offsets`")
    replay = _add(found, "replay", "put dead letters back onto the topic", _REPLAY)
    replay.set_defaults(call=commands.run_replay, needed=(_CLICKHOUSE,), needed_to_go=(_KAFKA,))
    _add_choice(replay)
    replay.add_argument("--set", metavar="FIELD=VALUE", type=repair, action="append", default=[], help="repair a field")
    replay.add_argument("--again", action="store_true", help="also dead letters that were replayed before")
    replay.add_argument("--go", action="store_true", help="do it, instead of printing what would be done")
    lag = _add(found, "lag", "show how far the group is behind", _LAG)
    lag.set_defaults(call=commands.run_lag, needed=(_KAFKA,))
    bird = _add(found, "canary", "measure how soon events can be selected, until SIGTERM", canary.CANARY)
    bird.set_defaults(call=canary.run_canary, needed=(_CLICKHOUSE,))
    known = _add(found, "register", "put the schemas into a registry, for viewers of topics", register.REGISTER)
    known.set_defaults(call=register.run_register, needed=())
    marked = _add_marks(found)
    held = _add_held(found)
    for each in (audit, replay, lag, *marked, *held):
        each.add_argument("--json", action="store_true", help="one JSON object per line")
    return made


def _add_marks(found: "argparse._SubParsersAction[Parser]") -> list[argparse.ArgumentParser]:
    """Add the commands that change the commits of a stopped group."""
    resume = _add(found, "resume", "resume halted partitions", _RESUME)
    resume.set_defaults(call=recovery.run_resume, needed=SERVERS)
    again = _add(found, "reprocess", "read offsets again", recovery.REPROCESS)
    recovery.add_reprocess(again)
    former = _add(found, "downgrade", "hand the group to the previous release", _DOWNGRADE)
    former.set_defaults(call=recovery.run_downgrade, needed=SERVERS)
    mirrored = _add(found, "adopt", "go on with a copy of another Kafka cluster", _ADOPT)
    mirrored.set_defaults(call=recovery.run_adopt, needed=SERVERS)
    made = [resume, again, mirrored, former]
    for each in made:
        each.add_argument("--partition", type=partition, action="append", default=[], help="only this one; repeatable")
        each.add_argument("--go", action="store_true", help="do it, instead of printing what would be done")
    return made


def _add_held(found: "argparse._SubParsersAction[Parser]") -> list[argparse.ArgumentParser]:
    """Add the commands about rows that are held: those of people, and those of days."""
    erase = _add(found, "erase", "erase what is held of a person", people.ERASE)
    erase.set_defaults(call=people.run_erase)
    export = _add(found, "export", "write what is held of a person as JSON lines", people.EXPORT)
    export.set_defaults(call=people.run_export)
    people.add_people(erase, export)
    archive = _add(found, "archive", "write a day as Parquet files", archives.ARCHIVE)
    archive.set_defaults(call=archives.run_archive)
    restore = _add(found, "restore", "bring archived rows back", archives.RESTORE)
    restore.set_defaults(call=archives.run_restore)
    archives.add_archives(archive, restore)
    for each in (erase, export, archive, restore):
        each.set_defaults(needed=(_CLICKHOUSE,))
    return [erase, archive, restore]


def _add(found: "argparse._SubParsersAction[Parser]", name: str, summary: str, text: str) -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    return found.add_parser(name, help=summary, description=text, formatter_class=form, allow_abbrev=False)


def _add_choice(replay: argparse.ArgumentParser) -> None:
    reasons = [str(reason) for reason in Reason]
    replay.add_argument(
        "--reason", action="append", default=[], choices=reasons, help="only with this reason; repeatable"
    )
    replay.add_argument("--letter", type=letter, action="append", default=[], help="only this one; repeatable")
    number = whole_number(0, PARTITION_MAX)
    replay.add_argument("--partition", type=number, default=-1, help="only from this partition")
    replay.add_argument("--since", type=moment_ms, default=0, help="not before this Kafka timestamp (UTC)")
    replay.add_argument("--until", type=moment_ms, default=UNTIL_MS, help="before this Kafka timestamp (UTC)")
    limit = whole_number(1, LIMIT_MAX)
    replay.add_argument(
        "--limit",
        type=limit,
        default=1000,
        help="look at so many at most; what was replayed before comes last (%(default)s)",
    )


def _run(settings: Settings, _: argparse.Namespace) -> int:
    service.run(settings)
    return 0


if __name__ == "__main__":
    main()
