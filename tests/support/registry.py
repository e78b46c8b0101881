"""A Schema Registry for tests: Confluent's HTTP interface, as far as its client asks for it here.

It answers as a registry that is well; put a FaultProxy in front for one that refuses, hangs or fails.
https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

from tests.support.http_server import HttpServer

_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_NO_SUBJECT: Final = (404, {"error_code": 40401, "message": "Subject not found."})
_NO_SCHEMA: Final = (404, {"error_code": 40403, "message": "Schema not found"})
_NO_IMPORT: Final = (422, {"error_code": 42205, "message": "Subject is not in import mode"})
_INCOMPATIBLE: Final = (409, {"error_code": 409, "message": "Schema being registered is incompatible"})

Answer = tuple[int, Any]


class SchemaRegistry(HttpServer):
    """A registry that holds its schemas in memory.

    Attributes:
        takes_new: whether it takes schemas that it does not have yet; else they are incompatible.
        has_modes: whether it knows modes at all, as not every registry does.
        asked: how often each path was asked for.
        credentials: the Authorization headers that came.
        texts: what it holds, by id; a test may put more in.
        modes: of its subjects, where they are set; only in the mode IMPORT it takes ids that it is given.
    """

    def __init__(self, first_id: int = 1) -> None:
        """Choose a port; ids count up from `first_id`."""
        self.takes_new = self.has_modes = True
        self.asked: Counter[str] = Counter()
        self.credentials: set[str] = set()
        self.texts: dict[int, str] = {}
        self.modes: dict[str, str] = {}
        self._subjects: dict[str, list[int]] = {}
        self._next_id = first_id
        self._lock = threading.Lock()
        super().__init__(_handler(self), "registry")

    def add(self, text: str) -> int:
        """Hold a schema under no subject and return its id; the same text keeps its id."""
        with self._lock:
            return self._add(text)

    def forget(self) -> None:
        """Lose everything, as a registry whose disk is lost."""
        with self._lock:
            self.texts.clear()
            self._subjects.clear()

    def subject(self, name: str) -> list[int]:
        """Return the ids under a subject, in the order of their versions."""
        return list(self._subjects.get(name, []))

    def answer(self, method: str, path: str, body: Any) -> Answer:
        """Return the status and the body of an answer."""
        with self._lock:
            self.asked[path] += 1
            if method == "GET" and (found := re.fullmatch(r"/schemas/ids/(\d+)", path)):
                text = self.texts.get(int(found[1]))
                return _NO_SCHEMA if text is None else (200, {"schema": text})
            if method == "POST" and (found := re.fullmatch(r"/subjects/([^/]+)/versions", path)):
                return self._register(found[1], body["schema"], body.get("id"))
            if method == "PUT" and self.has_modes and (found := re.fullmatch(r"/mode/([^/]+)", path)):
                self.modes[found[1]] = body["mode"]
                return 200, body
            if method == "POST" and (found := re.fullmatch(r"/subjects/([^/]+)", path)):
                return self._look_up(found[1], body["schema"])
            return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _register(self, subject: str, text: str, given_id: int | None) -> Answer:
        if (given_id is not None) is not (self.modes.get(subject) == "IMPORT"):
            return _NO_IMPORT
        if given_id is not None and self.takes_new:
            self.texts[given_id] = text
        if not self.takes_new and text not in self.texts.values():
            return _INCOMPATIBLE
        schema_id, versions = self._add(text), self._subjects.setdefault(subject, [])
        if schema_id not in versions:
            versions.append(schema_id)
        return 200, {"id": schema_id}

    def _look_up(self, subject: str, text: str) -> Answer:
        if subject not in self._subjects:
            return _NO_SUBJECT
        for version, schema_id in enumerate(self._subjects[subject], 1):
            if self.texts[schema_id] == text:
                return 200, {"subject": subject, "id": schema_id, "version": version, "schema": text}
        return _NO_SCHEMA

    def _add(self, text: str) -> int:
        for schema_id, known in self.texts.items():
            if known == text:
                return schema_id
        schema_id, self._next_id = self._next_id, self._next_id + 1
        self.texts[schema_id] = text
        return schema_id


def _handler(registry: SchemaRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        disable_nagle_algorithm = True  # a body behind its head would wait for the client's delayed ACK, 40 ms

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_PUT(self) -> None:
            self.do_POST()

        def _answer(self, body: Any) -> None:
            registry.credentials.add(self.headers.get("Authorization", ""))
            status, answer = registry.answer(self.command, self.path.partition("?")[0], body)
            payload = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", _TYPE)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (http.server's signature)
            """Log nothing."""

    return Handler
