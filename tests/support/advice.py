"""Does what a sentence of ours says, word for word: whatever stands in backquotes is run as it stands."""

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Final

from consumer.__main__ import parser
from consumer.clickhouse.client import Connection
from consumer.settings import load
from tests.support.kafka_tools import run_tool

RUN: Final = "python -m consumer run"
_COMMAND: Final = re.compile(r"`([^`]+)`")
_CONSUMER: Final = "python -m consumer "


def follow(
    sentence: str,
    environ: Mapping[str, str],
    database: Connection,
    only: str = "",
    work: Callable[[], object] = lambda: None,
) -> list[str]:
    """Run the commands and statements of a sentence, one after the other; return them.

    Args:
        sentence: ours.
        environ: of the commands; they run in this process.
        database: takes the statements.
        only: of several ways the one that contains this.
        work: starts a worker.

    Raises:
        AssertionError: there is nothing to run, or a command fails.
        ConsumerError, RuntimeError: one can't be run.
    """
    lines = [line for line in _COMMAND.findall(sentence) if only in line]
    assert lines, f"nothing to run in: {sentence}"
    for line in lines:
        if line == RUN:
            work()
        elif line.startswith(_CONSUMER):
            arguments = parser().parse_args(shlex.split(line.removeprefix(_CONSUMER)))
            assert arguments.call(load(environ), arguments) == 0, line
        elif line.startswith("kafka-"):
            run_tool(line)
        else:
            database.command(line)
    return lines
