"""`python -m consumer`: run a worker, or look after its tables."""

import argparse
import os
import sys
import time

from consumer.errors import ConsumerError
from consumer.migrate import create_database, migrate, migrations
from consumer.service import connect, run
from consumer.settings import Settings, load
from consumer.telemetry import start_logging


def main() -> None:
    """Run one command; exit 2 with one sentence when a setting is wrong, 1 when the command can't go on."""
    parser = argparse.ArgumentParser(prog="python -m consumer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="work until SIGTERM: Kafka in, ClickHouse out").set_defaults(call=run)
    commands.add_parser("migrate", help="create or update the database and its tables").set_defaults(call=_migrate)
    arguments = parser.parse_args()
    try:
        settings = load(os.environ)
    except ValueError as error:
        sys.exit(f"consumer: {error}")
    start_logging(settings.log_level)
    try:
        arguments.call(settings)
    except ConsumerError as error:
        sys.exit(f"consumer: {error}")


def _migrate(settings: Settings) -> None:
    create_database(connect(settings, database=""), settings.clickhouse_database, time.sleep)
    for name in migrate(connect(settings), migrations(), time.sleep).now:
        print(name)  # noqa: T201  (the command's answer)


if __name__ == "__main__":
    main()
