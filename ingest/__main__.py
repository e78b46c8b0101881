"""`python -m ingest`: checks the settings, then becomes gunicorn. `key` and `spool` are for operators."""

import argparse
import errno
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from ingest.access.clients import make_key, read_keys
from ingest.arguments import Parser
from ingest.commands import add_spool
from ingest.durability import kafka_properties
from ingest.settings import PREFIX, Settings, load, registry_access, store_access
from schemas.event import open_catalogue

_WRONG_SETTING = 2


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; a wrong setting is one sentence and exit code 2."""
    parser = Parser(prog="python -m ingest", description="The ingress of headrace.", allow_abbrev=False)
    parser.set_defaults(call=_serve)
    commands = parser.add_subparsers(title="commands; without one, serve")
    key = commands.add_parser("key", help="make a key, and its hash for the client registry")
    key.set_defaults(call=_print_key)
    add_spool(commands)
    given = parser.parse_args(argv)
    given.call(given)


def _serve(_: argparse.Namespace) -> None:
    """Replace this process with gunicorn."""
    try:
        settings = load(os.environ)
        _check_files(settings)
        _check_address(settings)
    except ValueError as error:
        print(f"ingest: {error}", file=sys.stderr)  # noqa: T201  (logging is gunicorn's to start)
        sys.exit(_WRONG_SETTING)
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "--config", settings.gunicorn_config])  # noqa: S606  (our own interpreter)


def _check_files(settings: Settings) -> None:
    """Check the files that every worker needs, while an operator is watching."""
    for name in ("gunicorn_config", "clients_file", "catalogue_file"):
        path = getattr(settings, name)
        if path and not Path(path).is_file():
            raise ValueError(f"{PREFIX}{name.upper()}: there is no file {path}")
    for name, read in (("clients_file", read_keys), ("catalogue_file", open_catalogue)):
        path = getattr(settings, name)
        if path:
            try:
                read(path)
            except ValueError as error:
                raise ValueError(f"{PREFIX}{name.upper()}: {error}") from error
    for access in (registry_access(settings), store_access(settings)):
        access.check_files()
    kafka_properties(settings)


def _check_address(settings: Settings) -> None:
    """Check that the address belongs to this machine; a port in use may become free in a moment."""
    host = settings.host
    for port in filter(None, (settings.port, settings.operations_port)):
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ValueError(f"{PREFIX}HOST: {host}:{port} can't be listened on: {error.strerror}") from None
        except UnicodeError:
            raise ValueError(f"{PREFIX}HOST: {host} is no host") from None


def _print_key(_: argparse.Namespace) -> None:
    key, stored = make_key()
    print(f"key   {key}   (give it to the client; it is stored nowhere)")  # noqa: T201  (the command's answer)
    print(f"hash  {stored}   (for the client registry)")  # noqa: T201  (as above)


if __name__ == "__main__":
    main()
