"""What schemathesis must know of us: text/plain bodies are JSON (SCHEMATHESIS_HOOKS names this module)."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("text/plain")
def write_json(_: Any, value: Any) -> bytes:
    """Write a generated body as a beacon would."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()
