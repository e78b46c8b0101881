"""What schemathesis must know of us and no schema can say (SCHEMATHESIS_HOOKS names this module)."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("text/plain")
def write_json(_: Any, value: Any) -> bytes:
    """Write a generated body as a beacon would."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@schemathesis.serializer("application/x-ndjson")
def write_lines(_: Any, value: Any) -> bytes:
    """Write a generated list with one of its items a line."""
    if isinstance(value, bytes):
        return value
    return "\n".join(map(json.dumps, value if isinstance(value, list) else [value])).encode()


@schemathesis.hook
def before_call(_: Any, case: schemathesis.Case[Any], __: Any) -> None:
    """Ask for no lenient handling of broken requests: the answer to those is 201 when one of their events is good."""
    meta = case.meta
    if meta is not None and meta.generation.mode is schemathesis.GenerationMode.NEGATIVE and case.headers is not None:
        case.headers.pop("Prefer", None)
