"""Whether a record's body has the shape of its schema, from its first byte to its last, whatever its values are.

A row of a wrong length makes the table read all rows behind it askew, so such rows are found here. Values are the
table's to judge: it takes some that Python does not (a string that is no UTF-8), and the verdict on a record must not
depend on what else stands in its batch.
"""

import json
from typing import Any

from consumer.errors import Reason
from consumer.ports import Poison, Record
from schemas.codec import FRAME_BYTES, decode


def bare(schema: str) -> str:
    """Return a schema with the same encoding and no demands on values: bytes for strings, no logical types."""
    return json.dumps(_bare(json.loads(schema), "entry"))


def _bare(kind: Any, name: str) -> Any:
    """Return a type; `name` is where it stands, for a map becomes an array of records, which need a name each."""
    if isinstance(kind, list):
        return [_bare(item, f"{name}_{number}") for number, item in enumerate(kind)]
    return _bare_of(kind, name) if isinstance(kind, dict) else "bytes" if kind == "string" else kind


def _bare_of(kind: dict[str, Any], name: str) -> Any:
    match kind["type"]:
        case "record":
            fields = [
                {"name": field["name"], "type": _bare(field["type"], f"{name}_{field['name']}")}
                for field in kind["fields"]
            ]
            return {key: kind[key] for key in ("type", "name", "namespace") if key in kind} | {"fields": fields}
        case "map":
            pair = [{"name": "key", "type": "bytes"}, {"name": "value", "type": _bare(kind["values"], f"{name}_value")}]
            return {"type": "array", "items": {"type": "record", "name": name, "fields": pair}}
        case "array":
            return kind | {"items": _bare(kind["items"], f"{name}_item")}
        case "enum" | "fixed":
            return {key: value for key, value in kind.items() if key != "logicalType"}
    return _bare(kind["type"], name)


def misshapen(record: Record, bare_schema: str) -> Poison | None:
    """Return the poison when a record's body is not one record of the shape of its schema, which `bare` made."""
    try:
        decode(record.value[FRAME_BYTES:], bare_schema)
    except ValueError as error:
        return Poison(record.offset, Reason.BAD_AVRO, str(error))
    return None
