"""`headrace`: one command for everything that people run here; `python -m headrace` is the same.

`headrace ingest …`, `headrace consumer …` and `headrace run …` are `python -m ingest`, `python -m consumer` and
`python -m deploy.embedded`. Each command is loaded when it is called: an image has the libraries of one service only.
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final, NoReturn

from headrace import environment
from headrace.terminal import plain
from schemas.transport.librdkafka_log import LIBRARY

_WRONG: Final = 2
_UNKNOWN: Final = 3
_SIGINT_CODE: Final = 130
_SERVICES: Final[Mapping[str, tuple[str, str]]] = {
    "ingest": ("ingest.__main__", "the ingress, and its commands: key, spool"),
    "consumer": ("consumer.__main__", "a worker (`run`), and its commands: migrate, audit, lag, replay, …"),
    "run": ("deploy.embedded.__main__", "the whole pipeline on this machine, as `make run`"),
}
_COMMANDS: Final[Mapping[str, str]] = {
    "find": "say where an event is",
    "tail": "show events as they arrive",
    "top": "show lag, rates and freshness, live",
    "doctor": "say which guarantees hold here and now",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence and exit code 2; `meant` is the command, if it is known."""

    meant = ""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(_WRONG, f"headrace: {message}; see `{self.meant or self.prog} --help`\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; exit with its code. A mistake is one sentence."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in _SERVICES:
        _load(words[0], _SERVICES[words[0]][0]).main(words[1:])
        return
    arguments = parser_of(words).parse_args(words)
    try:
        given = environment.read(os.environ, arguments.env)
        if given.path and not arguments.env:
            print(f"headrace: settings are from {given.path}", file=sys.stderr)
        elif not given.variables:
            print(f"headrace: {environment.NONE}", file=sys.stderr)
        code = _call(arguments, given)
    except ValueError as error:
        _say(error)
        code = _WRONG
    except KeyboardInterrupt:
        code = _SIGINT_CODE
    except BrokenPipeError:  # the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:  # 1 would be an answer
        _say(error)
        code = _UNKNOWN
    sys.exit(code)


def _call(arguments: argparse.Namespace, given: environment.Environment) -> int:
    from consumer.errors import ConsumerError, Misconfigured  # noqa: PLC0415  (an image of the ingress has no worker)
    from headrace.services import Services  # noqa: PLC0415  (as above)

    _be_quiet(given.variables)
    try:
        code: int = arguments.call(Services(given), arguments)
    except ConsumerError as error:
        _say(error)
        return _WRONG if isinstance(error, Misconfigured) else _UNKNOWN
    return code


def _be_quiet(variables: Mapping[str, str]) -> None:
    """Let no library write between a command's lines, unless CONSUMER_LOG_LEVEL is DEBUG."""
    is_wanted = variables.get("CONSUMER_LOG_LEVEL") == "DEBUG"
    logging.basicConfig(level=logging.DEBUG if is_wanted else logging.CRITICAL, force=True)
    logging.getLogger(LIBRARY).setLevel(logging.DEBUG if is_wanted else logging.CRITICAL + 1)
    for handler in logging.getLogger().handlers:  # a logger with a level passes the root
        handler.setLevel(logging.DEBUG if is_wanted else logging.CRITICAL)


def _say(error: Exception) -> None:
    print(f"headrace: {plain(str(error))}", file=sys.stderr)


def parser_of(words: Sequence[str]) -> Parser:
    """Return the parser of all commands; only the one that is called is loaded."""
    made = Parser(prog="headrace", description="Event collection: HTTP in, Kafka, ClickHouse.", allow_abbrev=False)
    made.add_argument("--version", action="version", version=f"headrace {version('headrace')}")
    if words and words[0] in _COMMANDS:
        made.meant = f"headrace {words[0]}"
    found = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, summary) in _SERVICES.items():
        found.add_parser(name, help=summary, add_help=False)
    for name, summary in _COMMANDS.items():
        loaded = _load(name, f"headrace.{name}") if words and words[0] == name else None
        form = argparse.RawDescriptionHelpFormatter
        about = loaded.ABOUT if loaded else summary
        parser = found.add_parser(name, help=summary, description=about, formatter_class=form, allow_abbrev=False)
        parser.add_argument(
            "--env", default="", metavar="FILE", help="read settings from a file, such as .headrace/env"
        )
        if loaded:
            loaded.add(parser)
    return made


def _load(name: str, module: str) -> Any:
    """Return a command's module.

    Exits with one sentence when its libraries are not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        print(f"headrace: `{name}` is not installed here: there is no {error.name}", file=sys.stderr)
        sys.exit(_WRONG)


if __name__ == "__main__":
    main()
