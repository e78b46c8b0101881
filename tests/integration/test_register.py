"""`consumer register`: a registry learns the ids that records have without one, and viewers can read topics."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.__main__ import parser
from consumer.errors import Fatal, Misconfigured, Transient
from consumer.settings import load
from headrace.checks import Level
from headrace.checks_registry import registry_checks
from schemas.codec import local_schema_id, read_schema
from schemas.registry import LocalSchemas, RegistrySchemas
from schemas.transport.access import Access
from tests.support.ports import free_port
from tests.support.registry import SchemaRegistry

EVENT = read_schema("event")


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    """A registry without schemas."""
    with SchemaRegistry() as running:
        yield running


def register(url: str) -> None:
    """Run the command."""
    arguments = parser().parse_args(["register"])
    arguments.call(load({"CONSUMER_SCHEMA_REGISTRY_URL": url}, ()), arguments)


def test_a_registry_learns_the_ids_of_the_records(
    registry: SchemaRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All schemas of events, under the topic's subject; a second time nothing is done; the mode is as before."""
    register(registry.url)
    first = dict(registry.texts)
    capsys.readouterr()
    register(registry.url)

    assert first[local_schema_id(EVENT)] == EVENT
    assert set(first) == {schema_id for schema_id, text in LocalSchemas().texts.items() if '"Event"' in text}
    assert set(registry.subject("events-value")) == set(first)
    assert registry.modes == {"events-value": "READWRITE"}
    assert registry.texts == first
    assert "nothing to do" in capsys.readouterr().out

    services = RegistrySchemas(Access(registry.url), tmp_path, "events")
    assert services.id_of(EVENT) == local_schema_id(EVENT)  # a service that is given this registry goes on


def test_a_registry_that_refuses_or_does_not_answer_is_one_sentence(registry: SchemaRegistry) -> None:
    """And one that is not set is a setting. The mode is set back after a refusal."""
    registry.takes_new = False
    with pytest.raises(Fatal, match="the registry refuses POST /subjects/events-value/versions: status 409"):
        register(registry.url)
    assert registry.modes == {"events-value": "READWRITE"}
    with pytest.raises(Transient, match="does not answer"):
        register(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Misconfigured, match="CONSUMER_SCHEMA_REGISTRY_URL"):
        register("")
    registry.has_modes = False
    with pytest.raises(Fatal, match="it has no mode IMPORT"):
        register(registry.url)


def test_doctor_says_what_the_registry_has(registry: SchemaRegistry, tmp_path: Path) -> None:
    """Nothing yet, this release's schema, another id than services here write, no answer; it changes nothing."""

    def told(url: str = registry.url) -> tuple[Level, str]:
        variables = {"CONSUMER_SCHEMA_REGISTRY_URL": url, "CONSUMER_SCHEMA_CACHE_DIR": str(tmp_path)}
        *_, last = registry_checks(load({name: text for name, text in variables.items() if text}, ()))
        return last.level, last.says

    assert told("")[0] is Level.NOTE
    assert told()[0] is Level.WEAK
    assert registry.texts == {}
    schema_id = RegistrySchemas(Access(registry.url), tmp_path, "events").id_of(EVENT)
    assert told() == (
        Level.HOLDS, f"the Schema Registry has the schema of this release under events-value, with the id {schema_id}"
    )  # fmt: skip
    registry.forget()
    level, says = told()
    assert (level, "the registry has no id" in says) == (Level.BROKEN, True)
    assert told(f"http://127.0.0.1:{free_port()}")[0] is Level.UNKNOWN
