"""What FINAL costs on many rows: a table that has only the columns which a count by type through FINAL reads.

    .venv/bin/python -m bench.final_price --millions 100 && make docs

Key, engine, months and settings are those of `events` and its view; ids are UUIDv7 of a year. A wider table costs FINAL
no more: it reads the sorting key, the precedence, and the columns of the query. CPU is ClickHouse's process.
"""

import argparse
import tempfile
from typing import Any, Final

from bench.events_table import Server
from bench.kept import keep

_STEP: Final = 5_000_000
_YEAR_S: Final = 365 * 86_400
_CREATE: Final = """
CREATE TABLE narrow
(
    event_id UUID CODEC(ZSTD(1)),
    event_type LowCardinality(String),
    received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    _precedence UInt64 CODEC(Delta, ZSTD(1)),
    INDEX received_at_range received_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(_precedence) PARTITION BY toYYYYMM(received_at) ORDER BY toUInt128(event_id)
"""
_FILL: Final = """
INSERT INTO narrow SELECT
    dateTimeToUUIDv7(toDateTime(at)),
    ['VIEW', 'PING', 'PING', 'CLICK', 'EXIT'][number % 5 + 1],
    at,
    bitShiftLeft(toUInt64(17592186044415 - toUnixTimestamp64Milli(at)), 20) + 1048575 - number % 1048576
FROM
(
    SELECT number,
        toDateTime64('2026-01-01', 3, 'UTC') + toIntervalMillisecond(intDiv(number * {year_ms}, {rows})) AS at
    FROM numbers({start}, {count})
)
"""
_COPIES: Final = "INSERT INTO narrow SELECT * FROM narrow WHERE cityHash64(event_id) % 100 = 0"
_DAY: Final = " WHERE received_at >= '2026-06-15' AND received_at < '2026-06-16'"
_EXACT: Final = {
    "do_not_merge_across_partitions_select_final": 0,
    "defer_partition_pruning_after_final": 1,
    "use_skip_indexes_if_final_exact_mode": 1,
    "optimize_move_to_prewhere_if_final": 0,
}
_TIMES: Final = 3


def cost(server: Server, table: str, where: str = "") -> dict[str, float]:
    """Return what a count by type costs at its best of three times."""
    best: dict[str, float] = {}
    query = f"SELECT event_type, count() FROM {table}{where} GROUP BY event_type ORDER BY event_type FORMAT Null"
    for _ in range(_TIMES):
        began_s = server.cpu_s()
        _, summary = server.ask(query, **dict[str, Any](_EXACT))
        seen = {"cpu_ms": (server.cpu_s() - began_s) * 1e3, "ms": float(summary["elapsed_ns"]) / 1e6}
        if not best or seen["ms"] < best["ms"]:
            best = seen | {"read_rows": float(summary["read_rows"]), "read_bytes": float(summary["read_bytes"])}
    return best


def measure(server: Server, rows: int) -> dict[str, dict[str, float]]:
    """Fill the table, and ask it without FINAL and with it: merged, then with copies that no merge has removed."""
    server.ask(_CREATE)
    for start in range(0, rows, _STEP):
        count = min(_STEP, rows - start)
        server.ask(_FILL.format(year_ms=_YEAR_S * 1000, rows=rows, start=start, count=count))
    server.ask("OPTIMIZE TABLE narrow FINAL")
    found = {
        "without FINAL": cost(server, "narrow"),
        "FINAL, all merged": cost(server, "narrow FINAL"),
        "a day, FINAL, all merged": cost(server, "narrow FINAL", _DAY),
    }
    server.ask("SYSTEM STOP MERGES narrow")
    server.ask(_COPIES)
    found["FINAL, and 1 % of copies beside"] = cost(server, "narrow FINAL")
    found["a day, FINAL, and 1 % of copies beside"] = cost(server, "narrow FINAL", _DAY)
    return found


def main() -> None:
    """Measure, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, default=100.0, help="of rows (%(default)s)")
    rows = int(parser.parse_args().millions * 1e6)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        server = Server(directory)
        try:
            keep("final_price", {"rows": rows, "queries": measure(server, rows)})
        finally:
            server.stop()


if __name__ == "__main__":
    main()
