"""The checks of `headrace doctor` that ask the Schema Registry."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from consumer.settings import Settings, registry_access
from headrace.checks import Check, Level, Promise, transport
from schemas.codec import read_schema
from schemas.registry import RegistryAwayError, RegistrySchemas
from schemas.transport.access import read_url

_GOES_ON: Final = "services go on with the ids that they have cached; one without a cache does not start"


def registry_checks(settings: Settings) -> Iterator[Check]:
    """Yield whether the registry has this release's schema, under the id that this machine's services write.

    Raises:
        ValueError: a setting is wrong, or a file that it names.
    """
    access = registry_access(settings)
    if not access.url:
        says = "there is no Schema Registry: ids of schemas are derived from the schema files"
        yield Check(Promise.VERSIONS, Level.NOTE, says)
        return
    for text in access.url.split(","):
        url = read_url(text.strip(), ("http", "https"), "")
        setting = "CONSUMER_SCHEMA_REGISTRY_URL=https://…"
        yield transport("the Schema Registry", url.host, has_tls=url.has_tls, setting=setting)
    registry = RegistrySchemas(access, Path(settings.schema_cache_dir), settings.topic)
    yield _schema(registry, f"{settings.topic}-value")


def _schema(registry: RegistrySchemas, subject: str) -> Check:
    schema = read_schema("event")
    cached = registry.cached_id(schema)
    try:
        registered = registry.registered_id(schema)
    except RegistryAwayError as error:
        says = f"the Schema Registry can't be asked: {error}; {_GOES_ON}"
        return Check(Promise.OUTAGE, Level.UNKNOWN, says, "start it, or repair the way to it or the login")
    if cached is not None and registered != cached:
        has = "no id" if registered is None else f"the id {registered}"
        says = f"services here write events under the id {cached}, and the registry has {has} for that schema"
        cure = "restore the registry from its backup: ids on the topic are permanent"
        return Check(Promise.ONCE, Level.BROKEN, says, cure)
    if registered is None:
        says = f"the Schema Registry has no schema of this release under {subject} yet"
        return Check(Promise.ONCE, Level.WEAK, says, "start an ingress of this release: it registers the schema")
    says = f"the Schema Registry has the schema of this release under {subject}, with the id {registered}"
    return Check(Promise.ONCE, Level.HOLDS, says)
