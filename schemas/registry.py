"""Where schema ids come from: a Schema Registry when there is one, else the schema files themselves.

What a registry answered is kept on disk, so that a service starts and works while the registry is away. An id that is
in no cache while the registry is away is an outage, not a fault of the record that carries it. The registry itself must
say that it has no such id: a 404 alone may come from a proxy in front of it.
"""

import hashlib
import json
import logging
import threading
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from ssl import get_default_verify_paths
from time import monotonic
from typing import Any, Final, Protocol
from uuid import uuid4

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemas.codec import is_local, local_schema_id, read_schema
from schemas.transport.access import Access
from schemas.transport.tls import Tls

log = logging.getLogger(__name__)

_SCHEMA_NOT_FOUND: Final = 40403  # the registry's own code; who answers in its place doesn't know it
_ID_MAX: Final = 2**31 - 1  # asked for more, a registry's answer is that of a path that it does not have
_TIMEOUT_S: Final = 3  # it answers in milliseconds; the worker tries again anyway
_UNKNOWN_MAX: Final = 100_000
_TURN_S: Final = 1.0  # partitions that begin together ask the same, and the first answer serves them all


class UnknownSchemaError(LookupError):
    """Nobody has a schema with this id, and asking again will not help."""


class NewerSchemaError(LookupError):
    """Nothing vouches for the id, but it may be derived from a file that this release does not have."""


class RegistryAwayError(ConnectionError):
    """The registry does not answer, and the cache does not know."""


class Schemas(Protocol):
    """Maps schemas to ids and back. Threads may share it."""

    def id_of(self, schema: str) -> int:
        """Return the id to write `schema` with.

        Raises:
            RegistryAwayError: as it says.
            ValueError: the registry refuses the schema.
        """

    def schema_of(self, schema_id: int) -> str:
        """Return the text of the schema that `schema_id` names.

        Raises:
            UnknownSchemaError, NewerSchemaError, RegistryAwayError: as they say.
        """


class LocalSchemas:
    """Ids derived from the project's own files: event.avsc, dead_letter.avsc and the earlier versions in previous/."""

    def __init__(self) -> None:
        old = (
            file.read_text("utf-8") for file in files("schemas").joinpath("previous").iterdir() if ".avsc" in file.name
        )
        self._texts = {local_schema_id(text): text for text in (*old, read_schema("event"), read_schema("dead_letter"))}

    def id_of(self, schema: str) -> int:
        """Return the id derived from the schema's content."""
        return local_schema_id(schema)

    def schema_of(self, schema_id: int) -> str:
        """Return the text of one of the project's own schemas."""
        try:
            return self._texts[schema_id]
        except KeyError:
            if is_local(schema_id):
                why = "is from another release, if it is one at all: upgrade this one"
                raise NewerSchemaError(f"schema id {schema_id} {why}") from None
            raise UnknownSchemaError(f"schema id {schema_id} is none of the {len(self._texts)} known here") from None


class RegistrySchemas:
    """Ids from a Schema Registry (Confluent's HTTP interface), kept on disk in `cache_dir`.

    Records from before the registry was configured carry ids derived from the files; they stay readable.

    A registry that hangs costs the thread that asks it twice its timeout, and all others a second: one thread asks
    at a time, and after a failure nobody does for as long as it took. An id that it does not have is asked for again
    after `unknown_s`.
    """

    unknown_s = 30.0
    _client: SchemaRegistryClient | None = None

    def __del__(self) -> None:
        """Close the connections of the last question."""
        if self._client is not None:
            self._client.close()

    def __init__(self, access: Access, cache_dir: Path, topic: str, timeout_s: float = _TIMEOUT_S) -> None:
        """Raise ValueError when a file that `access` names can't be used."""
        access.check_files()
        ours = {"url": access.url, "timeout": timeout_s, "max.retries": 1, "retries.wait.ms": 100}
        self._conf = ours | _login(access) | _certificates(access.tls)
        self._access = access
        self._local = LocalSchemas()
        self._subject = f"{topic}-value"
        self._answers = Answers(cache_dir / _directory(access.url, self._subject))
        self._texts: dict[int, str] = {}
        self._unknown: dict[int, float] = {}  # ids that the registry does not have, and until when that is believed
        self._turn = threading.Lock()
        self._rest_until_s = 0.0

    def id_of(self, schema: str) -> int:
        """Return the registry's id of `schema` under `<topic>-value`; registers it there when it is new.

        Raises:
            ValueError: also when the registry's id is one of those that are derived from the files.
        """
        name = f"id-{local_schema_id(schema)}"
        schema_id = self._answers.read(name)
        if not isinstance(schema_id, int):
            schema_id = self._register(schema)
            self._answers.write(name, schema_id)
            self._answers.write(f"schema-{schema_id}", schema)
        return schema_id

    def schema_of(self, schema_id: int) -> str:
        """Return the text of a schema, from the files, the cache or the registry, in that order."""
        if is_local(schema_id):
            return self._local.schema_of(schema_id)
        if schema_id > _ID_MAX:
            raise UnknownSchemaError(f"schema id {schema_id} is none: a registry's have 31 bits")
        if schema_id not in self._texts:
            text = self._answers.read(f"schema-{schema_id}")
            self._texts[schema_id] = text if isinstance(text, str) else self._asked(schema_id)
        return self._texts[schema_id]

    def _register(self, schema: str) -> int:
        try:
            with SchemaRegistryClient(self._conf) as client:
                schema_id: int | None = client.register_schema(self._subject, Schema(schema, "AVRO"))
        except SchemaRegistryError as error:
            if error.http_status_code in {409, 422}:  # incompatible, invalid
                raise ValueError(f"the registry refuses the schema for {self._subject}: {error}") from error
            raise RegistryAwayError(f"the registry answers {error.http_status_code}") from error
        except Exception as error:  # the client lets the errors of its HTTP library through
            raise self._away(error) from error
        if schema_id is None:
            raise RegistryAwayError("the registry's answer has no id in it")
        if is_local(schema_id):
            raise ValueError(f"the registry's id {schema_id} is of the range that is derived from schema files")
        return schema_id

    def _away(self, error: Exception) -> RegistryAwayError:
        about_tls = self._access.explain(error)
        return RegistryAwayError(about_tls or f"the registry does not answer: {type(error).__name__}")

    def _asked(self, schema_id: int) -> str:
        """Ask the registry, unless another thread still waits for it, or one has just waited in vain."""
        if not self._turn.acquire(timeout=_TURN_S):
            raise RegistryAwayError("the registry has not answered an earlier question yet")
        try:
            if schema_id in self._texts:  # who had the turn before asked the same
                return self._texts[schema_id]
            began_s = monotonic()
            if began_s < self._unknown.get(schema_id, 0.0):
                raise UnknownSchemaError(f"schema id {schema_id} is not in the registry")
            if began_s < self._rest_until_s:
                raise RegistryAwayError("the registry did not answer a moment ago")
            try:
                text = self._fetch(schema_id)
            except RegistryAwayError:
                now_s = monotonic()
                self._rest_until_s = now_s + (now_s - began_s)
                raise
            self._texts[schema_id] = text
            self._answers.write(f"schema-{schema_id}", text)
            return text
        finally:
            self._turn.release()

    def _fetch(self, schema_id: int) -> str:
        """Ask the registry: over one client for as many ids as it does not have, else over a new one.

        Questions are rare but for those; an old client remembers bad answers, and its connections break.
        """
        client, self._client = self._client or SchemaRegistryClient(self._conf), None
        try:
            text: str | None = client.get_schema(schema_id).schema_str
        except SchemaRegistryError as error:
            if error.error_code == _SCHEMA_NOT_FOUND:
                self._client = client
                self._remember_unknown(schema_id)
                raise UnknownSchemaError(f"schema id {schema_id} is not in the registry") from error
            raise RegistryAwayError(f"the registry answers {error.http_status_code}") from error
        except Exception as error:  # the client lets the errors of its HTTP library through
            raise self._away(error) from error
        finally:
            if self._client is not client:
                client.close()
        if text is None:
            raise RegistryAwayError("the registry's answer has no schema in it")
        return text

    def _remember_unknown(self, schema_id: int) -> None:
        """Believe for a while that the registry lacks an id; somebody may register it."""
        if len(self._unknown) >= _UNKNOWN_MAX:
            self._unknown.clear()
        self._unknown[schema_id] = monotonic() + self.unknown_s


class Answers:
    """What a registry answered, one file each: the services that share a directory share the answers.

    A file is written under a name that nobody else has, not even in another container, and moved to its place: no
    reader finds half of one, and no writer takes anything away from another. It is not synced: what a loss of power
    leaves of it is no JSON, counts as absent, and the registry is asked again. So is a directory that can't be used.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, name: str) -> Any:
        """Return an answer, or None when there is none, or none that can be read."""
        try:
            return json.loads((self._directory / f"{name}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def write(self, name: str, answer: object) -> None:
        """Keep an answer; on a disk that can't, say so and go on without."""
        draft = self._directory / f"{name}.{uuid4().hex}"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(answer), "utf-8")
            draft.replace(self._directory / f"{name}.json")
        except OSError as error:
            log.warning("schema cache can't be written", extra={"path": str(self._directory), "reason": str(error)})
            with suppress(OSError):
                draft.unlink(missing_ok=True)


def _login(access: Access) -> dict[str, str]:
    return {"basic.auth.user.info": f"{access.user}:{access.password()}"} if access.user else {}


def _certificates(tls: Tls) -> dict[str, str]:
    files = {
        "ssl.ca.location": tls.ca_file or get_default_verify_paths().cafile or "",
        "ssl.certificate.location": tls.certificate_file,
        "ssl.key.location": tls.key_file,
    }
    return {name: path for name, path in files.items() if path}


def _directory(url: str, subject: str) -> str:
    """Name the directory of one registry's answers: the same id means another schema elsewhere."""
    return f"registry-{hashlib.sha256(f'{url} {subject}'.encode()).hexdigest()[:12]}"


def open_schemas(registry: Access, cache_dir: Path, topic: str) -> Schemas:
    """Return the registry's ids when a URL is set, else those of the files.

    Raises:
        ValueError: a file of the registry's settings can't be used.
    """
    return RegistrySchemas(registry, cache_dir, topic) if registry.url else LocalSchemas()
