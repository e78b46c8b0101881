"""Other releases of headrace: the next one has one more field, made as docs/OPERATIONS.md says; and who uses both."""

import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.command import environ_of
from tests.support.fleet import Fleet

_ROOT: Final = Path(__file__).resolve().parents[2]
_PARTS: Final = ("schemas", "ingest", "consumer")
FIELD: Final = "campaign"
_BEFORE: Final = "popupId"
_PAUSE_S: Final = 0.1
_EVENTS: Final = 5
_MIGRATION: Final = f"""
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS {FIELD} LowCardinality(String) COMMENT 'what brought the user' AFTER popup_id;
-- A view keeps the columns that its SELECT * had when it was made.
CREATE OR REPLACE VIEW events_unique AS SELECT * FROM events FINAL;
"""


def next_release(directory: Path) -> Path:
    """Copy the tree and add an optional field to the event, its column and what clients may send; return the copy."""
    for part in _PARTS:
        shutil.copytree(_ROOT / part, directory / part, ignore=shutil.ignore_patterns("__pycache__"))
    schemas = directory / "schemas"
    shutil.copy(schemas / "event.avsc", schemas / "previous/event-1.avsc")
    _insert(
        schemas / "event.avsc",
        f'    {{"name": "{_BEFORE}"',
        f'    {{"name": "{FIELD}", "type": "string", "default": ""}},',
    )
    _insert(schemas / "event.py", f"    {_BEFORE}: str", f"    {FIELD}: str")
    _insert(schemas / "catalogue.toml", f"[fields.{_BEFORE}]", f'[fields.{FIELD}]\ntype = "string"\ndoc = "What."\n')
    number = max(int(path.name[:4]) for path in (schemas / "clickhouse").glob("*.sql")) + 1
    (schemas / f"clickhouse/{number:04}_{FIELD}.sql").write_text(_MIGRATION, "utf-8")
    return directory


def former_release(directory: Path) -> Path:
    """Copy the tree and let its workers write and read intents as the release before did: version 1 alone."""
    for part in _PARTS:
        shutil.copytree(_ROOT / part, directory / part, ignore=shutil.ignore_patterns("__pycache__"))
    intent = directory / "consumer/delivery/intent.py"
    text = intent.read_text("utf-8")
    for now, before in (("version: int = _V2", "version: int = _V1"), ('{"1": _V1, "2": _V2}', '{"1": _V1}')):
        assert text.count(now) == 1, now
        text = text.replace(now, before)
    intent.write_text(text, "utf-8")
    return directory


def run_migrate(fleet: Fleet, root: Path) -> str:
    """Run `python -m consumer migrate` of a tree against the fleet's database, and return what it prints."""
    environ = environ_of("CONSUMER_", **fleet.settings)
    command = [sys.executable, "-m", "consumer", "migrate"]
    ended = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


class Visitors:
    """Post events that bear the new field, to an ingress of either release.

    Attributes:
        sent: the events that were answered 201, and what their row must have in the new column.
    """

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}

    def send(self, port: int, count: int, *, knows_field: bool) -> None:
        """Post so many events to a collector that knows the field, or keeps it in `properties`; all must be taken."""
        for _ in range(-(-count // _EVENTS)):
            ids = [str(uuid.uuid4()) for _ in range(_EVENTS)]
            events = [{"eventType": "VIEW", "eventId": one, "anonId": one, FIELD: f"to {one}"} for one in ids]
            assert _post(port, events) == http.client.CREATED
            self.sent |= {one: f"to {one}" if knows_field else "" for one in ids}

    @contextmanager
    def running(self, port: int, *, knows_field: bool) -> Iterator[None]:
        """Post some events ten times a second, on a thread, until the block is left."""
        stop, faults = threading.Event(), list[BaseException]()

        def run() -> None:
            try:
                while not stop.wait(_PAUSE_S):
                    self.send(port, _EVENTS, knows_field=knows_field)
            except (OSError, http.client.HTTPException, AssertionError) as error:
                faults.append(error)

        thread = threading.Thread(target=run, name="visitors")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        assert not faults, faults


def await_rows(fleet: Fleet, sent: dict[str, str], timeout_s: float = 60.0) -> None:
    """Wait for the events' rows, then fail unless each is there once with its field's value, and nothing else is."""
    query = f"SELECT toString(event_id) AS id, {FIELD} AS value FROM events"
    deadline_s = time.monotonic() + timeout_s
    while True:
        rows = [(row["id"], row["value"]) for row in fleet.connection.query(query)]
        if sent.keys() <= {event_id for event_id, _ in rows} or time.monotonic() > deadline_s:
            break
        time.sleep(0.2)
    missing = sent.keys() - {event_id for event_id, _ in rows}
    assert not missing, f"{len(missing)} of {len(sent)} events have no row"
    assert sorted(rows) == sorted(sent.items())
    unique = fleet.connection.query(query.replace("FROM events", "FROM events_unique"))
    assert {row["id"]: row["value"] for row in unique} == sent
    (counted,) = fleet.connection.query("SELECT sum(rows) AS n FROM offsets")
    assert counted["n"] == len(sent)


def _post(port: int, events: list[dict[str, str]]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        body = json.dumps({"messageBody": events})
        connection.request("POST", "/collect/event", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def _insert(path: Path, before: str, text: str) -> None:
    """Put a line before the one line that begins like this."""
    lines = path.read_text("utf-8").split("\n")
    (at,) = [number for number, line in enumerate(lines) if line.startswith(before)]
    path.write_text("\n".join([*lines[:at], text, *lines[at:]]), "utf-8")
