"""`RegistrySchemas` over HTTP: what it keeps, what it calls away, and what it never waits for."""

import base64
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.codec import local_schema_id, read_schema
from schemas.registry import (
    LocalSchemas,
    NewerSchemaError,
    RegistryAwayError,
    RegistrySchemas,
    UnknownSchemaError,
)
from schemas.transport.access import Access
from tests.support.proxy import Answer, BlackHole, DelayAnswer, FaultProxy, Mode, Pass, Refuse
from tests.support.registry import SchemaRegistry

EVENT = read_schema("event")
OTHER = '{"type": "record", "name": "Other", "fields": [{"name": "a", "type": "string"}]}'
TIMEOUT_S = 60.0
_SHORT_S = 0.3  # for who never answers
_HANGING_S = 4
REFUSALS = [
    Refuse(),
    Answer(500, body=b'{"error_code": 50001, "message": "Error in the backend datastore"}'),
    Answer(503),
    Answer(429),
    Answer(401, body=b'{"error_code": 401, "message": "Unauthorized"}'),
    Answer(403),
    Answer(404, body=b"<html>default backend - 404</html>"),
    Answer(404, body=b'{"error_code": 404, "message": "HTTP 404 Not Found"}'),
    Answer(200, body=b"<html>Sign in to the network</html>"),
    Answer(200, body=b"{}"),
    Answer(200, body=b'{"schema":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    Answer(200),
    BlackHole(),
]


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    """A registry without schemas."""
    with SchemaRegistry() as running:
        yield running


@pytest.fixture
def proxy(registry: SchemaRegistry) -> Iterator[FaultProxy]:
    """What stands before it."""
    with FaultProxy("127.0.0.1", registry.port) as running:
        yield running


def schemas(url: str, directory: Path, timeout_s: float = TIMEOUT_S) -> RegistrySchemas:
    """Return a service's schemas."""
    return RegistrySchemas(Access(url), directory, "events", timeout_s)


def test_what_was_answered_once_needs_no_registry(registry: SchemaRegistry, proxy: FaultProxy, tmp_path: Path) -> None:
    """Another process with the same directory starts and reads while nobody answers."""
    first = schemas(proxy.url, tmp_path)
    schema_id, other_id = first.id_of(EVENT), registry.add(OTHER)
    assert first.schema_of(other_id) == OTHER
    proxy.set(Refuse())
    second = schemas(proxy.url, tmp_path)

    assert second.id_of(EVENT) == schema_id == registry.subject("events-value")[0]
    assert (second.schema_of(schema_id), second.schema_of(other_id)) == (EVENT, OTHER)


@pytest.mark.parametrize("mode", REFUSALS, ids=lambda mode: f"{type(mode).__name__}{getattr(mode, 'status', '')}")
def test_whatever_is_no_answer_of_a_registry_is_an_outage(
    registry: SchemaRegistry, proxy: FaultProxy, tmp_path: Path, mode: Mode
) -> None:
    """It does not say that there is no such schema; and when the registry is well, it is asked again."""
    asker = schemas(proxy.url, tmp_path, _SHORT_S if isinstance(mode, BlackHole) else TIMEOUT_S)
    schema_id = registry.add(OTHER)
    proxy.set(mode)
    with pytest.raises(RegistryAwayError):
        asker.id_of(EVENT)
    with pytest.raises(RegistryAwayError):
        asker.schema_of(schema_id)
    proxy.set(Pass())

    deadline_s = time.monotonic() + 60
    while True:
        try:
            assert asker.schema_of(schema_id) == OTHER
            assert asker.id_of(EVENT) in registry.texts
            break
        except RegistryAwayError:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)


def test_an_id_that_the_registry_does_not_have_is_unknown_until_it_has(
    registry: SchemaRegistry, tmp_path: Path
) -> None:
    """It says so with its own code; who registers the schema later is heard a little later."""
    asker, soon = schemas(registry.url, tmp_path / "a"), schemas(registry.url, tmp_path / "b")
    soon.unknown_s = 0.0
    for _ in range(5):
        with pytest.raises(UnknownSchemaError, match="schema id 1 is not in the registry"):
            asker.schema_of(1)
    assert registry.asked == {"/schemas/ids/1": 1}
    with pytest.raises(UnknownSchemaError):
        soon.schema_of(1)
    registry.add(OTHER)

    assert soon.schema_of(1) == OTHER
    with pytest.raises(UnknownSchemaError):
        asker.schema_of(1)


def test_thousands_of_unknown_ids_are_asked_for_over_one_connection(
    registry: SchemaRegistry, proxy: FaultProxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody's junk on the topic has as many ids as records; none of them is a line in the log."""
    asker = schemas(proxy.url, tmp_path)
    before = proxy.connections
    with caplog.at_level(logging.WARNING):
        for schema_id in (*range(1, 400), *range(1, 400)):
            with pytest.raises(UnknownSchemaError):
                asker.schema_of(schema_id)

    assert registry.asked.total() == 399
    assert proxy.connections - before <= 2
    assert not caplog.records


def test_threads_that_ask_the_same_at_once_ask_once(
    registry: SchemaRegistry, proxy: FaultProxy, tmp_path: Path
) -> None:
    """All partitions of a worker begin with the same id."""
    asker, schema_id = schemas(proxy.url, tmp_path), registry.add(OTHER)
    proxy.set(DelayAnswer(0.1))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(asker.schema_of, [schema_id] * 4)) == [OTHER] * 4

    assert registry.asked == {f"/schemas/ids/{schema_id}": 1}


def test_an_id_that_no_registry_can_give_is_unknown_without_asking(registry: SchemaRegistry, tmp_path: Path) -> None:
    """Ids are signed there; who asks for more gets the 404 of a missing path, which would hold the record for ever."""
    with pytest.raises(UnknownSchemaError):
        schemas(registry.url, tmp_path).schema_of(2**31)
    assert not registry.asked


def test_a_hanging_registry_holds_one_thread_and_only_for_its_timeout(
    registry: SchemaRegistry, proxy: FaultProxy, tmp_path: Path
) -> None:
    """Others that ask give up soon, those that know need not wait, and after a failure nobody asks for a while."""
    asker = RegistrySchemas(Access(proxy.url), tmp_path, "events", timeout_s=_HANGING_S)
    known, unknown = asker.id_of(EVENT), registry.add(OTHER)
    proxy.set(BlackHole())
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(asker.schema_of, unknown)
        proxy.await_count(BlackHole, 1)
        assert asker.schema_of(known) == EVENT
        assert not first.done()
        others = [pool.submit(asker.schema_of, unknown + number) for number in range(4)]
        assert all(isinstance(other.exception(), RegistryAwayError) for other in others)
        assert not first.done()
        assert isinstance(first.exception(), RegistryAwayError)
    with pytest.raises(RegistryAwayError, match="a moment ago"):
        asker.schema_of(unknown)
    assert proxy.count(BlackHole) == 2  # one thread's question, and the client's second try


def test_records_from_before_the_registry_stay_readable(registry: SchemaRegistry, tmp_path: Path) -> None:
    """Their ids are derived from the files, and the registry is not asked about such ids, known or not."""
    reader = schemas(registry.url, tmp_path)

    assert reader.schema_of(local_schema_id(EVENT)) == EVENT
    with pytest.raises(NewerSchemaError):
        reader.schema_of(2**30 + 5)
    assert not registry.asked


def test_without_a_registry_its_ids_are_unknown() -> None:
    """So workers are told of a registry before the collectors are."""
    with pytest.raises(UnknownSchemaError):
        LocalSchemas().schema_of(1)


def test_a_registry_whose_ids_look_derived_is_refused(tmp_path: Path) -> None:
    """Workers would take them for those of a later release and hold every record: the collector does not start."""
    with SchemaRegistry(first_id=2**30) as registry, pytest.raises(ValueError, match="1073741824 is in the range"):
        schemas(registry.url, tmp_path).id_of(EVENT)
    assert list(tmp_path.iterdir()) == []


def test_a_schema_that_the_registry_refuses_stops_the_start(registry: SchemaRegistry, tmp_path: Path) -> None:
    """Waiting can't help: its compatibility setting forbids the change."""
    registry.takes_new = False

    with pytest.raises(ValueError, match=r"refuses the schema for events-value: .*incompatible"):
        schemas(registry.url, tmp_path).id_of(EVENT)


def test_user_and_password_reach_the_registry_and_no_log(
    registry: SchemaRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The HTTP library logs what it asks for; a password may hold every character."""
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "password"
    file.write_text("p@ss:S3CRET\n")
    asker = RegistrySchemas(Access(registry.url, "user", str(file)), tmp_path, "events", TIMEOUT_S)
    assert asker.schema_of(asker.id_of(EVENT)) == EVENT

    assert registry.credentials == {"Basic " + base64.b64encode(b"user:p@ss:S3CRET").decode()}
    assert "HTTP Request" in caplog.text
    assert "S3CRET" not in caplog.text
