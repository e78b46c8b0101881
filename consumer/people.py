"""The commands erase and export of `python -m consumer`: what the tables hold of a person."""

import argparse
import base64
import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final, TextIO

from consumer.arguments import event_id, identifier
from consumer.clickhouse.client import Connection
from consumer.clickhouse.grants import OF_CLUSTER, check_grants, of_replicas
from consumer.clickhouse.servers import each_replica, each_shard
from consumer.clickhouse.streams import lines, text_bytes
from consumer.commands import PATIENCE_S, operator, say, show
from consumer.errors import Misconfigured
from consumer.operations.erasure import Eraser, Found
from consumer.operations.erasure_key import ErasureKey
from consumer.operations.letters import HeldLetter
from consumer.operations.people import Kind, Person, external, rows_of, with_visitors
from consumer.parts import connect, erasure_key, find_schemas
from consumer.settings import Settings

ERASE: Final = """
Erases what the tables hold of people: the rows of `events`, and the content of their dead letters,
whose rows stay because the audit counts them. The views follow at once. Prints what is there, and
erases it with --go. Several people in one run cost one rewrite of the tables' parts.

A user's visitor ids are theirs while their latest sign-in was this user's: events of these ids that
name no user are erased too. What is received after the run stays.

The table `erasures` remembers who was erased, as hashes under the key in CONSUMER_ERASURE_KEY_FILE.
Kafka keeps its records until the topics' retention, so erased rows come back when offsets are read
again or a backup is restored; and events may have been on their way. --again erases them again: run
it after that, and once a day.

  python -m consumer erase --user-id 4711
  python -m consumer erase --user-id 4711 --anon-id 8f14e45f --go
  python -m consumer erase --again --go
"""
EXPORT: Final = """
Writes all that the tables hold of a person as JSON lines: each record of `events`, copies of one
event too, and each dead letter with the event in it (or its bytes in base64, when it can't be
read). Finds the same as `erase`.
A text that is no UTF-8, which only a foreign producer can have written, is shown with U+FFFD for
each such byte.

  python -m consumer export --user-id 4711 > 4711.jsonl
  python -m consumer export --user-id 4711 --to 4711.jsonl
"""
_OPTIONS: Final = {"user_id": Kind.USER, "anon_id": Kind.ANON, "event_id": Kind.EVENT}
_ON_ITS_WAY: Final = (
    "Kafka holds the records until its retention, and some may be on their way: run"
    " `python -m consumer erase --again --go` when `lag` shows 0, and after each reprocess or restore"
)


def run_erase(settings: Settings, arguments: Namespace) -> int:
    """Count what is there of people, and erase it with --go."""
    wanted = _wanted(arguments)
    if bool(wanted) is arguments.again:
        raise Misconfigured("give either --again, or whose data: --user-id, --anon-id or --event-id")
    connection = connect(settings).patient(PATIENCE_S)
    with ExitStack() as stack:
        shards = stack.enter_context(each_shard(connection))
        replicas = stack.enter_context(each_replica(connection)) if arguments.go else []
        eraser = _eraser(settings, connection, list(shards.values()), replicas)
        if arguments.go:  # else it would fail when rows go already
            _check_grants(shards.values(), replicas)
            eraser.catch_up()
        return _erase(settings, eraser, wanted, arguments)


def _check_grants(shards: Iterable[Connection], replicas: Iterable[Connection]) -> None:
    for one in shards:
        more = of_replicas(one.layout, one.database) if one.layout.is_replicated else ()
        check_grants(one, (*OF_CLUSTER, *more))
    for one in replicas:
        check_grants(one, of_replicas(one.layout, one.database))


def _erase(settings: Settings, eraser: Eraser, wanted: list[tuple[Kind, str]], arguments: Namespace) -> int:
    if arguments.again:
        return _again(eraser, _key(settings), arguments)
    people = with_visitors(eraser.connection, _until(wanted, eraser.now_ms()))
    if not arguments.go:
        return _show(eraser.count(people), as_json=arguments.json)
    rows, letters = eraser.erase(people, _key(settings), operator())
    say(f"{rows} rows and the content of {letters} dead letters were erased; {_ON_ITS_WAY}", sys.stderr)
    return 0


def _again(eraser: Eraser, key: ErasureKey, arguments: Namespace) -> int:
    if others := eraser.of_other_keys(key):
        say(f"{others} ids were erased under other keys: what comes back of them is not found", sys.stderr)
    if not arguments.go:
        return _show(eraser.count_again(key), as_json=arguments.json)
    rows, letters = eraser.again(key, operator())
    say(f"{rows} rows and the content of {letters} dead letters had come back, and were erased", sys.stderr)
    return 1 if others else 0


def _show(found: Found, *, as_json: bool) -> int:
    told = [{"table": "events", "named_by": str(kind), "rows": count} for kind, count in found.rows.items()]
    show([*told, {"table": "dead_letters", "named_by": "", "rows": found.letters}], as_json=as_json)
    say(f"nothing was erased; add --go to erase {found.count}" if found.count else "nothing to erase", sys.stderr)
    return 0


def run_export(settings: Settings, arguments: Namespace) -> int:
    """Write what is there of people."""
    wanted = _wanted(arguments)
    if not wanted:
        raise Misconfigured("whose data? give --user-id, --anon-id or --event-id")
    eraser = _eraser(settings, connect(settings).patient(PATIENCE_S))
    people = with_visitors(eraser.connection, _until(wanted, eraser.now_ms()))
    with _output(arguments.to) as out:
        count = 0
        for line in _held(eraser, people):
            say(_readable(json.dumps(line, ensure_ascii=False, default=str)), out)
            count += 1
    say(f"{count} rows and dead letters were written", sys.stderr)
    return 0


def _readable(line: str) -> str:
    """Replace what no text can hold: bytes of a foreign producer that are no UTF-8."""
    return text_bytes(line).decode("utf-8", "replace")


def _held(eraser: Eraser, people: list[Person]) -> Iterator[dict[str, Any]]:
    query = rows_of({person.kind for person in people}, "e.*", eraser.connection.layout.over_all("events"))
    for row in lines(eraser.connection, query, rows=external(people)):
        yield {"table": "events"} | row
    for letter in eraser.letters_of(people):
        yield {"table": "dead_letters"} | _shown(letter)


def _shown(letter: HeldLetter) -> dict[str, Any]:
    names = ("letter_id", "refused_at", "reason", "error", "headers")
    told = {name: letter.row[name] for name in names}
    if letter.event is None:
        return told | {"value_base64": base64.b64encode(letter.value).decode()}
    return told | {"event": letter.event}


def _key(settings: Settings) -> ErasureKey:
    if key := erasure_key(settings):
        return key
    raise Misconfigured(
        "CONSUMER_ERASURE_KEY_FILE: is required to erase; make one with `openssl rand -hex 32`, and keep a copy:"
        " without it, what comes back can't be found"
    )


def _eraser(
    settings: Settings,
    connection: Connection,
    shards: Sequence[Connection] = (),
    replicas: Sequence[Connection] = (),
) -> Eraser:
    report = partial(say, where=sys.stderr)
    return Eraser(connection, find_schemas(settings).schema_of, report, shards=shards, replicas=replicas)


def _wanted(arguments: Namespace) -> list[tuple[Kind, str]]:
    return [(kind, value) for option, kind in _OPTIONS.items() for value in getattr(arguments, option)]


def _until(wanted: list[tuple[Kind, str]], now_ms: int) -> list[Person]:
    return [Person(kind, value, now_ms) for kind, value in wanted]


@contextmanager
def _output(path: str) -> Iterator[TextIO]:
    """Yield standard output, or a new file that only its owner may read.

    Raises:
        Misconfigured: the file is there, or can't be made.
    """
    if not path:
        yield sys.stdout
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Misconfigured(f"argument --to: {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        yield file


def add_people(erase: argparse.ArgumentParser, export: argparse.ArgumentParser) -> None:
    """Add the options of both commands."""
    for each in (erase, export):
        each.add_argument(
            "--user-id", type=identifier, action="append", default=[], help="a signed-in user; repeatable"
        )
        each.add_argument("--anon-id", type=identifier, action="append", default=[], help="a visitor; repeatable")
        each.add_argument("--event-id", type=event_id, action="append", default=[], help="one event; repeatable")
    export.add_argument("--to", default="", metavar="FILE", help="a new file; default: standard output")
    erase.add_argument("--again", action="store_true", help="erase what came back of people who were erased")
    erase.add_argument("--go", action="store_true", help="do it, instead of printing what is there")
