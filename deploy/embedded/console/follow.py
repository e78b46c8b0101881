"""Posts one request to the collector, and finds what becomes of it: rows, or dead letters.

The request has an id of ours as `X-Request-Id` and in `traceparent`: the collector writes it into the column trace_id
of rows, and into the headers of dead letters.
"""

import json
import secrets
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from deploy.embedded.console.database import Answer, Database

_TIMEOUT_S: Final = 10.0
_TICK_S: Final = 0.02
_ANSWER_BYTES_MAX: Final = 1024**2
_ROWS_MAX: Final = 50
# received_at has milliseconds, and both clocks are this machine's; a second is for one that is set back.
_EARLIER_MS: Final = 1000
_ROWS: Final = """
SELECT *, toUnixTimestamp64Milli(received_at) AS received_ms, toUnixTimestamp64Milli(_inserted_at) AS inserted_ms
FROM events
WHERE trace_id = {request:String} AND received_at >= fromUnixTimestamp64Milli({since_ms:Int64})
ORDER BY _topic, _partition, _offset LIMIT {rows:UInt32}
"""
_DEAD: Final = """
SELECT letter_id, reason, error, service, toValidUTF8(substring(value, 1, 2000)) AS value, _topic, _partition, _offset,
    toUnixTimestamp64Milli(origin_at) AS received_ms, toUnixTimestamp64Milli(_inserted_at) AS inserted_ms
FROM dead_letters
WHERE headers['headrace.request_id'] = {request:String} AND origin_at >= fromUnixTimestamp64Milli({since_ms:Int64})
ORDER BY _partition, _offset LIMIT {rows:UInt32}
"""
_STEPS: Final = ("received_ms", "inserted_ms")
_UNSENT: Final[tuple[object, ...]] = ("", None, [], {}, "00000000-0000-0000-0000-000000000000")
_DEFAULTS: Final = (("active", -1), ("_leader_epoch", -1))


class CollectorError(Exception):
    """The collector did not answer; the message is for the page."""


class Follower:
    """Sends to a collector, and looks into a database. Threads may share it."""

    def __init__(self, ingest_url: str, database: Database) -> None:
        self._address = urlsplit(ingest_url).netloc
        self._database = database

    def send(self, body: bytes, *, is_lenient: bool) -> dict[str, Any]:
        """Post a body as it is; return the answer, and when it came, in ms after the sending.

        Raises:
            CollectorError: no answer.
        """
        request_id = secrets.token_hex(16)
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
        headers["traceparent"] = f"00-{request_id}-{secrets.token_hex(8)}-01"
        headers |= {"Prefer": "handling=lenient"} if is_lenient else {}
        connection = HTTPConnection(self._address, timeout=_TIMEOUT_S)
        sent_ms, began_s = time.time_ns() / 1e6, time.monotonic()
        try:
            connection.request("POST", "/collect/event", body, headers)
            answer = connection.getresponse()
            text = answer.read(_ANSWER_BYTES_MAX)
        except (OSError, HTTPException) as error:
            raise CollectorError("the collector does not answer") from error
        finally:
            connection.close()
        return {
            "request": request_id,
            "sent_ms": sent_ms,
            "answered_ms": (time.monotonic() - began_s) * 1000,
            "status": answer.status,
            "durability": answer.headers.get("X-Durability", ""),
            "answer": _parsed(text),
        }

    def follow(self, request_id: str, sent_ms: float, rows: int, dead: int) -> dict[str, Any]:
        """Wait until a request's rows and dead letters are in the tables, 10 s at most; return those that are.

        Times are in ms after `sent_ms`: when the collector received the event, when a worker sent the batch, and when a
        query first saw the row.
        """
        since_ms = int(sent_ms) - _EARLIER_MS
        found: dict[str, list[dict[str, Any]]] = {"rows": [], "dead": []}
        deadline_s = time.monotonic() + _TIMEOUT_S
        while True:
            for name, query, wanted in (("rows", _ROWS, rows), ("dead", _DEAD, dead)):
                if len(found[name]) < min(wanted, _ROWS_MAX):
                    answer = self._database.ask(query, request=request_id, since_ms=since_ms, rows=_ROWS_MAX)
                    _add_new(found[name], answer, sent_ms)
            is_complete = len(found["rows"]) >= min(rows, _ROWS_MAX) and len(found["dead"]) >= min(dead, _ROWS_MAX)
            if is_complete or time.monotonic() > deadline_s:
                return {**found, "is_complete": is_complete}
            time.sleep(_TICK_S)


def _add_new(found: list[dict[str, Any]], answer: Answer, sent_ms: float) -> None:
    """Add rows that were not there at the last look, each with its times."""
    seen_ms = time.time_ns() / 1e6 - sent_ms
    known = {one["place"] for one in found}
    for record in answer.records():
        place = f"{record['_topic']} / {record['_partition']} / {record['_offset']}"
        if place not in known:
            steps = {name: max(0.0, record[name] - sent_ms) for name in _STEPS}
            found.append({"place": place, **steps, "seen_ms": seen_ms, "row": given(record)})


def given(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a row that hold something, without those that the console added."""
    return {
        name: value
        for name, value in record.items()
        if value not in _UNSENT and name not in _STEPS and (name, value) not in _DEFAULTS
    }


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode("utf-8", "replace")
