"""The HTTP interface as an OpenAPI 3.1 document: ingest/openapi.json, completed from the catalogue and the limits.

Descriptions state what JSON Schema can't: sizes in bytes, nesting, encodings.
https://spec.openapis.org/oas/v3.1.1.html
"""

from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final

import msgspec

from ingest.errors import Rule
from ingest.events.dry_run import Hint
from ingest.events.fields import EXACT_MAX
from ingest.events.parsing import INTEGER_MAX, INTEGER_MIN
from ingest.events.validator import FAULTS_MAX, EventLimits
from ingest.http.body import BodyLimits
from ingest.http.middleware import PIXEL
from schemas.event import Catalogue, Field

Node = dict[str, Any]

_PARAMETERS: Final = ("eventType", "clientId", "eventId", "pingId", "anonId", "userId", "contentId", "url")

_UUID_OR_EMPTY: Final = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$"
_INTEGER: Final[Node] = {"type": "integer", "minimum": INTEGER_MIN, "maximum": INTEGER_MAX}
_EXACT: Final[Node] = {"type": "number", "minimum": -EXACT_MAX, "maximum": EXACT_MAX}
_FLAG: Final[Node] = {"enum": ["0", "1"]}
_ALSO: Final[dict[str, list[Node]]] = {"id": [_INTEGER, _EXACT]}
_NUMBERS: Final[dict[str, list[Node]]] = {
    "int8": [{"type": "integer", "minimum": -128, "maximum": 127}, {"type": "boolean"}, _FLAG],
    "integer": [_INTEGER],
    "number": [{"$ref": "#/components/schemas/Number"}],
    "boolean": [{"enum": [False, True, 0, 1]}, _FLAG],
}


def describe(catalogue: Catalogue, limits: EventLimits, body: BodyLimits, *, has_operations_port: bool = False) -> Node:
    """Return the document; with an operations port it leaves out /metrics."""
    document: Node = msgspec.json.decode(files("ingest").joinpath("openapi.json").read_bytes())
    document["info"]["version"] = version("headrace")
    if has_operations_port:
        del document["paths"]["/metrics"]
    components = document["components"]
    components["requestBodies"]["Events"]["description"] = _sizes(limits, body)
    schemas = components["schemas"]
    schemas["Request"]["properties"]["messageBody"]["maxItems"] = limits.events_max
    schemas["Lines"]["maxItems"] = limits.events_max
    parameters = [_parameter(name, catalogue) for name in _PARAMETERS if name in catalogue.fields]
    document["paths"][PIXEL]["get"]["parameters"] = parameters
    schemas["Event"]["properties"] = _members(catalogue)
    # JSON Schema can't tell 1e30, which is accepted, from the same number with all its digits, which is not.
    schemas["Number"]["description"] = f"An integer from {INTEGER_MIN} to {INTEGER_MAX}, or a float"
    schemas["Fault"]["properties"]["rule"]["enum"] = [str(rule) for rule in Rule]
    schemas["Warning"]["properties"]["rule"]["enum"] = [str(hint) for hint in Hint]
    schemas["Error"]["properties"]["details"]["maxItems"] = FAULTS_MAX
    return document


def _sizes(limits: EventLimits, body: BodyLimits) -> str:
    return (
        f"At most {body.sent_bytes_max} bytes as sent and {body.inflated_bytes_max} inflated, "
        f"{body.nodes_max} JSON values and {limits.paths_max} different names; an event at most "
        f"{limits.event_bytes_max} bytes and {limits.members_max} members; messageHeaders "
        f"{limits.headers_bytes_max} bytes, and with the User-Agent {limits.copied_bytes_max} over all events; "
        f"nesting at most {limits.depth_max}. Content-Encoding may be gzip, deflate or zstd. text/plain, as "
        "navigator.sendBeacon sends it, and no Content-Type at all mean JSON too."
    )


def _members(catalogue: Catalogue) -> Node:
    """Return the schemas of an event's members: the fields and the documented members of `properties`."""
    members = {name: _field(field) for name, field in catalogue.fields.items()}
    sent_when = "; ".join(f"{name}: {kind.sent_when}" for name, kind in catalogue.types.items())
    members["eventType"] = {
        "type": "string",
        "enum": list(catalogue.types),
        "description": f"{catalogue.fields['eventType'].doc} {sent_when}.",
    }
    value = {"$ref": "#/components/schemas/Value"}
    return members | {name: value | {"description": known.doc} for name, known in catalogue.properties.items()}


def _parameter(name: str, catalogue: Catalogue) -> Node:
    """Return a parameter of the pixel, which is a text."""
    field = catalogue.fields[name]
    schema = _text(field)
    schema.pop("minLength")  # "" counts as absent
    if name == "eventType":
        schema = {"type": "string", "enum": list(catalogue.types)}
    elif field.type == "uuid":
        schema = {"type": "string", "pattern": _UUID_OR_EMPTY}
    return {"name": name, "in": "query", "required": name == "eventType", "description": field.doc, "schema": schema}


def _field(field: Field) -> Node:
    """Return a field's schema with its coercions; null and "" count as absent."""
    if field.type == "uuid":
        return {"description": field.doc, "type": ["string", "null"], "pattern": _UUID_OR_EMPTY}
    forms = _NUMBERS[field.type] if field.type in _NUMBERS else [_text(field)]
    return {"description": field.doc, "anyOf": [*forms, *_ALSO.get(field.type, ()), {"type": "null"}, {"const": ""}]}


def _text(field: Field) -> Node:
    text: Node = {"type": "string", "minLength": field.length_min}
    if field.length_max is not None:
        text["maxLength"] = field.length_max
    if field.known:
        text["examples"] = list(field.known)
    return text
