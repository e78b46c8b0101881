"""Both services with a Schema Registry that is somebody else's: Apicurio's, over Confluent's interface."""

import http.client
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.settings import load
from headrace.checks import Level
from headrace.checks_registry import registry_checks
from schemas.codec import is_local, local_schema_id, read_schema
from schemas.registry import RegistrySchemas, UnknownSchemaError
from schemas.transport.access import Access
from tests.conftest import SOAK_ONLY
from tests.support.apicurio import apicurio
from tests.support.ingress import ingress
from tests.support.operator import Operator

EVENT = read_schema("event")


def _demand_compatibility(url: str) -> None:
    body = json.dumps({"compatibility": "BACKWARD"}).encode()
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    urllib.request.urlopen(urllib.request.Request(f"{url}/config", body, headers, method="PUT"), timeout=30).close()


def _post(port: int, number: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    event = {"eventType": "VIEW", "eventId": f"00000000-0000-0000-0000-{number:012}"}
    try:
        connection.request("POST", "/collect/event", json.dumps({"messageBody": [event]}))
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The URL of one without schemas."""
    with apicurio(tmp_path / "apicurio.log") as url:
        yield url


def _doctor(url: str, operator: Operator, cache: Path) -> Level:
    variables = {
        "CONSUMER_SCHEMA_REGISTRY_URL": url,
        "CONSUMER_SCHEMA_CACHE_DIR": str(cache),
        "CONSUMER_TOPIC": operator.topic,
    }
    *_, last = registry_checks(load(variables, ()))
    return last.level


@SOAK_ONLY
def test_events_take_their_way_with_its_ids(registry: str, operator: Operator, tmp_path: Path) -> None:
    """The ingress registers its schema, the worker reads it, and `doctor` knows it, before and after."""
    assert _doctor(registry, operator, tmp_path / "none") is Level.WEAK
    operator.make_tables()
    cache = tmp_path / "schemas"
    settings = {"topic": operator.topic, "dead_letter_topic": operator.dead_topic, "schema_registry_url": registry}
    operator.work(SCHEMA_REGISTRY_URL=registry, SCHEMA_CACHE_DIR=str(tmp_path / "of-the-worker"))
    with ingress(tmp_path, operator.broker.bootstrap_servers, **settings) as running:
        assert [_post(running.port, number) for number in range(1, 11)] == [201] * 10
        operator.await_rows(10)
        running.terminate()
        running.await_end(60)

    assert _doctor(registry, operator, cache) is Level.HOLDS
    operator.stop()


@SOAK_ONLY
def test_it_answers_as_the_client_expects(registry: str, tmp_path: Path) -> None:
    """One id for one schema, the schema for its id, and its own word for an id that it lacks."""
    first, second = (RegistrySchemas(Access(registry), tmp_path / name, "events") for name in ("one", "two"))

    assert first.registered_id(EVENT) is None
    schema_id = first.id_of(EVENT)
    assert not is_local(schema_id)
    assert second.id_of(EVENT) == second.registered_id(EVENT) == schema_id
    assert local_schema_id(RegistrySchemas(Access(registry), tmp_path / "three", "events").schema_of(schema_id)) == (
        local_schema_id(EVENT)
    )
    with pytest.raises(UnknownSchemaError):
        first.schema_of(schema_id + 1000)
    _demand_compatibility(registry)
    with pytest.raises(ValueError, match="the registry refuses the schema"):
        first.id_of('{"type": "record", "name": "Event", "fields": [{"name": "new", "type": "long"}]}')
