"""The worker's settings: environment variables CONSUMER_<NAME>, read once at start.

A secret is the path of a file. An unknown CONSUMER_ variable, a bound not kept or a value of the wrong type stops the
start with the variable's name.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

PREFIX: Final = "CONSUMER_"

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
_SECONDS_MAX: Final = 31_536_000.0  # a year: more, or infinity, is a slip, and no clock takes it
Seconds = Annotated[float, Meta(gt=0, le=_SECONDS_MAX)]


def _says(doc: str) -> Meta:
    return Meta(description=doc)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units are in the names; each default has its reason beside it."""

    bootstrap_servers: Annotated[Text, _says("Kafka brokers, host:port, comma-separated")]
    topic: Annotated[Text, _says("topic of the events")] = "events"
    dead_letter_topic: Annotated[Text, _says("topic of refused records")] = "events.dead"
    kafka_config_file: Annotated[str, _says("file of further librdkafka properties (TLS, SASL), key=value")] = ""
    group_id: Annotated[Text, _says("consumer group")] = "headrace"
    # Static membership: a restart within the session keeps its partitions, without a rebalance.
    group_instance_id: Annotated[str, _says("static member name; empty: dynamic membership")] = ""
    group_protocol: Annotated[Literal["classic", "consumer"], _says("consumer is KIP-848, Kafka 4.0 and later")] = (
        "classic"
    )
    # Range is what every broker knows; cooperative-sticky keeps the partitions that stay in work.
    assignor: Annotated[Literal["range", "cooperative-sticky"], _says("of the classic protocol")] = "range"
    # Long enough for a pause of the machine, short enough that a dead worker's partitions move soon.
    session_timeout_ms: Annotated[int, Meta(ge=1000), _says("a silent member is expelled after this")] = 30_000
    # 500 ms, for the embedded broker forms a group only as fast as its members beat.
    heartbeat_interval_ms: Annotated[int, Meta(ge=100), _says("of the classic protocol")] = 500
    max_poll_interval_ms: Annotated[int, Meta(ge=10_000), _says("a member that does not poll is expelled")] = 300_000
    schema_registry_url: Annotated[
        str, Meta(pattern=r"^(https?://\S+)?$"), _says("Schema Registry; empty: ids come from the schema files")
    ] = ""
    schema_cache_dir: Annotated[Text, _says("where registry answers are kept")] = "/var/lib/headrace/schemas"

    # No query: the driver would take its parameters for its own, and for each insert's.
    clickhouse_url: Annotated[
        str, Meta(pattern=r"^https?://[^?#\s]+$"), _says("ClickHouse's HTTP interface, http(s)://host:port")
    ]
    clickhouse_database: Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$"), _says("database of the tables")] = (
        "headrace"
    )
    clickhouse_user: Annotated[Text, _says("user")] = "default"
    clickhouse_password_file: Annotated[str, _says("file that holds the password; empty: none")] = ""
    # Below max_poll_interval_ms, so that one slow insert does not cost the partitions.
    insert_timeout_s: Annotated[Seconds, _says("an insert without an answer is tried again after this")] = 60.0
    # One insert per partition at a time; these many partitions at once.
    insert_threads: Annotated[Count, _says("inserts and preparations at once")] = 4

    # An insert must be one block: ClickHouse splits at 1,048,449 rows and 256 MiB.
    batch_rows_max: Annotated[int, Meta(ge=1, le=1_000_000), _says("a batch closes at this many rows")] = 100_000
    batch_bytes_max: Annotated[int, Meta(ge=1, le=200 * 1024 * 1024), _says("or at this many bytes")] = 32 * 1024 * 1024
    # An event can be selected about this long after its 201; longer makes fewer, larger parts.
    batch_age_s_max: Annotated[Seconds, _says("or when its oldest record has waited this long")] = 1.0
    waiting_bytes_max: Annotated[Count, _says("memory for records; beyond it partitions are paused")] = (
        256 * 1024 * 1024
    )
    # A rebalance waits for inserts in flight at most this long; the intent covers the rest.
    revoke_s_max: Annotated[Seconds, _says("patience with inserts in flight in a rebalance")] = 10.0
    # With the 5 s for leaving a group whose broker is away, below the 30 s that orchestrators give before they kill.
    drain_s_max: Annotated[Seconds, _says("time to insert what was taken when stopping")] = 20.0
    # Behind a proxy or on a host of its own; several workers on one host need a port each.
    http_host: Annotated[Text, _says("address of /metrics, /healthz and /readyz")] = "0.0.0.0"
    http_port: Annotated[int, Meta(ge=0, le=65_535), _says("their port; 0: none")] = 0
    # Longer than one insert may take: it is progress too.
    stall_s: Annotated[Seconds, _says("/healthz fails when a worker that is behind stands still for so long")] = 180.0
    # Often enough to hear of a loss the same hour, seldom enough to cost nothing.
    audit_every_s: Annotated[
        float, Meta(ge=0, le=_SECONDS_MAX), _says("seconds between audits of its own partitions; 0: none")
    ] = 300.0
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], _says("lowest level logged")] = "INFO"


def load(environ: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        ValueError: the first variable at fault, by name, and why.
    """
    given = {name.removeprefix(PREFIX).lower(): text for name, text in environ.items() if name.startswith(PREFIX)}
    try:
        settings = msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(_named(str(error))) from error
    for fault in _faults(settings):
        raise ValueError(f"{PREFIX}{fault}")
    return settings


def _faults(settings: Settings) -> Iterator[str]:
    """Yield what can't be meant though each value by itself may be."""
    poll_ms, session_ms = settings.max_poll_interval_ms, settings.session_timeout_ms
    if settings.insert_timeout_s * 1000 >= poll_ms:
        yield (
            f"INSERT_TIMEOUT_S ({settings.insert_timeout_s}) must be below "
            f"{PREFIX}MAX_POLL_INTERVAL_MS ({poll_ms} ms): a slow insert costs the partitions"
        )
    if settings.insert_timeout_s >= settings.stall_s:
        yield (
            f"STALL_S ({settings.stall_s}) must be above "
            f"{PREFIX}INSERT_TIMEOUT_S ({settings.insert_timeout_s}): an insert under way is no standstill"
        )
    if settings.group_protocol == "classic" and session_ms > poll_ms:
        yield f"SESSION_TIMEOUT_MS ({session_ms}) must not be above {PREFIX}MAX_POLL_INTERVAL_MS ({poll_ms})"
    if settings.group_protocol == "classic" and settings.heartbeat_interval_ms * 3 > session_ms:
        yield (
            f"HEARTBEAT_INTERVAL_MS ({settings.heartbeat_interval_ms}) must be at most a third of "
            f"{PREFIX}SESSION_TIMEOUT_MS ({session_ms}): a lost heartbeat costs the partitions"
        )
    if settings.dead_letter_topic == settings.topic:
        yield f"DEAD_LETTER_TOPIC must not be {PREFIX}TOPIC ({settings.topic}): no dead letter is an event"
    for name, url in (
        ("CLICKHOUSE_URL", settings.clickhouse_url),
        ("SCHEMA_REGISTRY_URL", settings.schema_registry_url),
    ):
        if url and not all(map(_has_address, _without_login(url).split(","))):
            yield f"{name}: must name a host, and a port from 1 to 65535 if any"


def host_of(url: str) -> str:
    """Return host and port of a URL, without user and password."""
    return urlsplit(_without_login(url)).netloc


def _without_login(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def _has_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _named(message: str) -> str:
    """Turn msgspec's "… - at `$.port`" or "… field `prot`" into a sentence that starts with the variable's name."""
    reason, _, path = message.partition(" - at `$.")
    if path:
        return f"{PREFIX}{path.rstrip('`').upper()}: {reason}"
    for marker in ("missing required field `", "unknown field `"):
        if marker in message:
            name = message.split(marker)[1].rstrip("`")
            return f"{PREFIX}{name.upper()}: {'is required' if 'missing' in marker else 'there is no such setting'}"
    return message
