"""`python -m ingest spool`: list the spool, drain it, salvage a broken file."""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ingest.arguments import Parser, directory, set_aside
from ingest.counters import EventCounters
from ingest.durability import kafka_properties, open_broker, open_directory
from ingest.logs import start_logging
from ingest.ports import NoMetrics
from ingest.publishing.ports import SpoolError
from ingest.settings import PREFIX, Settings, load
from ingest.spool.backlog import Backlog
from ingest.spool.directory import SpoolBounds, SpoolDirectory, lock_of
from ingest.spool.drainer import Drainer, DrainPace
from ingest.spool.file import Extent, SpoolFile
from ingest.spool.locks import is_locked
from schemas.arguments import seconds

_VARIABLE: Final = f"{PREFIX}SPOOL_DIR"
_DEFAULT_DIRECTORY: Final = Settings(bootstrap_servers="none").spool_dir
_LEFT_OVER: Final = 1
_WRONG_SETTING: Final = 2
_UNHURRIED_S: Final = 60.0
_BATCH: Final = 256
_BATCH_BYTES: Final = 1024 * 1024
_MISSES_MAX: Final = 100_000  # a page holds about ten events; after this many misses nothing readable follows

_ABOUT: Final = """\
The spool holds events that the broker has not acknowledged. The ingress drains it by itself. These commands are for
looking at it, and for a directory that no ingress uses any more."""
_ABOUT_LIST: Final = f"""\
Lists each file of the spool: its owner ("living", or "nobody": then the drainer adopts it), its events, the events that
are parked because the broker refuses them, its size, and the age of its oldest event. It needs only {_VARIABLE}
or --dir, and does not disturb a running ingress."""
_ABOUT_DRAIN: Final = f"""\
Sends the spool to the broker, oldest file first and each in its order, and deletes what the broker has acknowledged.
It reads the settings of the ingress ({PREFIX}BOOTSTRAP_SERVERS, {PREFIX}TOPIC, {_VARIABLE}, ...). While an ingress
drains the directory, this command says so and does nothing. It may be stopped and started again at any time.
Exit code: 0 the spool is empty, 1 events are left, 2 a setting is wrong."""


_ABOUT_SALVAGE: Final = """\
Copies what can be read of a file that was set aside (.db.corrupt) into a new file of the spool, which is drained like
any other. The old file stays. Salvaging it twice sends its events twice, under the same event ids."""


def add_spool(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command `spool`."""
    spool = commands.add_parser("spool", help="list or drain the spool", description=_ABOUT)
    verbs = spool.add_subparsers(title="commands; without one, list")
    form = argparse.RawDescriptionHelpFormatter
    look = verbs.add_parser("list", help="list the files of the spool", description=_ABOUT_LIST, formatter_class=form)
    look.add_argument("--dir", type=directory, help=f"the directory ({_VARIABLE}, {_DEFAULT_DIRECTORY})")
    for asked in (spool, look):
        asked.set_defaults(call=lambda given: sys.exit(_list(getattr(given, "dir", None))))
    drain = verbs.add_parser(
        "drain", help="send the spool to the broker", description=_ABOUT_DRAIN, formatter_class=form
    )
    drain.add_argument("--parked", action="store_true", help="retry parked events too")
    drain.add_argument("--timeout", type=seconds, default=_UNHURRIED_S, metavar="S", help="give up after S seconds")
    drain.set_defaults(call=lambda given: sys.exit(_drain(with_parked=given.parked, timeout_s=given.timeout)))
    repair = verbs.add_parser(
        "salvage", help="recover events from a broken file", description=_ABOUT_SALVAGE, formatter_class=form
    )
    repair.add_argument("file", type=set_aside, help="a file that was set aside, in the directory of the spool")
    repair.set_defaults(call=lambda given: sys.exit(_salvage(given.file)))


def _list(path: Path | None) -> int:
    try:
        path = path or directory(os.environ.get(_VARIABLE, _DEFAULT_DIRECTORY))
    except argparse.ArgumentTypeError as error:
        return _refuse(f"{_VARIABLE}: {error}", _WRONG_SETTING)
    try:
        for line in listing(path):
            print(line)  # noqa: T201  (the command's answer)
    except (SpoolError, OSError) as error:
        return _refuse(str(error), _LEFT_OVER)
    return 0


def _refuse(sentence: str, code: int) -> int:
    """Print why a command fails, and return its exit code."""
    print(f"ingest: {sentence}", file=sys.stderr)  # noqa: T201  (the command's output)
    return code


def listing(path: Path) -> Iterator[str]:
    """Yield the lines that `spool list` prints."""
    place = SpoolDirectory(path, SpoolBounds(0, 0))
    pid = place.drainer_pid()
    yield f"directory  {path}" + ("" if path.is_dir() else "  (does not exist)")
    yield f"drained by {f'process {pid}' if pid else 'nobody'}"
    yield f"{'file':<34} {'owner':<7} {'events':>9} {'parked':>7} {'bytes':>12} {'oldest':>9}"
    for name in place.paths():
        try:
            file = SpoolFile(name, must_exist=True, is_reader=True)
        except SpoolError as error:
            yield f"{name.name:<34} unreadable: {error}"
            continue
        yield _line(name, file.extent())
        file.close()
    for name in place.set_aside_paths():
        yield f"{name.name}  set aside because it can't be read; see docs/OPERATIONS.md"


def _line(name: Path, extent: Extent) -> str:
    owner = "living" if is_locked(lock_of(name)) else "nobody"
    oldest = "-" if extent.oldest_at_ms is None else f"{time.time() - extent.oldest_at_ms / 1000:.0f} s"
    return f"{name.name:<34} {owner:<7} {extent.events:>9} {extent.parked:>7} {extent.size_bytes:>12} {oldest:>9}"


def _drain(*, with_parked: bool, timeout_s: float) -> int:
    try:
        settings = load(os.environ)
        kafka_properties(settings)
    except ValueError as error:
        return _refuse(str(error), _WRONG_SETTING)
    if not Path(settings.spool_dir).is_dir():
        return _refuse(f"{_VARIABLE}: {settings.spool_dir} is not a directory", _WRONG_SETTING)
    start_logging(settings.log_level)
    place = open_directory(settings)
    backlog = Backlog(place, lambda _: None, NoMetrics())
    try:
        is_ours = backlog.acquire()
    except SpoolError as error:
        return _refuse(str(error), _LEFT_OVER)
    if not is_ours:
        print(f"process {place.drainer_pid()} is already draining {place.path}")  # noqa: T201  (the command's answer)
        return _LEFT_OVER
    return _send_all(settings, backlog, with_parked=with_parked, timeout_s=timeout_s)


def _send_all(settings: Settings, backlog: Backlog, *, with_parked: bool, timeout_s: float) -> int:
    broker = open_broker(settings, EventCounters())
    try:
        if with_parked:
            backlog.unpark()
        pace = DrainPace(float("inf"), settings.answer_deadline_s + 1, settings.ack_slow_s)
        count = _Count()
        left = _drain_until(Drainer(backlog, broker, pace, _ignore, count), backlog, time.monotonic() + timeout_s)
        print(f"sent {count.events} events, {left} left")  # noqa: T201  (as above)
        return _LEFT_OVER if left else 0
    finally:
        broker.close(0)
        backlog.release()


def _drain_until(drainer: Drainer, backlog: Backlog, deadline_s: float) -> int:
    """Drain until the spool is empty or the deadline has passed; return how many events are left."""
    while (left := _left(backlog)) and time.monotonic() < deadline_s:
        time.sleep(min(drainer.step(), 1.0))
    return left


def _left(backlog: Backlog) -> int:
    backlog.next_batch(1, 1)  # opens all files, and deletes the empty ones
    return sum(extent.events for extent in backlog.extents())


class _Count(NoMetrics):
    """Counts the events sent."""

    def __init__(self) -> None:
        self.events = 0

    def count(self, name: str, amount: float = 1, **labels: str) -> None:  # noqa: ARG002  (the port's signature)
        if name == "spool_drained_events_total":
            self.events += int(amount)


def _ignore(*, is_well: bool) -> None:
    """Ignore the outcome of a batch: there is no breaker here."""


def _salvage(path: Path) -> int:
    place = SpoolDirectory(path.parent, SpoolBounds(0, 0))
    try:
        source = SpoolFile(path, must_exist=True, is_reader=True)
        target, lock = place.new_file()
        events = salvage(source, target)
        source.close()
        target.close()
        lock.release()
    except SpoolError as error:
        return _refuse(str(error), _LEFT_OVER)
    print(f"{events} events are back in the spool, in {target.path.name}")  # noqa: T201  (as above)
    return 0


def salvage(source: SpoolFile, target: SpoolFile) -> int:
    """Copy the records that can be read and are intact; return how many.

    Raises:
        SpoolError: the target can't be written.
    """
    events, after_seq, misses, batch = 0, 0, 0, _BATCH
    while misses < _MISSES_MAX:
        try:
            found = source.first(batch, _BATCH_BYTES, after_seq)
        except SpoolError:
            # One of these is on a broken page: read one at a time, and skip what can't be read.
            after_seq, misses = (after_seq, misses) if batch > 1 else (after_seq + 1, misses + 1)
            batch = 1
            continue
        if not found:
            break
        whole = [spooled.record for spooled in found if spooled.is_whole]
        target.append(whole, found[0].accepted_at_ms)
        events, after_seq, misses = events + len(whole), found[-1].seq, 0
        batch = min(2 * batch, _BATCH)
    return events
