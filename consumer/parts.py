"""Makes the parts of a worker and of the commands from settings: connections, properties, schemas, paces."""

from pathlib import Path
from typing import Final

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.layout import Layout
from consumer.clickhouse.migrations import tables
from consumer.errors import Misconfigured
from consumer.kafka.properties import OWNED, PINNED, PRODUCER_PINNED, reading
from consumer.operations.erasure_key import ErasureKey
from consumer.settings import PREFIX, Settings, clickhouse_access, registry_access
from schemas.registry import Schemas, open_schemas
from schemas.transport.librdkafka import read_properties, verify

_EARLY_S_MIN: Final = 0.25


def connect(settings: Settings, database: str | None = None) -> Connection:
    """Return a connection to ClickHouse, opened at first use; `database` overrides the settings'."""
    access = clickhouse_access(settings)
    try:
        access.check_files()
        password = access.password()
    except ValueError as error:
        raise Misconfigured(str(error)) from error
    database = settings.clickhouse_database if database is None else database
    return Connection(
        access.url,
        access.user,
        password,
        database,
        settings.insert_timeout_s,
        tls=access.tls,
        layout=layout_of(settings),
    )


def layout_of(settings: Settings) -> Layout:
    """Return how the tables lie on ClickHouse's servers."""
    is_replicated = settings.clickhouse_replicated and bool(settings.clickhouse_cluster)
    return Layout(settings.clickhouse_cluster, is_replicated, tables(), settings.insert_quorum)


def kafka_properties(settings: Settings) -> dict[str, str | int]:
    """Return the librdkafka properties that every client of this service shares.

    Raises:
        Misconfigured: the properties file can't be read, or librdkafka refuses a property.
    """
    ours: dict[str, str | int] = {"bootstrap.servers": settings.bootstrap_servers, "client.id": "headrace-consumer"}
    allow = "" if settings.allow_plaintext_logins else f"{PREFIX}ALLOW_PLAINTEXT_LOGINS"
    try:
        properties = read_properties(settings.kafka_config_file, OWNED) | ours
        verify({**properties, **PINNED, **PRODUCER_PINNED}, allow)
    except ValueError as error:
        raise Misconfigured(f"{PREFIX}KAFKA_CONFIG_FILE: {error}") from error
    return properties


def member_properties(settings: Settings) -> dict[str, str | int]:
    """Return the librdkafka properties of the group's member."""
    properties: dict[str, str | int] = {
        "fetch.wait.max.ms": 100,
        "socket.timeout.ms": 10_000,  # an unanswered commit to a broken broker delays rejoining the group
        **reading(kafka_properties(settings)),
        "group.id": settings.group_id,
        "group.protocol": settings.group_protocol,
        "max.poll.interval.ms": settings.max_poll_interval_ms,
    }
    if settings.group_instance_id:
        properties["group.instance.id"] = settings.group_instance_id
    if settings.group_protocol == "classic":  # with KIP-848 the broker decides these
        properties |= {
            "partition.assignment.strategy": settings.assignor,
            "session.timeout.ms": settings.session_timeout_ms,
            "heartbeat.interval.ms": settings.heartbeat_interval_ms,
        }
    return properties


def find_schemas(settings: Settings) -> Schemas:
    """Return the source of schema ids.

    Raises:
        Misconfigured: a file of the registry's settings can't be used.
    """
    try:
        return open_schemas(registry_access(settings), Path(settings.schema_cache_dir), settings.topic)
    except ValueError as error:
        raise Misconfigured(str(error)) from error


def erasure_key(settings: Settings) -> ErasureKey | None:
    """Return the key of the hashes of erased people; None when none is set.

    Raises:
        Misconfigured: its file can't be read, or the key is too short.
    """
    if not settings.erasure_key_file:
        return None
    try:
        return ErasureKey(Path(settings.erasure_key_file).read_bytes().strip())
    except OSError as error:
        raise Misconfigured(f"{PREFIX}ERASURE_KEY_FILE: can't be read: {error.strerror}") from error


def targets(settings: Settings) -> tuple[Target, Target]:
    """Return the tables of events and dead letters."""
    return (
        Target("events", "event", settings.topic, settings.insert_timeout_s),
        Target("dead_letters", "dead_letter", settings.dead_letter_topic, settings.insert_timeout_s),
    )


def pace(settings: Settings, partitions: int = 1) -> InsertPace:
    """Return how fast inserts into the tables may be, with so many partitions in both topics."""
    session_s = settings.session_timeout_ms / 1000
    return InsertPace(partitions, early_s(settings, partitions), settings.insert_timeout_s, session_s)


def early_s(settings: Settings, partitions: int) -> float:
    """Return the time between early batches of a partition, with so many partitions in both topics."""
    if not settings.early_inserts_per_s_max:
        return settings.batch_age_s_max
    return min(settings.batch_age_s_max, max(_EARLY_S_MIN, partitions / settings.early_inserts_per_s_max))
