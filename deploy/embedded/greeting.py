"""What the embedded pipeline says on a terminal: one line per part while it starts, then one screen."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Final

from deploy.embedded.environment import ANALYST, USER, Options

_BROKERS: Final[Mapping[str, str]] = {
    "embedded": """\
The broker is Tansu, in memory: a crash here loses events without a row, a killed
worker may double a batch. make run KAFKA=apache has no such gaps (needs Java 17).
""",
    "apache": """\
The broker is Apache Kafka, with one copy of its log on this disk: a crash of any
part loses and doubles nothing. Lose the disk, and the events are lost.
""",
}


@contextmanager
def step(name: str, now_s: Callable[[], float] = monotonic) -> Iterator[None]:
    """Say what is starting and, when the block ends without an error, how long it took."""
    print(f"  {name:<34}", end="", flush=True)
    began_s = now_s()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{now_s() - began_s:5.1f} s", flush=True)


def greeting(options: Options, environment_path: Path) -> str:
    """Return the text for a terminal of 24 lines and 80 columns; only long paths make it wider."""
    console = f"  CONSOLE      {options.console_url}   (look here first)\n" if options.console_port else ""
    return f"""
headrace is running. Ctrl-C inserts what was accepted and stops; the tables stay.

{console}  events in    {options.ingest_url}/collect/event
  documents    {options.ingest_url}/docs
  for pages    {options.ingest_url}/headrace.js   (docs/CLIENTS.md)
  metrics      {options.ingest_url}/metrics
  SQL          {options.clickhouse_url}/play?user={ANALYST}   (its load: /dashboard)
  logs         {_short(options.directory / "logs")}

An event in, and its row out a second later:

  curl {options.ingest_url}/collect/event -H 'Content-Type: application/json' \\
    -d '{{"messageBody": [{{"eventType": "VIEW", "clientId": "me"}}]}}'
  curl {options.clickhouse_url} -d 'FROM headrace.events_unique FORMAT Vertical'

Commands, from another terminal; they log in to ClickHouse as {USER}:

  . {_short(environment_path)} && headrace doctor     (find, tail, top; consumer lag)

{_BROKERS[options.kafka]}"""


def _short(path: Path) -> str:
    """Return a path as it is typed here: relative when it is below the working directory."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
