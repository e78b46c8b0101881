"""The settings of both services as the commands need them: a server without an address is unknown, and no mistake."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from consumer.settings import PREFIX, Settings, load, registry_access
from headrace.environment import Environment
from schemas.registry import Schemas, open_schemas

if TYPE_CHECKING:  # an image of the ingress has no driver of ClickHouse
    from consumer.clickhouse.client import Connection

_INGEST: Final = "INGEST_"
# A machine of the ingress has these settings, which mean the same to both services.
_SHARED: Final = (
    "BOOTSTRAP_SERVERS", "TOPIC", "DEAD_LETTER_TOPIC", "KAFKA_CONFIG_FILE", "ALLOW_PLAINTEXT_LOGINS",
    "SCHEMA_REGISTRY_URL", "SCHEMA_REGISTRY_USER", "SCHEMA_REGISTRY_PASSWORD_FILE", "SCHEMA_REGISTRY_CA_FILE",
    "SCHEMA_REGISTRY_CERTIFICATE_FILE", "SCHEMA_REGISTRY_KEY_FILE", "SCHEMA_CACHE_DIR",
)  # fmt: skip


def addresses(connection: "Connection") -> str:
    """Return where ClickHouse is asked, for a sentence."""
    return ", ".join(map(str, connection.urls))


class Services:
    """The variables of both services.

    Attributes:
        variables: as they were given.
        path: the file that they are from; "" for the environment.
    """

    def __init__(self, environment: Environment) -> None:
        self.variables, self.path = environment

    def consumer(self) -> Settings:
        """Return the workers' settings; what is missing there and shared is the ingress's. No address is needed.

        Raises:
            ValueError: names the first wrong variable and the reason.
        """
        given = self.variables
        shared = {f"{PREFIX}{name}": given[f"{_INGEST}{name}"] for name in _SHARED if given.get(f"{_INGEST}{name}")}
        return load(shared | {name: text for name, text in given.items() if text or name not in shared}, ())

    def missing(self, name: str) -> str:
        """Return a sentence when neither service has a setting, else ""; `name` has no prefix."""
        is_shared = name in _SHARED and self.variables.get(f"{_INGEST}{name}")
        return "" if self.variables.get(f"{PREFIX}{name}") or is_shared else f"{PREFIX}{name} is not set"

    def schemas(self) -> Schemas:
        """Return the source of schema ids.

        Raises:
            ValueError: a setting is wrong, or a file that it names.
        """
        settings = self.consumer()
        return open_schemas(registry_access(settings), Path(settings.schema_cache_dir), settings.topic)

    def spool_dir(self) -> Path:
        """Return the directory of the ingress's spool on this machine."""
        from ingest.settings import Settings as IngestSettings  # noqa: PLC0415  (only here)

        return Path(self.variables.get(f"{_INGEST}SPOOL_DIR") or IngestSettings(bootstrap_servers="none").spool_dir)
