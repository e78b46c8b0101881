"""What the table of events costs: inserts, bytes, and analysts' queries, for each way to keep properties and to sort.

    .venv/bin/python -m bench.events_table [inserts] [properties] [keys] --millions 10

Starts ClickHouse's own server (chdb-core) in a temporary directory on a free port, and inserts as the worker does. CPU
is the server process's, user and system, of the best of three runs: other work on the machine makes all of them slower.
"""

import argparse
import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from bench.sample_events import bodies
from consumer.clickhouse.statements import PINNED, insert_statement
from schemas.codec import container, container_header, read_schema, varint
from tests.support.ports import free_port

SAMPLE: Final = 300_000
BLOCK: Final = 50_000
SPAN_MS: Final = 51_840_000  # of the sample; each copy of it is shifted by as much
_LAUNCH: Final = """
import importlib.util, os, sys
so = next(p for p in (os.path.join(x, "chdb", "_chdb.abi3.so") for x in sys.path) if os.path.exists(p))
spec = importlib.util.spec_from_file_location("_chdb", so)
engine = importlib.util.module_from_spec(spec)
spec.loader.exec_module(engine)
os.mkfifo("stop.fifo")
wait = "SELECT * FROM file('%s/stop.fifo', 'LineAsString')" % os.getcwd()
engine.query("SYSTEM START LISTEN HTTP; " + wait, "TSV", path=os.getcwd() + "/data")
"""
_CONFIG: Final = """<clickhouse><http_port>{port}</http_port><listen_host>127.0.0.1</listen_host>
<users_config>users.xml</users_config><logger><level>none</level></logger>
<profiles><default/></profiles><quotas><default/></quotas>
<users><default><password/><networks><ip>127.0.0.1</ip></networks></default></users></clickhouse>"""


class Server:
    """A separate server, and what it has used."""

    def __init__(self, directory: str) -> None:
        port = free_port()
        for name in ("config.xml", "users.xml"):
            Path(directory, name).write_text(_CONFIG.format(port=port))
        self._process = subprocess.Popen([sys.executable, "-c", _LAUNCH], cwd=directory)
        self.url = f"http://127.0.0.1:{port}"
        self._url = f"{self.url}/?"
        for _ in range(300):
            with suppress(OSError):
                urllib.request.urlopen(self._url.replace("?", "ping"), timeout=5).close()
                break
            time.sleep(0.1)

    def ask(self, sql: str, data: bytes | None = None, **settings: Any) -> tuple[str, dict[str, str]]:
        """Return the answer and its summary."""
        settings = settings | {"wait_end_of_query": 1} | ({"query": sql} if data is not None else {})
        request = urllib.request.Request(self._url + urlencode(settings), sql.encode() if data is None else data)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.read().decode().strip(), json.loads(answer.headers["X-ClickHouse-Summary"] or "{}")
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{sql[:200]}: {error.read().decode()[:500]}") from error

    def cpu_s(self) -> float:
        """Return the seconds of CPU that the process has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it; its data is thrown away."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def create(script: str) -> str:
    """Return the statement of a migration that makes the table of events, under the name {table}."""
    text = re.sub(
        r"^--.*\n", "", files("schemas").joinpath("clickhouse", script).read_text("utf-8"), flags=re.MULTILINE
    )
    statement = re.split(r";\s*\n", text)[0].strip()
    return re.sub(r"EXISTS events\w*", "EXISTS {table}", statement, count=1)


NOW: Final = create("0001_events.sql")
_CONSTANTS: Final = {"{topic_id:String}": "'t'", "{leader_epoch:Int32}": "-1", "{reading:UInt32}": "0"}
INSERT: Final = functools.reduce(
    lambda text, item: text.replace(*item), _CONSTANTS.items(), insert_statement("{table}", "event", "events")
)
_ALIAS: Final = re.search(r"    properties  +JSON ALIAS .*\n", NOW)[0]  # type: ignore[index]  # it is there
_TYPED: Final = re.search(r"    _known  .*(?=    _topic  )", NOW, re.DOTALL)[0]  # type: ignore[index]  # it is there
_SKIP: Final = {"type_json_skip_duplicated_paths": 1, "json_type_escape_dots_in_keys": 1}


def stored(kind: str) -> tuple[str, str]:
    """Return table and insert of a JSON column of this type beside the text, without typed columns."""
    insert = INSERT.replace("headers, properties,", f"headers, properties::{kind}, properties,")
    insert = insert.replace("headers, properties_text,", "headers, properties, properties_text,")
    return NOW.replace(_TYPED, "").replace(_ALIAS, f"    properties {kind},\n"), insert


PROPERTIES: Final = {
    "JSON": stored("JSON"),
    "JSON(64)": stored("JSON(max_dynamic_paths=64)"),
    "JSON(0)": stored("JSON(max_dynamic_paths=0)"),
    "text alone": (NOW.replace(_TYPED, ""), INSERT),
    "text, typed (now)": (NOW, INSERT),
    "without bloom filters": (re.sub(r"    INDEX \w+ \w+ TYPE bloom_filter.*\n", "", NOW), INSERT),
}
_NEW_KEY: Final = "ORDER BY toUInt128(event_id)"
KEYS: Final = {
    "type, client, time, id": NOW.replace(
        _NEW_KEY, "ORDER BY (event_type, client_id, UUIDv7ToDateTime(event_id), event_id)"
    ),
    "time, id": NOW.replace(_NEW_KEY, "ORDER BY (UUIDv7ToDateTime(event_id), event_id)"),
    "id (now)": NOW,
}


def payloads() -> list[bytes]:
    """Return the sample as containers of the worker's."""
    head = container_header(read_schema("event"))
    rows = [
        varint(number % 4) + varint(number) + varint(at_ms) + body
        for number, (at_ms, body) in enumerate(bodies(SAMPLE, SPAN_MS))
    ]
    return [container(head, rows[start : start + BLOCK]) for start in range(0, SAMPLE, BLOCK)]


def fill(  # noqa: PLR0913  (a table, its statements, its rows)
    server: Server, table: str, ddl: str, insert: str, blocks: Iterable[bytes], *, times: int = 3
) -> float:
    """Make a table with the sample in it; return microseconds of CPU a row, of the best of so many times."""
    best = float("inf")
    for _ in range(times):
        server.ask(f"DROP TABLE IF EXISTS {table} SYNC")
        server.ask(ddl.replace("{table}", table))
        server.ask(f"SYSTEM STOP MERGES {table}")
        began_s = server.cpu_s()
        for block in blocks:
            server.ask(insert.replace("{table}", table), block, **PINNED | _SKIP)
        best = min(best, (server.cpu_s() - began_s) / SAMPLE * 1e6)
    server.ask(f"SYSTEM START MERGES {table}")
    return best


def grow(server: Server, table: str, source: str, copies: int, event_id: str) -> None:
    """Add copies of a sample, each of a later time, with other visitors and ids."""
    (names, _) = server.ask(f"SELECT name FROM system.columns WHERE table = '{table}' AND default_kind = '' FORMAT TSV")
    columns = names.split()
    for copy in range(copies):
        shift = f"toIntervalMillisecond({copy * SPAN_MS})"
        changed = {name: f"{name} + {shift} AS n_{name}" for name in ("received_at", "occurred_at", "_timestamp")}
        changed |= {"event_id": event_id, "anon_id": f"lower(hex(sipHash128(anon_id, {copy})))"}
        changed |= {"_offset": f"_offset + {copy * SAMPLE}"}
        time_hex = f"leftPad(lower(hex(toUInt64(toUnixTimestamp64Milli(received_at + {shift})))), 12, '0') AS h"
        server.ask(
            f"INSERT INTO {table} ({', '.join(columns)}) WITH {time_hex}, lower(hex(sipHash128(event_id, {copy}))) AS r"
            f" SELECT {', '.join(changed.get(name, name) for name in columns)} FROM {source} ORDER BY _offset",
            max_insert_threads=1,
            **dict[str, Any](_SKIP),
        )


V7: Final = (
    "toUUID(concat(left(h, 8), '-', right(h, 4), '-7', left(r, 3), '-8', substring(r, 4, 3), '-', substring(r, 7, 12)))"
)
V4: Final = "generateUUIDv4()"


def size(server: Server, table: str) -> float:
    """Return bytes on disk a row, merged."""
    server.ask(f"OPTIMIZE TABLE {table} FINAL")
    (text, _) = server.ask(
        f"SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts WHERE table = '{table}' AND active"
    )
    return float(text)


def measure(server: Server, label: str, sql: str, **settings: Any) -> None:
    """Print what a query costs: the best of three times, or of once if it is slow."""
    best, answer, summary = (float("inf"), 0.0), "", dict[str, str]()
    for _ in range(3):
        began_s, cpu_s = time.perf_counter(), server.cpu_s()
        answer, summary = server.ask(sql, **settings)
        best = min(best, (time.perf_counter() - began_s, server.cpu_s() - cpu_s))
        if best[0] > 5:  # as long as that, once tells enough
            break
    read = f"{int(summary.get('read_rows', 0)):>10} rows {int(summary.get('read_bytes', 0)) / 1e6:8.1f} MB"
    print(f"  {label:34} {best[0] * 1e3:8.0f} ms {best[1] * 1e3:8.0f} ms CPU {read}  {answer[:24]!r}", flush=True)


def inserts(server: Server, _: argparse.Namespace) -> None:
    """Compare what inserts and disk cost for each way to keep properties."""
    blocks = payloads()
    for number, (name, (ddl, insert)) in enumerate(PROPERTIES.items()):
        cost_us = fill(server, f"s{number}", ddl, insert, blocks)
        print(f"{name:14} insert {cost_us:5.2f} us/row, {size(server, f's{number}'):6.1f} bytes/row", flush=True)


def properties(server: Server, asked: argparse.Namespace) -> None:
    """Compare what analysts' queries cost for each way to keep properties."""
    blocks = payloads()
    for name in asked.way or ("JSON(0)", "text, typed (now)"):
        ddl, insert = PROPERTIES[name]
        fill(server, "sample", ddl, insert, blocks, times=1)
        server.ask(ddl.replace("{table}", "large"))
        grow(server, "large", "sample", int(asked.millions * 1e6 / SAMPLE), V7)
        (rows, _) = server.ask("SELECT count() FROM large")
        print(f"{name}, {rows} rows", flush=True)
        _ask_for_properties(server, "large", is_text=name == "text, typed (now)")
        server.ask("DROP TABLE large SYNC")


def _ask_for_properties(server: Server, table: str, *, is_text: bool) -> None:
    one = f"(SELECT event_id FROM {table} WHERE event_type = 'PURCHASE' LIMIT 1)"
    (event_id, _) = server.ask(one[1:-1])
    forms: dict[str, tuple[str, dict[str, int]]] = {
        "JSONExtract": ("JSONExtract(properties_text, '{}', 'Nullable({})')", {}),
        "typed": ("{}", {}),
    }
    forms = (forms if is_text else {}) | {"properties.x": ("properties.{}::Nullable({})", _SKIP)}
    columns = {"scrollDepth": "scroll_depth", "utm.source": "utm_source"}
    for form, (text, settings) in forms.items():
        names = [
            columns.get(name, name) if form == "typed" else name for name in ("amount", "scrollDepth", "utm.source")
        ]
        amount, depth, source = (text.format(name, "Float64") for name in names)
        source = text.format("`utm%2Esource`" if form == "properties.x" else names[2], "String")
        for label, sql in {
            "sum": f"SELECT sum({amount}) FROM {table}",
            "sum of purchases": f"SELECT sum({amount}) FROM {table} WHERE event_type = 'PURCHASE'",
            "filter": f"SELECT count() FROM {table} WHERE {depth} > 50",
            "count by": f"SELECT {source} AS s, count() FROM {table} GROUP BY s ORDER BY 2 DESC LIMIT 1",
            "row by id": f"SELECT {amount}, * FROM {table} WHERE event_id = '{event_id}' FORMAT Null",
        }.items():
            measure(server, f"{form}: {label}", sql, **settings)


def keys(server: Server, asked: argparse.Namespace) -> None:
    """Compare sorting keys, for the collector's ids and for random ones."""
    fill(server, "sample", NOW, INSERT, payloads(), times=1)
    final = "FINAL WHERE"
    day = "received_at >= '2026-01-04' AND received_at < '2026-01-05'"
    hour = "occurred_at >= '2026-01-04 10:00:00' AND occurred_at < '2026-01-04 11:00:00'"
    for kind, event_id in {"v7": V7, "v4": V4}.items():
        for number, (name, ddl) in enumerate(KEYS.items()):
            table = f"k{number}_{kind}"
            server.ask(ddl.replace("{table}", table))
            grow(server, table, "sample", int(asked.millions * 1e6 / SAMPLE), event_id)
            (facts, _) = server.ask(f"SELECT count(), sum(rows) FROM system.parts WHERE table = '{table}' AND active")
            (one, _) = server.ask(f"SELECT event_id FROM {table} WHERE {day} LIMIT 1")
            print(f"{kind}, sorted by {name}: parts and rows {facts.split()}")
            for label, sql in {
                "all, by type": f"SELECT event_type, count() FROM {table} FINAL GROUP BY 1 ORDER BY 1",
                "a day, by type": f"SELECT event_type, count() FROM {table} {final} {day} GROUP BY 1 ORDER BY 1",
                "an hour, every column": f"SELECT * FROM {table} {final} {hour} FORMAT Null",
                "row by id": f"SELECT * FROM {table} {final} event_id = '{one}' FORMAT Null",
                "purchases": f"SELECT uniq(anon_id) FROM {table} {final} event_type = 'PURCHASE'",
            }.items():
                measure(server, label, sql)
            print(f"  {size(server, table):.1f} bytes/row merged", flush=True)
            server.ask(f"DROP TABLE {table} SYNC")


def main() -> None:
    """Run what was asked for, or all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="inserts, properties, keys; default: all")
    parser.add_argument("--millions", type=float, default=3.0, help="of rows to ask (default: 3)")
    parser.add_argument("--way", action="append", choices=PROPERTIES, help="to keep properties (default: three)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        server = Server(directory)
        try:
            for run in (inserts, properties, keys):
                if not arguments.what or run.__name__ in arguments.what:
                    run(server, arguments)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
