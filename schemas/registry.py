"""Maps schemas to ids: with a Schema Registry when there is one, else derived from the schema files.

A registry's answers are cached on disk, so that a service starts and works while the registry is away. An uncached id
while the registry is away is an outage, not a fault of the record. Only the registry itself can say that it lacks an
id: a plain 404 may come from a proxy.
"""

import hashlib
import logging
import threading
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from ssl import get_default_verify_paths
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from schemas.codec import is_local, local_schema_id, read_schema
from schemas.registry_cache import Answers
from schemas.transport.access import Access
from schemas.transport.tls import Tls

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

log = logging.getLogger(__name__)

_SUBJECT_NOT_FOUND: Final = 40401
_SCHEMA_NOT_FOUND: Final = 40403  # the registry's own code, which a proxy would not send
_ID_MAX: Final = 2**31 - 1  # for a larger id a registry answers as for an unknown path
_TIMEOUT_S: Final = 3  # it normally answers in milliseconds, and the worker retries
_UNKNOWN_MAX: Final = 100_000
_TURN_S: Final = 1.0  # partitions that start together ask for the same ids, and one answer serves them all


class UnknownSchemaError(LookupError):
    """There is no schema with this id, and asking again will not help."""


class NewerSchemaError(LookupError):
    """The id is unknown, but it may be derived from a schema file of a newer release."""


class RegistryAwayError(ConnectionError):
    """The registry does not answer, and the cache lacks the id."""


class Schemas(Protocol):
    """Maps schemas to ids and back. Threads may share it."""

    def id_of(self, schema: str) -> int:
        """Return the id under which to write `schema`.

        Raises:
            RegistryAwayError: as it says.
            ValueError: the registry refuses the schema.
        """

    def schema_of(self, schema_id: int) -> str:
        """Return the text of the schema with this id.

        Raises:
            UnknownSchemaError, NewerSchemaError, RegistryAwayError: as they say.
        """


class LocalSchemas:
    """Ids derived from the project's files: event.avsc, dead_letter.avsc and the earlier versions in previous/."""

    def __init__(self) -> None:
        old = (
            file.read_text("utf-8") for file in files("schemas").joinpath("previous").iterdir() if ".avsc" in file.name
        )
        self._texts = {local_schema_id(text): text for text in (*old, read_schema("event"), read_schema("dead_letter"))}

    @property
    def texts(self) -> Mapping[int, str]:
        """All of them by their ids."""
        return self._texts

    def id_of(self, schema: str) -> int:
        """Return the id derived from the schema's content."""
        return local_schema_id(schema)

    def schema_of(self, schema_id: int) -> str:
        """Return the text of one of the project's own schemas."""
        try:
            return self._texts[schema_id]
        except KeyError:
            if is_local(schema_id):
                why = "is unknown; a newer release may have written it: upgrade this one"
                raise NewerSchemaError(f"schema id {schema_id} {why}") from None
            raise UnknownSchemaError(f"schema id {schema_id} is not among the {len(self._texts)} known here") from None


class RegistrySchemas:
    """Ids from a Schema Registry (Confluent's HTTP interface), cached on disk in `cache_dir`.

    Records from before the registry was configured have ids derived from the files; they stay readable.

    A registry that hangs costs the asking thread twice its timeout, and the others a second: one thread asks at a
    time, and after a failure none does for as long as it took. An id that the registry lacks is asked for again after
    `unknown_s`.
    """

    unknown_s = 30.0
    _client: "SchemaRegistryClient | None" = None

    def __del__(self) -> None:
        """Close the last client's connections."""
        if self._client is not None:
            self._client.close()

    def __init__(self, access: Access, cache_dir: Path, topic: str, timeout_s: float = _TIMEOUT_S) -> None:
        """Raise ValueError when a file named by `access` can't be used."""
        from confluent_kafka import schema_registry  # noqa: PLC0415  (most have none; it is a quarter of a start's time)

        access.check_files()
        self._library = schema_registry
        ours = {"url": access.url, "timeout": timeout_s, "max.retries": 1, "retries.wait.ms": 100}
        self._conf = ours | _login(access) | _certificates(access.tls)
        self._access = access
        self._local = LocalSchemas()
        self._subject = f"{topic}-value"
        self._answers = Answers(cache_dir / _directory(access.url, self._subject))
        self._texts: dict[int, str] = {}
        self._unknown: dict[int, float] = {}  # ids that the registry lacks, and until when not to ask again
        self._turn = threading.Lock()
        self._rest_until_s = 0.0

    def id_of(self, schema: str) -> int:
        """Return the registry's id of `schema` under `<topic>-value`; register it there when it is new.

        Raises:
            ValueError: also when the registry's id is another one in the range derived from files.
        """
        schema_id = self.cached_id(schema)
        if schema_id is None:
            schema_id = self._register(schema)
            self._answers.write(f"id-{local_schema_id(schema)}", schema_id)
            self._answers.write(f"schema-{schema_id}", schema)
        return schema_id

    def schema_of(self, schema_id: int) -> str:
        """Return the text of a schema, from the files, the cache or the registry, in that order."""
        if is_local(schema_id):
            return self._local.schema_of(schema_id)
        if schema_id > _ID_MAX:
            raise UnknownSchemaError(f"schema id {schema_id} is invalid: a registry's ids have 31 bits")
        if schema_id not in self._texts:
            text = self._answers.read(f"schema-{schema_id}")
            self._texts[schema_id] = text if isinstance(text, str) else self._asked(schema_id)
        return self._texts[schema_id]

    def cached_id(self, schema: str) -> int | None:
        """Return the id under which this machine's services write `schema`; None when it is not cached."""
        schema_id = self._answers.read(f"id-{local_schema_id(schema)}")
        return schema_id if isinstance(schema_id, int) else None

    def registered_id(self, schema: str) -> int | None:
        """Ask the registry for its id of `schema` under `<topic>-value`; None when it has none. Changes nothing.

        Raises:
            RegistryAwayError: as it says.
        """
        try:
            with self._library.SchemaRegistryClient(self._conf) as client:
                found = client.lookup_schema(self._subject, self._library.Schema(schema, "AVRO"))
        except self._library.error.SchemaRegistryError as error:
            if error.error_code in {_SUBJECT_NOT_FOUND, _SCHEMA_NOT_FOUND}:
                return None
            raise RegistryAwayError(f"the registry answers {error.http_status_code}") from error
        except Exception as error:  # as above
            raise self._away(error) from error
        schema_id: int | None = found.schema_id
        return schema_id

    def _register(self, schema: str) -> int:
        try:
            with self._library.SchemaRegistryClient(self._conf) as client:
                named = self._library.Schema(schema, "AVRO")
                schema_id: int | None = client.register_schema(self._subject, named)
        except self._library.error.SchemaRegistryError as error:
            if error.http_status_code in {409, 422}:  # incompatible, invalid
                raise ValueError(f"the registry refuses the schema for {self._subject}: {error}") from error
            raise RegistryAwayError(f"the registry answers {error.http_status_code}") from error
        except Exception as error:  # the client passes on its HTTP library's errors
            raise self._away(error) from error
        if schema_id is None:
            raise RegistryAwayError("the registry's answer has no id")
        if is_local(schema_id) and schema_id != local_schema_id(schema):  # `consumer register` put our own there
            raise ValueError(f"the registry's id {schema_id} is in the range of ids derived from schema files")
        return schema_id

    def _away(self, error: Exception) -> RegistryAwayError:
        about_tls = self._access.explain(error)
        return RegistryAwayError(about_tls or f"the registry does not answer: {type(error).__name__}")

    def _asked(self, schema_id: int) -> str:
        """Ask the registry, unless another thread is still waiting for it, or has just failed."""
        if not self._turn.acquire(timeout=_TURN_S):
            raise RegistryAwayError("the registry has not answered an earlier request yet")
        try:
            if schema_id in self._texts:  # the previous thread asked the same
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
        """Ask the registry, with a new client after each success.

        An old client caches bad answers, and its connections break. It is reused only while the registry lacks the ids:
        other requests are rare.
        """
        client, self._client = self._client or self._library.SchemaRegistryClient(self._conf), None
        try:
            text: str | None = client.get_schema(schema_id).schema_str
        except self._library.error.SchemaRegistryError as error:
            if error.error_code == _SCHEMA_NOT_FOUND:
                self._client = client
                self._remember_unknown(schema_id)
                raise UnknownSchemaError(f"schema id {schema_id} is not in the registry") from error
            raise RegistryAwayError(f"the registry answers {error.http_status_code}") from error
        except Exception as error:  # the client passes on its HTTP library's errors
            raise self._away(error) from error
        finally:
            if self._client is not client:
                client.close()
        if text is None:
            raise RegistryAwayError("the registry's answer has no schema")
        return text

    def _remember_unknown(self, schema_id: int) -> None:
        """Remember for a while that the registry lacks an id; it may be registered later."""
        if len(self._unknown) >= _UNKNOWN_MAX:
            self._unknown.clear()
        self._unknown[schema_id] = monotonic() + self.unknown_s


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
