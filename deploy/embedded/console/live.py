"""What the page shows of the running pipeline, read when it asks, and at most twice a second for all pages together."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.embedded.console.database import Answer, Database, DatabaseError
from deploy.embedded.console.metrics import Page, Rates, read_page
from deploy.embedded.console.traffic import Traffic

_FRESH_S: Final = 0.5
_RATE_S: Final = 10.0
_EVENTS_SHOWN: Final = 12
_LETTERS_SHOWN: Final = 5
_FIRST_LOOK_MS: Final = 3_600_000
# Batches of several partitions arrive in another order than they were sent in: so much is read again.
_OVERLAP_MS: Final = 5000
_INGEST: Final = "headrace_ingest_"
_CONSUMER: Final = "headrace_consumer_"
_COLLECT: Final = "/collect/event"
_ERROR_STATUS: Final = "400"  # and above, compared as text of three digits

# Text of clients is cut: an event may have 256 KiB, and this is read every second.
_EVENTS: Final = """
SELECT concat(_topic_id, '/', toString(_partition), '/', toString(_offset), '/', toString(_reading)) AS key,
    concat(toString(_partition), ' / ', toString(_offset)) AS place,
    event_id, event_type, client_id, trace_id, substringUTF8(anon_id, 1, 40) AS visitor,
    substringUTF8(multiIf(click_action != '', click_action, content_id != '', content_id, url), 1, 60) AS what,
    event_location AS location,
    toUnixTimestamp64Milli(received_at) AS received_ms, toUnixTimestamp64Milli(_inserted_at) AS inserted_ms
FROM events WHERE _inserted_at >= fromUnixTimestamp64Milli({since_ms:Int64})
ORDER BY _inserted_at DESC, received_at DESC LIMIT {rows:UInt32}
"""
_DEAD: Final = """
SELECT concat(_topic_id, '/', toString(_partition), '/', toString(_offset), '/', toString(_reading)) AS key,
    reason, substringUTF8(error, 1, 400) AS error, service, letter_id, length(value) AS bytes,
    toValidUTF8(substring(value, 1, 600)) AS value,
    toUnixTimestamp64Milli(origin_at) AS received_ms, toUnixTimestamp64Milli(_inserted_at) AS inserted_ms
FROM dead_letters WHERE _inserted_at >= fromUnixTimestamp64Milli({since_ms:Int64})
ORDER BY _inserted_at DESC LIMIT {rows:UInt32}
"""
_SECONDS: Final = """
SELECT toUnixTimestamp(received_at) AS second, count() AS events,
    quantilesIf(0.5, 0.99)(
        greatest(0, dateDiff('millisecond', received_at, _inserted_at)), received_at >= now64(3) - INTERVAL 60 SECOND
    ) AS ages
FROM events WHERE received_at >= now64(3) - INTERVAL 90 SECOND
GROUP BY GROUPING SETS ((second), ()) ORDER BY second
"""
_TOTALS: Final = """
SELECT name, total_rows FROM system.tables WHERE database = 'headrace' AND name IN ('events', 'dead_letters')
"""
_REASONS: Final = (
    "SELECT reason, count() AS dead_letters FROM dead_letters_unique GROUP BY reason ORDER BY 2 DESC LIMIT 20"
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to read: the ingress's metrics, ClickHouse, and a directory with each worker's address in a file."""

    metrics_url: str
    database: Database
    workers_dir: Path


class Recent:
    """The latest rows of one table, newest first; rows that are read again are told apart by their key."""

    def __init__(self, query: str, shown: int) -> None:
        self._query, self._shown = query, shown
        self._rows: dict[str, dict[str, Any]] = {}
        self._newest_ms: int | None = None

    def refresh(self, database: Database, now_ms: int) -> list[dict[str, Any]]:
        """Read what came since the last time and return the latest rows."""
        since_ms = now_ms - _FIRST_LOOK_MS if self._newest_ms is None else self._newest_ms - _OVERLAP_MS
        self.add(database.ask(self._query, since_ms=since_ms, rows=self._shown).records())
        return self.rows

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The latest rows."""
        return list(self._rows.values())

    def add(self, records: Iterable[dict[str, Any]]) -> None:
        """Add rows, and forget the oldest ones."""
        known = self._rows | {record["key"]: record for record in records}
        order = sorted(known.values(), key=lambda row: (row["inserted_ms"], row["received_ms"]), reverse=True)
        self._rows = {row["key"]: row for row in order[: self._shown]}
        if order:
            self._newest_ms = order[0]["inserted_ms"]


class Live:
    """Reads everything at once, when a page asks; threads share what was read."""

    def __init__(self, sources: Sources, traffic: Traffic, now_s: Callable[[], float] = time.monotonic) -> None:
        self._sources, self._traffic, self._now_s = sources, traffic, now_s
        self._events, self._dead = Recent(_EVENTS, _EVENTS_SHOWN), Recent(_DEAD, _LETTERS_SHOWN)
        self._rates = Rates(_RATE_S)
        self._reasons: tuple[int, dict[str, int]] = (0, {})
        self._lock = threading.Lock()
        self._read_s, self._snapshot = float("-inf"), dict[str, Any]()

    def snapshot(self) -> dict[str, Any]:
        """Return what is known now; what can't be read is None or empty, and `problems` says so."""
        with self._lock:
            if self._now_s() - self._read_s >= _FRESH_S:
                self._snapshot, self._read_s = self._read(), self._now_s()
            return self._snapshot | {"traffic": self._traffic.state()}

    def _read(self) -> dict[str, Any]:
        urls = {
            path.name: f"{path.read_text().strip()}/metrics" for path in sorted(self._sources.workers_dir.glob("*"))
        }
        page, workers = read_page(self._sources.metrics_url), {name: read_page(url) for name, url in urls.items()}
        pages = [worker for worker in workers.values() if worker]
        self._rates.add(self._now_s(), counters_of(page, pages))
        problems = [] if page else ["The collector does not answer."]
        problems += [f"{name} does not answer." for name, worker in workers.items() if worker is None]
        try:
            tables = self._tables()
        except DatabaseError as error:
            tables = {}
            problems.append(f"{error}.")
        return {
            "at_ms": time.time_ns() // 1_000_000,
            "problems": problems,
            "collector": self._collector(page),
            "workers": self._workers(workers),
            "tables": tables,
        }

    def _collector(self, page: Page | None) -> dict[str, Any] | None:
        if page is None:
            return None
        return {
            "accepted_per_s": self._rates.per_s("accepted"),
            "refused_per_s": self._rates.per_s("refused"),
            "answer_s": self._rates.mean("answer_s", "answers"),
            "refusals": refusals_of(page),
            "spooled": page.total(f"{_INGEST}spool_events"),
        }

    def _workers(self, workers: dict[str, Page | None]) -> dict[str, Any]:
        pages = [page for page in workers.values() if page]
        return {
            "states": [{"name": name, "is_ready": _is_ready(page)} for name, page in workers.items()],
            "lag": sum(page.total(f"{_CONSUMER}lag_records") for page in pages) if pages else None,
            "insert_s": self._rates.mean("insert_s", "inserts"),
            "halted": sum(page.total(f"{_CONSUMER}partitions", state="halted") for page in pages),
        }

    def _tables(self) -> dict[str, Any]:
        database, now_ms = self._sources.database, time.time_ns() // 1_000_000
        totals = {name: rows or 0 for name, rows in database.ask(_TOTALS).rows}
        dead = totals.get("dead_letters", 0)
        if dead != self._reasons[0]:
            self._reasons = dead, dict(database.ask(_REASONS).rows)
        return {
            "rows": totals.get("events", 0),
            "dead_letters": dead,
            "reasons": self._reasons[1],
            "events": self._events.refresh(database, now_ms),
            "dead": self._dead.refresh(database, now_ms),
            **ages_of(database.ask(_SECONDS)),
        }


def counters_of(page: Page | None, workers: list[Page]) -> dict[str, float]:
    """Return the counters whose rates are shown."""
    counters: dict[str, float] = {}
    if page:
        counters |= {name: page.total(f"{_INGEST}events_total", outcome=name) for name in ("accepted", "refused")}
        counters["answer_s"] = page.total(f"{_INGEST}request_seconds_sum", route=_COLLECT)
        counters["answers"] = page.total(f"{_INGEST}request_seconds_count", route=_COLLECT)
    if workers:
        inserts = f"{_CONSUMER}insert_seconds"
        counters["insert_s"] = sum(worker.total(f"{inserts}_sum", table="events") for worker in workers)
        counters["inserts"] = sum(worker.total(f"{inserts}_count", table="events") for worker in workers)
    return counters


def refusals_of(page: Page) -> dict[str, float]:
    """Return how many requests were refused since the collector's start, by code, the most frequent first."""
    sums: dict[str, float] = {}
    for status in page.by("status", f"{_INGEST}requests_total", route=_COLLECT):
        if status >= _ERROR_STATUS:
            codes = page.by("outcome", f"{_INGEST}requests_total", route=_COLLECT, status=status)
            for code, count in codes.items():
                sums[code] = sums.get(code, 0.0) + count
    return dict(sorted(((code, count) for code, count in sums.items() if count), key=lambda item: -item[1]))


def ages_of(answer: Answer) -> dict[str, Any]:
    """Return the rows of each second, and how old events were when a worker sent them (median and 99 %, seconds)."""
    seconds = [(second, events) for second, events, _ in answer.rows if second]
    whole: list[float | None] = next((ages for second, _, ages in answer.rows if not second), [None, None])
    p50_s, p99_s = (None if age is None else age / 1000 for age in whole)
    return {"seconds": seconds, "p50_s": p50_s, "p99_s": p99_s}


def _is_ready(page: Page | None) -> bool:
    return bool(page and page.total(f"{_CONSUMER}is_ready"))
