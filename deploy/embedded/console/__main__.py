"""Serves the console until SIGTERM; the launcher starts it with the addresses of the running parts."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from deploy.embedded.console.database import Database
from deploy.embedded.console.follow import Follower
from deploy.embedded.console.live import Live, Sources
from deploy.embedded.console.questions import Question, read_questions
from deploy.embedded.console.routes import Parts, Routes
from deploy.embedded.console.server import HOST, ConsoleServer
from deploy.embedded.console.traffic import Traffic
from schemas.event import open_catalogue

_PAGE: Final = Path(__file__).resolve().parents[3] / "docs" / "ANALYTICS.md"
_LOOK_S: Final = 3.0  # a page that waits longer for the live part should say that ClickHouse is away
# Only a shutdown from another thread waits for this; a signal ends the waiting at once.
_IDLE_S: Final = 600.0


def main(argv: Sequence[str] | None = None) -> None:
    """Serve; exit with one sentence when the port is taken."""
    options = _options(argv)
    signal.signal(signal.SIGTERM, _end)
    database = Database(options.clickhouse_url)
    traffic = Traffic(options.ingest_url, options.logs_dir / "traffic.log")
    parts = Parts(
        Live(Sources(options.metrics_url, Database(options.clickhouse_url, _LOOK_S), options.workers_dir), traffic),
        Follower(options.ingest_url, database),
        traffic,
        database,
        _questions(),
        open_catalogue(options.catalogue),
    )
    try:
        server = ConsoleServer(options.port, Routes(parts))
    except OSError as error:
        sys.exit(f"console: cannot listen on {HOST}:{options.port}: {error.strerror}")
    print(f"ready http://{HOST}:{options.port}", flush=True)
    try:
        server.serve_forever(_IDLE_S)
    finally:
        traffic.stop()


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.embedded.console", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="where to listen, on 127.0.0.1")
    parser.add_argument("--ingest-url", required=True, help="the collector")
    parser.add_argument("--metrics-url", required=True, help="its metrics")
    parser.add_argument("--clickhouse-url", required=True, help="ClickHouse's HTTP interface")
    parser.add_argument("--workers-dir", type=Path, required=True, help="one file per worker, with its address")
    parser.add_argument("--logs-dir", type=Path, required=True, help="where the log of the traffic goes")
    parser.add_argument("--catalogue", default="", help="an operator's catalogue, when there is one")
    return parser.parse_args(argv)


def _questions() -> tuple[Question, ...]:
    return read_questions(_PAGE.read_text("utf-8")) if _PAGE.is_file() else ()


def _end(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
