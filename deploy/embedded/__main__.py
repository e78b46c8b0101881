"""Runs the whole pipeline on this machine, without containers: `python -m deploy.embedded`.

Starts the broker, ClickHouse's server, topics, tables, one ingress and the workers; production runs the same
processes, except for the broker, and with --kafka apache that too. The parts stop in the order in which an event passes
them. Each one stops when it has passed on everything, so that all accepted events are in the tables at the end.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from deploy.embedded.environment import Options
from deploy.embedded.launcher import CannotStartError, run
from schemas.arguments import whole_number

_PORT_MAX: Final = 65_535
_WORKERS_MAX: Final = 64  # more workers than partitions would be idle


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"headrace: {message}\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Run until Ctrl-C or SIGTERM.

    Exits with one sentence: code 2 when an option is wrong, 1 when a part can't start or ended by itself.
    """
    parser = Parser(prog="python -m deploy.embedded", description="headrace on one machine", allow_abbrev=False)
    port = whole_number(1, _PORT_MAX)
    parser.add_argument("--http-port", type=port, default=8080, help="the collector (%(default)s)")
    parser.add_argument("--clickhouse-port", type=port, default=8123, help="ClickHouse's HTTP interface (%(default)s)")
    parser.add_argument(
        "--clickhouse-native-port", type=port, default=9000, help="ClickHouse's native interface (%(default)s)"
    )
    parser.add_argument("--kafka-port", type=port, default=9092, help="the broker (%(default)s)")
    parser.add_argument("--data-dir", default=".headrace", help="tables, spool and logs (%(default)s)")
    workers = whole_number(0, _WORKERS_MAX)
    parser.add_argument("--workers", type=workers, default=1, help="consumer workers (%(default)s)")
    parser.add_argument(
        "--console-port", type=whole_number(0, _PORT_MAX), default=8090, help="the console; 0: none (%(default)s)"
    )
    parser.add_argument(
        "--kafka",
        choices=("embedded", "apache"),
        default="embedded",
        help="embedded: in memory; apache: Apache Kafka, on the disk, needs Java 17 and Maven (%(default)s)",
    )
    options = Options(**vars(parser.parse_args(argv)))
    named = {name: port for name, port in vars(parser.parse_args(argv)).items() if name.endswith("_port") and port}
    if len(set(named.values())) < len(named):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in named)
        parser.error(f"the ports ({names}) must all be different")
    if fault := _unusable(options.data_dir):
        parser.error(f"argument --data-dir: {fault}")
    try:
        run(options)
    except CannotStartError as error:
        sys.exit(f"headrace: {error}")


def _unusable(path: str) -> str:
    """Return why a directory can't be created or written to; "" when it can."""
    if not path:
        return "must not be empty"
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return ""
    except OSError as error:
        return f"{path}: {error.strerror}"


if __name__ == "__main__":
    main()
