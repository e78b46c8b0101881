"""The launcher of the embedded ClickHouse, over an engine that does not do what it should."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from deploy.embedded.clickhouse import CannotStartError, Directory, Server, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Engine:
    """An engine whose statements end when the test says so, and which opens no port."""

    def __init__(self) -> None:
        self.end = threading.Event()

    def query(self, queryStr: str, output_format: str, *, path: str) -> object:  # noqa: N803  (the library's name)
        """Wait for the end."""
        del queryStr, output_format, path
        self.end.wait(30)
        return None


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    """A data directory, held."""
    directory = Directory(tmp_path)
    with directory.locked():
        yield directory


def test_a_version_that_opens_no_ports_is_one_sentence(directory: Directory) -> None:
    """Its statement fails at once, as one that does not know SYSTEM START LISTEN does; the sentence names it."""
    engine = Engine()
    engine.end.set()
    with pytest.raises(CannotStartError, match=r"^chdb-core \d+\.\d+\.\d+ did not open its ports; .*/log may say why$"):
        Server(engine, directory, [_closed_port()])


def test_a_server_that_ends_by_itself_is_noticed(directory: Directory) -> None:
    """The launcher does not stay behind without it."""
    engine = Engine()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(engine, directory, [listening.getsockname()[1]])
        server.check()
        engine.end.set()
        with pytest.raises(CannotStartError, match="the server ended by itself"):  # noqa: PT012  (until it is noticed)
            while True:
                server.check()
                time.sleep(0)


def test_a_library_that_does_not_load_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another platform, or cut short."""
    (tmp_path / "chdb").mkdir()
    (tmp_path / "chdb" / "_chdb.abi3.so").write_bytes(b"no library")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CannotStartError, match=r"^chdb-core \d+\.\d+\.\d+ cannot be loaded: "):
        load()


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return int(closed.getsockname()[1])
