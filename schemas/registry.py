"""Where schema ids come from: a Schema Registry when there is one, else the schema files themselves.

What a registry answered is cached on disk, so that a service starts and works while the registry is away. An id that
is in no cache while the registry is away is an outage, not a fault of the record that carries it.
"""

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Final, Protocol

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemas.codec import is_local, local_schema_id, read_schema

_NOT_FOUND: Final = 404
_TIMEOUT_S: Final = 5


class UnknownSchemaError(LookupError):
    """Nobody has a schema with this id, and asking again will not help."""


class NewerSchemaError(LookupError):
    """The id is derived from a file that this release does not have: a newer one wrote the record."""


class RegistryAwayError(ConnectionError):
    """The registry does not answer, and the cache does not know."""


class Schemas(Protocol):
    """Maps schemas to ids and back. Not thread-safe: one owner asks."""

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
                raise NewerSchemaError(f"schema id {schema_id} is from another release: upgrade this one") from None
            raise UnknownSchemaError(f"schema id {schema_id} is none of the {len(self._texts)} known here") from None


class RegistrySchemas:
    """Ids from a Schema Registry (Confluent's HTTP interface), cached in `<cache_dir>/schemas.json`.

    Records from before the registry was configured carry ids derived from the files; they stay readable.
    """

    def __init__(self, url: str, cache_dir: Path, topic: str) -> None:
        conf = {"url": url, "timeout": _TIMEOUT_S, "max.retries": 1, "retries.wait.ms": 100}
        self._client = SchemaRegistryClient(conf)
        self._local = LocalSchemas()
        self._subject = f"{topic}-value"
        self._path = cache_dir / "schemas.json"
        self._ids: dict[str, int] = {}
        self._texts: dict[int, str] = {}
        self._read_cache()

    def id_of(self, schema: str) -> int:
        """Return the registry's id of `schema` under `<topic>-value`; registers it there when it is new."""
        known = self._ids.get(self._name(schema))
        if known is not None:
            return known
        schema_id = self._register(schema)
        self._ids[self._name(schema)] = schema_id
        self._texts[schema_id] = schema
        self._write_cache()
        return schema_id

    def schema_of(self, schema_id: int) -> str:
        """Return the text of a schema, from the cache, the files or the registry, in that order."""
        if is_local(schema_id):
            return self._local.schema_of(schema_id)
        if schema_id not in self._texts:
            self._texts[schema_id] = self._fetch(schema_id)
            self._write_cache()
        return self._texts[schema_id]

    def _name(self, schema: str) -> str:
        return f"{self._subject}/{local_schema_id(schema)}"

    def _register(self, schema: str) -> int:
        try:
            return self._client.register_schema(self._subject, Schema(schema, "AVRO"))
        except SchemaRegistryError as error:
            if error.http_status_code in {409, 422}:  # incompatible, invalid
                raise ValueError(f"the registry refuses the schema for {self._subject}: {error}") from error
            raise RegistryAwayError(f"the registry answers {error.http_status_code}") from error
        except Exception as error:  # the client lets the errors of its HTTP library through
            raise RegistryAwayError(f"the registry does not answer: {type(error).__name__}") from error

    def _fetch(self, schema_id: int) -> str:
        try:
            text = self._client.get_schema(schema_id).schema_str
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND:
                raise UnknownSchemaError(f"schema id {schema_id} is not in the registry") from error
            raise RegistryAwayError(f"the registry answers {error.http_status_code}") from error
        except Exception as error:  # the client lets the errors of its HTTP library through
            raise RegistryAwayError(f"the registry does not answer: {type(error).__name__}") from error
        if text is None:
            raise UnknownSchemaError(f"schema id {schema_id} has no text in the registry")
        return text

    def _read_cache(self) -> None:
        try:
            cache = json.loads(self._path.read_text("utf-8"))
            self._ids = dict(cache["ids"])
            self._texts = {int(schema_id): text for schema_id, text in cache["texts"].items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return  # an absent or broken cache is an empty one: the registry is asked

    def _write_cache(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({"ids": self._ids, "texts": self._texts}), "utf-8")
        draft.replace(self._path)


def open_schemas(registry_url: str, cache_dir: Path, topic: str) -> Schemas:
    """Return the registry's ids when a URL is set, else those of the files."""
    return RegistrySchemas(registry_url, cache_dir, topic) if registry_url else LocalSchemas()
