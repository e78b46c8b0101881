"""The OpenAPI document: a valid one, made from the catalogue and the settings."""

from openapi_spec_validator import validate

from ingest.errors import Rule
from ingest.http.openapi import Node, describe
from ingest.service import body_limits, event_limits
from ingest.settings import Settings
from schemas.event import Event, read_catalogue

CATALOGUE = """
[types.SHARE]
sent_when = "the user shares"

[fields.eventType]
type = "string"
doc = "One of the types."

[fields.anonId]
type = "id"
length_min = 1
length_max = 128
doc = "The visitor."

[fields.active]
type = "int8"
doc = "In focus."

[properties]
scrollDepth = "how far"
"""


def document(catalogue: str | None = None, **settings: int) -> Node:
    """Return a document with some settings changed."""
    some = Settings(bootstrap_servers="unused:9092", **settings)  # type: ignore[arg-type]  # only numbers
    port = bool(some.operations_port)
    return describe(read_catalogue(catalogue), event_limits(some), body_limits(some), has_operations_port=port)


def schemas_of(described: Node) -> Node:
    """Return the document's schemas."""
    schemas: Node = described["components"]["schemas"]
    return schemas


def test_it_is_a_valid_openapi_document() -> None:
    """The document is what the specification calls OpenAPI 3.1."""
    described = document()

    validate(described)
    assert described["openapi"].startswith("3.1")


def test_it_follows_the_catalogue() -> None:
    """A type or a field that an operator adds is described, with its bounds, and the rest is not."""
    event = schemas_of(document(CATALOGUE))["Event"]["properties"]

    assert set(event) == {"eventType", "anonId", "active", "scrollDepth"}
    assert event["eventType"]["enum"] == ["SHARE"]
    assert "the user shares" in event["eventType"]["description"]
    assert event["anonId"]["anyOf"][0] == {"type": "string", "minLength": 1, "maxLength": 128}
    assert {"const": ""} in event["anonId"]["anyOf"]
    assert {"type": "integer", "minimum": -128, "maximum": 127} in event["active"]["anyOf"]
    assert event["scrollDepth"]["description"] == "how far"


def test_it_follows_the_settings() -> None:
    """The bounds of a running collector are those of its document."""
    described = document(events_max=7, body_bytes_max=4321, inflated_bytes_max=54321)

    assert schemas_of(described)["Request"]["properties"]["messageBody"]["maxItems"] == 7
    about = described["components"]["requestBodies"]["Events"]["description"]
    assert "4321 bytes as sent" in about
    assert "54321 inflated" in about


def test_it_is_silent_about_what_is_on_the_operations_port() -> None:
    """Clients get 404 there."""
    assert "/metrics" in document()["paths"]
    assert "/metrics" not in document(operations_port=9090)["paths"]


def test_it_knows_the_projects_fields_and_rules() -> None:
    """Every field that a client may send, and every rule that a fault may name, is there."""
    schemas = schemas_of(document())

    assert set(read_catalogue().fields) <= set(schemas["Event"]["properties"])
    assert set(read_catalogue().fields) <= set(Event.__annotations__)
    assert schemas["Fault"]["properties"]["rule"]["enum"] == [str(rule) for rule in Rule]
