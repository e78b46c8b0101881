"""The command register of `python -m consumer`: gives a registry the schemas under the ids derived from the files."""

import json
from argparse import Namespace
from http import HTTPStatus
from typing import Any, Final

from urllib3 import PoolManager, Timeout, make_headers
from urllib3.exceptions import HTTPError

from consumer.commands import say
from consumer.errors import Cause, Fatal, Misconfigured, Transient
from consumer.parts import find_schemas
from consumer.settings import PREFIX, Settings, registry_access
from schemas.codec import read_schema
from schemas.registry import LocalSchemas
from schemas.transport.access import Access

REGISTER: Final = """
Puts the schemas of events into a Schema Registry (Confluent's HTTP interface) under the ids that records
have when the services use no registry. Viewers of topics then decode them. The services need no change;
with this registry they would go on with the same ids.

The registry must allow the mode IMPORT, in which it takes ids that it is given. Running the command again
changes nothing.

  CONSUMER_SCHEMA_REGISTRY_URL=http://registry:8081 python -m consumer register
"""
_ANSWER_S: Final = 10.0
_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_FIRST_FAULT: Final = 400


def run_register(settings: Settings, _: Namespace) -> int:
    """Register the schemas.

    Raises:
        Misconfigured: no registry is set, or a file of its settings can't be used.
        Transient, Fatal: it does not answer, or refuses.
    """
    access = registry_access(settings)
    if not access.url:
        raise Misconfigured(f"{PREFIX}SCHEMA_REGISTRY_URL: is required")
    find_schemas(settings)  # checks the files
    registry, subject = _Registry(access), f"{settings.topic}-value"
    missing = {schema_id: text for schema_id, text in _of_events().items() if not registry.has(schema_id)}
    if missing:
        registry.begin_import(subject)
        try:
            for schema_id, text in missing.items():
                registry.ask("POST", f"/subjects/{subject}/versions", {"schema": text, "id": schema_id})
                say(f"{subject}: registered under {schema_id}")
        finally:
            registry.ask("PUT", f"/mode/{subject}?force=true", {"mode": "READWRITE"})
    else:
        say("nothing to do: the registry has them")
    return 0


def _of_events() -> dict[int, str]:
    """Return the schemas of this and earlier releases' events by their derived ids."""
    name = json.loads(read_schema("event"))["name"]
    return {schema_id: text for schema_id, text in LocalSchemas().texts.items() if json.loads(text)["name"] == name}


class _Registry:
    """Asks the first address of a registry."""

    def __init__(self, access: Access) -> None:
        self._url = access.url.split(",")[0].rstrip("/")
        login = make_headers(basic_auth=f"{access.user}:{access.password()}") if access.user else {}
        self._headers = {"Content-Type": _TYPE, **login}
        trust = access.tls.context() if self._url.startswith("https:") else None
        self._pool = PoolManager(retries=False, timeout=Timeout(_ANSWER_S), ssl_context=trust)

    def has(self, schema_id: int) -> bool:
        """Tell whether it knows an id."""
        return self._answer("GET", f"/schemas/ids/{schema_id}", None)[0] < _FIRST_FAULT

    def begin_import(self, subject: str) -> None:
        """Have it take ids that it is given.

        Raises:
            Transient, Fatal: it does not answer, or has no such mode.
        """
        path = f"/mode/{subject}?force=true"
        status, text = self._answer("PUT", path, {"mode": "IMPORT"})
        if status == HTTPStatus.NOT_FOUND:
            why = "it has no mode IMPORT, in which it would take ids that it is given: set it for both services instead"
            raise Fatal(f"the registry refuses PUT {path}: {why}")
        if status >= _FIRST_FAULT:
            raise Fatal(f"the registry refuses PUT {path}: status {status}, {text[:200]}")

    def ask(self, method: str, path: str, body: Any) -> None:
        """Have it do something.

        Raises:
            Transient, Fatal: it does not answer, or refuses.
        """
        status, text = self._answer(method, path, body)
        if status >= _FIRST_FAULT:
            raise Fatal(f"the registry refuses {method} {path}: status {status}, {text[:200]}")

    def _answer(self, method: str, path: str, body: Any) -> tuple[int, str]:
        sent = None if body is None else json.dumps(body).encode()
        try:
            answer = self._pool.request(method, self._url + path, body=sent, headers=self._headers)
        except HTTPError as error:
            raise Transient(f"the registry does not answer: {type(error).__name__}", Cause.AWAY) from error
        return answer.status, answer.data.decode("utf-8", "replace")
