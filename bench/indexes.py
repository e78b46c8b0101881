"""Which granules a condition reads, and by which index: what `EXPLAIN indexes = 1` says of docs/ANALYTICS.md's table.

    .venv/bin/python -m bench.indexes --millions 10 && make docs

Fills ClickHouse's own server as `bench.questions` does. A granule is up to 8,192 rows. Nothing here depends on the
machine. A row of an event that is asked for is one of the table, taken by a hash.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from typing import Any, Final

from bench.events_table import Server
from bench.kept import keep
from bench.questions import FIRST, Tables

_ONE: Final = """
SELECT toString(event_id) AS event_id, toString(ping_id) AS ping_id, anon_id, user_id, content_id
FROM events WHERE user_id != '' AND content_id != '' ORDER BY cityHash64(event_id) LIMIT 1
"""
CONDITIONS: Final = {
    "events_unique": (
        "event_id = '{event_id}'",
        "ping_id = '{ping_id}'",
        "anon_id = '{anon_id}'",
        "user_id = '{user_id}'",
        "content_id = '{content_id}'",
        "received_at >= '2026-01-08' AND received_at < '2026-01-09'",
        "event_type = 'PURCHASE'",
    ),
    "page_views": ("ping_id = '{ping_id}'", "day = '2026-01-08'"),
    "visitors_daily": ("day = '2026-01-08'",),
    "revenue_daily": ("day = '2026-01-08'",),
    "events_per_minute": ("minute >= '2026-01-08 12:00:00' AND minute < '2026-01-08 13:00:00'",),
    "sessions": ("day = '2026-01-08'",),
}
"""What each view is asked."""


def nodes(plan: Any) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a plan that read a table."""
    if "Indexes" in plan or plan.get("Node Type") == "ReadFromMergeTree":
        yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def said(explained: str) -> dict[str, Any]:
    """Return granules in all, those read, and the indexes that left some out, of an answer of EXPLAIN."""
    (document,) = json.loads(explained)
    read: dict[str, Any] = {"granules": 0, "read": 0, "by": []}
    for node in nodes(document["Plan"]):
        indexes = node.get("Indexes", [])
        if not indexes:
            continue
        read["granules"] += indexes[0]["Initial Granules"]
        read["read"] += indexes[-1]["Selected Granules"]
        for index in indexes:
            if index["Selected Granules"] < index["Initial Granules"]:
                name = index.get("Name") or index["Type"]
                read["by"] += [name] if name not in read["by"] else []
    return read


def measure(server: Server, tables: Tables) -> list[dict[str, Any]]:
    """Explain each condition."""
    (one,) = tables.connection.query(_ONE)
    seen = []
    for view, conditions in CONDITIONS.items():
        for condition in conditions:
            sql = f"EXPLAIN json = 1, indexes = 1 SELECT * FROM {view} WHERE {condition.format(**one)} FORMAT TSVRaw"
            text, _ = server.ask(sql, database=tables.connection.database)
            seen.append({"view": view, "condition": condition.format(**dict.fromkeys(one, "…"))} | said(text))
            print(seen[-1], flush=True)
    return seen


def main() -> None:
    """Measure, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        server = Server(directory)
        try:
            first = Tables(server, "headrace")
            first.fill(FIRST)
            many = Tables(server, "headrace_many")
            many.grow(first, arguments.millions)
            (size,) = many.connection.query("SELECT count() AS n FROM events")
            keep("indexes", {"rows": size["n"], "conditions": measure(server, many)})
        finally:
            server.stop()


if __name__ == "__main__":
    main()
