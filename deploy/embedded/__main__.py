"""The whole pipeline on this machine, without containers: `python -m deploy.embedded`.

Starts the broker, ClickHouse's server, topics, tables, one ingress and the workers; each is a process that production
runs too, except for the broker. The parts stop in the order of the events' way, each when
the one before it has passed on everything, so that what was accepted is in the tables at the end.
"""

import argparse
import sys

from deploy.embedded.pipeline import CannotStartError, Options, run


def main() -> None:
    """Run until Ctrl-C or SIGTERM; exit 1 with one sentence when something can't start, or did not stay."""
    parser = argparse.ArgumentParser(prog="python -m deploy.embedded", description="headrace on one machine")
    parser.add_argument("--http-port", type=int, default=8080, help="the collector (%(default)s)")
    parser.add_argument("--clickhouse-port", type=int, default=8123, help="ClickHouse's HTTP interface (%(default)s)")
    parser.add_argument(
        "--clickhouse-native-port", type=int, default=9000, help="ClickHouse's native interface (%(default)s)"
    )
    parser.add_argument("--kafka-port", type=int, default=9092, help="the broker (%(default)s)")
    parser.add_argument("--data-dir", default=".headrace", help="tables, spool and logs (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="consumer workers (%(default)s)")
    arguments = parser.parse_args()
    try:
        run(Options(**vars(arguments)))
    except CannotStartError as error:
        sys.exit(f"headrace: {error}")


if __name__ == "__main__":
    main()
