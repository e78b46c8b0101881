"""`headrace find ID`: says where an event is, by its pingId, its eventId or its request's id."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from consumer.errors import ConsumerError
from headrace.arguments import seconds
from headrace.findings import Finding, State, Station, Verdict, verdict
from headrace.identity import Identity, identity_of
from headrace.reach import reach_of
from headrace.services import Services
from headrace.stations import Matcher, ask_spool
from headrace.terminal import plain
from schemas.arguments import moment_ms

if TYPE_CHECKING:
    from consumer.kafka.scan import Progress
    from headrace.remote_stations import RemoteStations

ABOUT: Final = """
Says where an event is: a row, a dead letter with its reason, a record in Kafka that waits for a
worker, or a record in the spool of this machine. ID is the pingId of the answer, the eventId, or
the X-Request-Id of the answer.

Rows and records have the request id that a client chose itself when it is a UUID, or 32 hexadecimal
digits, and came without a traceparent. They do not have others. So an id that no event has is
`unknown`, because it may be such a request id: --event says that it is an event's.

It asks the tables first. When they have nothing, it reads the spool, and the topics: what the
workers have not read yet, and what was written from the time in the id on (a UUIDv7), or in the
last hour. --since, and --until or --window-s, say what to read instead. A topic of which a part was
left out, where it may be, is `unknown`.

A station that can't be asked is `unknown`: that is never taken for "not there".

Exit code: 0 found; 1 not found, and every station was asked; 3 not found, and something is unknown;
2 a setting or an argument is wrong.

  headrace find 0198c1f2-7d1e-7a60-9c39-6f0d1b6f8a11
  headrace find 4bf92f3577b34da6a3ce929d0e0e4736 --json
  headrace find c523aa41-9f0f-4fc2-bc96-5a8ff5520b78 --since 2026-01-31T09:00 --until 2026-01-31T11:00
"""
_TELL_S: Final = 2.0


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("id", metavar="ID", help="a pingId, an eventId, a request id or a trace id")
    parser.add_argument("--event", action="store_true", help="ID is an event's (pingId, eventId), and no request id")
    parser.add_argument(
        "--since", type=moment_ms, metavar="TIME", help="read the topics from this time on (ISO 8601, UTC)"
    )
    parser.add_argument("--until", type=moment_ms, metavar="TIME", help="read the topics up to this time")
    parser.add_argument(
        "--window-s",
        type=seconds,
        metavar="SECONDS",
        help="read so many seconds from the id's time on (default: up to now)",
    )
    parser.add_argument(
        "--timeout-s", type=seconds, default=120.0, metavar="SECONDS", help="read for so long at most (%(default)s)"
    )
    parser.add_argument("--everywhere", action="store_true", help="ask all stations, also when there is a row")
    parser.add_argument("--json", action="store_true", help="one JSON object per line; the last one is the verdict")
    parser.set_defaults(call=run)


def run(services: Services, arguments: argparse.Namespace) -> int:
    """Ask the stations, and print what they say.

    Raises:
        ValueError: the id or a setting is wrong.
    """
    now_ms = time.time_ns() // 1_000_000
    try:
        identity = identity_of(arguments.id, now_ms, is_event=arguments.event)
    except ValueError as error:
        raise ValueError(f"argument ID: {error}") from error
    findings: list[Finding] = []
    for finding in Search(services, identity, arguments, now_ms).findings():
        findings.append(finding)
        if not arguments.json:
            print(line_of(finding), flush=True)
    told = verdict(findings)
    _conclude(findings, told, as_json=arguments.json)
    return told.code


def line_of(finding: Finding) -> str:
    """Return one line; control characters of a client's are escaped."""
    place = f"{finding.place}  " if finding.place else ""
    return plain(f"{finding.station:<12} {finding.state:<10} {place}{finding.detail}")


def sum_of(told: Verdict) -> str:
    """Return the verdict's line."""
    return plain(f"{told.where}: {told.sentence}")


def _conclude(findings: list[Finding], told: Verdict, *, as_json: bool) -> None:
    if not as_json:
        print(f"\n{sum_of(told)}")
        return
    for finding in findings:
        names = ("station", "state", "place", "detail")
        print(json.dumps({name: str(getattr(finding, name)) for name in names}))
    print(json.dumps({"verdict": told.where, "sentence": told.sentence}))


class Search:
    """Asks the stations in an order in which nothing that moves on can be missed: the spool, the topics, the tables."""

    def __init__(self, services: Services, identity: Identity, arguments: argparse.Namespace, now_ms: int) -> None:
        self._identity, self._arguments, self._now_ms = identity, arguments, now_ms
        self._reach = reach_of(identity, arguments, now_ms)
        self._spool_dir = services.spool_dir()
        self._matcher = Matcher(identity, services.schemas().schema_of)
        self._beyond, self._why_not = _open_beyond(services, self._matcher, arguments.timeout_s)

    def findings(self) -> Iterator[Finding]:
        """Yield what the stations say."""
        told = self._tables()
        is_there = _is_found(told)
        if is_there:
            yield from told
            if not self._arguments.everywhere:
                return
        yield from ask_spool(self._spool_dir, self._matcher, self._identity)
        passed = yield from self._log()
        if not is_there:
            if self._beyond and any(map(self._beyond.is_event, passed)):
                self._identity = replace(self._identity, is_event=True)
            told = self._tables(is_last=True)  # it may have come while the spool and the topics were read
            yield from told
            if self._beyond and not _is_found(told):
                for one in passed:
                    yield from self._beyond.fate(one)

    def _tables(self, *, is_last: bool = False) -> list[Finding]:
        if self._beyond is None:
            return [Finding(station, State.UNKNOWN, self._why_not) for station in (Station.ROW, Station.DEAD_LETTER)]
        return self._beyond.tables(self._identity, is_last=is_last)

    def _log(self) -> Generator[Finding, None, list[str]]:
        """Yield what the topics say; return the places of events that the workers have passed."""
        if self._beyond is None:
            yield Finding(Station.TOPIC, State.UNKNOWN, self._why_not)
            return []
        passed: list[str] = []
        try:
            for finding in self._beyond.log(self._identity, self._reach, _teller(time.monotonic)):
                yield finding
                if finding.station is Station.GROUP and finding.state is State.PASSED:
                    passed.append(finding.place)
        except ConsumerError as error:
            yield Finding(Station.TOPIC, State.UNKNOWN, str(error))
        return passed


def _is_found(findings: list[Finding]) -> bool:
    return any(finding.state is State.FOUND for finding in findings)


def _open_beyond(services: Services, matcher: Matcher, timeout_s: float) -> "tuple[RemoteStations | None, str]":
    """Return what asks Kafka and ClickHouse; or why not: an image of the ingress has no worker."""
    try:
        from headrace.remote_stations import RemoteStations  # noqa: PLC0415  (as above)
    except ModuleNotFoundError as error:
        return None, f"the worker's libraries are not installed here: there is no {error.name}"
    return RemoteStations(services, matcher, timeout_s), ""


def _teller(now_s: Callable[[], float]) -> "Callable[[Progress], None]":
    """Return what prints how far a search has come, now and then."""
    last_s = now_s()

    def tell(progress: "Progress") -> None:
        nonlocal last_s
        if now_s() - last_s >= _TELL_S:
            last_s = now_s()
            print(f"reading the topics: {progress.records} of {progress.records_max} records", file=sys.stderr)

    return tell
