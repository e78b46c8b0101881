"""Where the commands get their settings: the environment, or the file that `make run` writes for a shell."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from schemas.transport.tls import text_of

RUN_FILE: Final = Path(".headrace/env")
"""What `make run` writes, in the directory in which it runs."""
_PREFIXES: Final = ("CONSUMER_", "INGEST_")
NONE: Final = (
    "there are no settings: the environment has no CONSUMER_ or INGEST_ variable, and there is no"
    f" {RUN_FILE} here; set CONSUMER_BOOTSTRAP_SERVERS and CONSUMER_CLICKHOUSE_URL, or name a file with --env"
)
"""What to tell somebody whose settings are nowhere."""


class Environment(NamedTuple):
    """The settings' variables, and the file that they are from; "" for the environment."""

    variables: dict[str, str]
    path: str


def read(environ: Mapping[str, str], path: str = "") -> Environment:
    """Return the variables: of a file, if one is given; else of the environment; else of RUN_FILE, if that is there.

    Variables of the environment replace those of a file that was given.

    Raises:
        ValueError: the file can't be read, is no list of `export NAME=value`, or has no setting.
    """
    own = {name: text for name, text in environ.items() if name.startswith(_PREFIXES)}
    if path:
        if not (named := _of_file(path)):
            raise ValueError(f"{path}: has no line such as CONSUMER_CLICKHOUSE_URL=http://clickhouse:8123")
        return Environment(named | own, path)
    if own or not RUN_FILE.is_file():
        return Environment(own, "")
    return Environment(_of_file(str(RUN_FILE)), str(RUN_FILE))


def _of_file(path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text_of(path).splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {str(error).lower()}") from error
        for word in words:
            name, equals, value = word.partition("=")
            if equals and name.startswith(_PREFIXES):
                found[name] = value
    return found
