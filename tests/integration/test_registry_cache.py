"""What a registry answered, on disk: shared by services, never half written, never believed of another registry."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.codec import read_schema
from schemas.registry import RegistrySchemas
from schemas.registry_cache import Answers
from schemas.transport.access import Access
from tests.support.registry import SchemaRegistry

EVENT = read_schema("event")
OTHER = '{"type": "record", "name": "Other", "fields": [{"name": "a", "type": "string"}]}'


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    """A registry without schemas."""
    with SchemaRegistry() as running:
        yield running


def schemas(url: str, directory: Path) -> RegistrySchemas:
    """Return a service's schemas."""
    return RegistrySchemas(Access(url), directory, "events")


def files_of(directory: Path) -> list[Path]:
    """Return all files of a cache."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_services_that_share_a_directory_learn_from_each_other(registry: SchemaRegistry, tmp_path: Path) -> None:
    """Also from one that started later: what the collector registers, the worker need not ask for."""
    worker, collector = schemas(registry.url, tmp_path), schemas(registry.url, tmp_path)

    assert worker.schema_of(collector.id_of(EVENT)) == EVENT
    assert registry.asked == {"/subjects/events-value/versions": 1}


@pytest.mark.parametrize("half", [b"", b'"{\\"type\\": \\"rec', b"\x00" * 64, b"{}", b"[1", b"null", b"\xff"])
def test_a_broken_answer_on_disk_is_none(registry: SchemaRegistry, tmp_path: Path, half: bytes) -> None:
    """What a loss of power leaves of a file: the registry is asked, and the file is whole again."""
    schema_id = schemas(registry.url, tmp_path).id_of(EVENT)
    whole = {path: path.read_bytes() for path in files_of(tmp_path)}
    for path in whole:
        path.write_bytes(half)
    again = schemas(registry.url, tmp_path)

    assert (again.schema_of(schema_id), again.id_of(EVENT)) == (EVENT, schema_id)
    assert {path: path.read_bytes() for path in files_of(tmp_path)} == whole
    assert len(whole) == 2


def test_without_a_directory_to_write_to_it_works_all_the_same(
    registry: SchemaRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The cache is a convenience: a disk that is full or read-only stops no service, and is told."""
    (tmp_path / "file").write_text("in the way")
    service = schemas(registry.url, tmp_path / "file")

    assert service.schema_of(service.id_of(EVENT)) == EVENT
    assert "schema cache can't be written" in caplog.text


def test_many_writers_at_once_never_leave_half_an_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Threads stand for processes of one pid, as in containers that share a volume: readers see whole answers only."""
    caplog.set_level(logging.WARNING)
    long, stop = "x" * 200_000, threading.Event()
    writers = [Answers(tmp_path) for _ in range(4)]

    def write(writer: Answers) -> None:
        for number in range(40):
            writer.write("schema-1", long)
            writer.write(f"schema-{number}-{id(writer)}", number)

    def read() -> int:
        halves = 0
        while not stop.is_set():
            halves += (tmp_path / "schema-1.json").exists() and Answers(tmp_path).read("schema-1") != long
        return halves

    with ThreadPoolExecutor(5) as pool:
        reading = pool.submit(read)
        list(pool.map(write, writers))
        stop.set()
        assert reading.result() == 0

    assert len(files_of(tmp_path)) == 1 + 4 * 40
    assert not caplog.records


def test_another_registrys_answers_are_not_believed(registry: SchemaRegistry, tmp_path: Path) -> None:
    """The same id means another schema there; a new password means the same registry."""
    assert schemas(registry.url, tmp_path).id_of(EVENT) == 1
    with SchemaRegistry() as other:
        other.add(OTHER)
        assert schemas(other.url, tmp_path).schema_of(1) == OTHER
        assert schemas(other.url, tmp_path).id_of(EVENT) == 2
    file = tmp_path / "password"
    file.write_text("secret")
    with_password = RegistrySchemas(Access(registry.url, "user", str(file)), tmp_path, "events")

    assert with_password.schema_of(1) == EVENT
    assert registry.asked == {"/subjects/events-value/versions": 1}
