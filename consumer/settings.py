"""The worker's settings: environment variables CONSUMER_<NAME>, read once at start.

A secret is the path of a file. An unknown CONSUMER_ variable, a value out of bounds or of the wrong type stops the
start with the variable's name.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from schemas.transport.access import Access, read_url
from schemas.transport.librdkafka import check_servers
from schemas.transport.tls import Tls

PREFIX: Final = "CONSUMER_"
SERVERS: Final = frozenset({"bootstrap_servers", "clickhouse_url"})
"""The settings that are addresses of servers, and have no default."""
_NOBODY: Final = {"bootstrap_servers": "nobody", "clickhouse_url": "http://nobody"}
_SCHEMES: Final = ("http", "https")

_CA: Final = "file of the only CA certificates to trust there (PEM); empty: the system's"
_CERTIFICATE: Final = "file of the client certificate to present (PEM); empty: none"
_KEY: Final = "file of its key (PEM, not encrypted); empty: the certificate's file has it"

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
_SECONDS_MAX: Final = 31_536_000.0  # a year: more, or infinity, is a mistake, and timers can't take it
Seconds = Annotated[float, Meta(gt=0, le=_SECONDS_MAX)]
_DAYS_MAX: Final = 3650  # the moment at which a row expires must be one that ClickHouse's DateTime can hold
Days = Annotated[int, Meta(ge=0, le=_DAYS_MAX)]


def _says(doc: str) -> Meta:
    return Meta(description=doc)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The worker's settings. Names end in their units; each default has its reason beside it."""

    bootstrap_servers: Annotated[Text, _says("Kafka brokers, host:port, comma-separated")]
    topic: Annotated[Text, _says("topic of the events")] = "events"
    dead_letter_topic: Annotated[Text, _says("topic of dead letters")] = "events.dead"
    kafka_config_file: Annotated[str, _says("file of more librdkafka properties (TLS, SASL), key=value")] = ""
    group_id: Annotated[Text, _says("consumer group")] = "headrace"
    # Static membership: a worker that restarts within the session keeps its partitions, without a rebalance.
    group_instance_id: Annotated[str, _says("name of a static member; empty: dynamic membership")] = ""
    group_protocol: Annotated[Literal["classic", "consumer"], _says("consumer: KIP-848, Kafka 4.0 and later")] = (
        "classic"
    )
    # Every broker knows range; cooperative-sticky stops only the partitions that move.
    assignor: Annotated[Literal["range", "cooperative-sticky"], _says("assignor of the classic protocol")] = "range"
    # Long enough for a pause of the machine, short enough that a dead worker's partitions move soon.
    session_timeout_ms: Annotated[int, Meta(ge=1000), _says("a silent member is expelled after this")] = 30_000
    # Short, because the embedded broker forms a group only as fast as its members send heartbeats.
    heartbeat_interval_ms: Annotated[int, Meta(ge=100), _says("heartbeats of the classic protocol")] = 500
    max_poll_interval_ms: Annotated[int, Meta(ge=10_000), _says("a member that polls less often is expelled")] = 300_000
    schema_registry_url: Annotated[
        str,
        _says("Schema Registry, http(s)://host:port, or several; empty: ids are derived from the schema files"),
    ] = ""
    schema_registry_user: Annotated[str, _says("user of the registry; empty: none")] = ""
    schema_registry_password_file: Annotated[str, _says("file with that user's password")] = ""
    schema_registry_ca_file: Annotated[str, _says(_CA)] = ""
    schema_registry_certificate_file: Annotated[str, _says(_CERTIFICATE)] = ""
    schema_registry_key_file: Annotated[str, _says(_KEY)] = ""
    schema_cache_dir: Annotated[Text, _says("cache of registry answers")] = "/var/lib/headrace/schemas"

    clickhouse_url: Annotated[
        Text,
        _says("ClickHouse's HTTP interface, http(s)://host:port/path, or several: the next when one gives no answer"),
    ]
    clickhouse_cluster: Annotated[
        str,
        Meta(pattern="^[A-Za-z0-9_.-]*$"),
        _says("cluster in ClickHouse's configuration, over whose shards the tables lie; empty: no shards"),
    ] = ""
    # Without it a lost disk is lost data, and a killed server's rows are put back by workers.
    clickhouse_replicated: Annotated[
        bool,
        _says("the cluster's tables are Replicated, made ON CLUSTER (needs Keeper); false: plain, made host by host"),
    ] = True
    # What one replica alone has acknowledged is lost with its disk.
    insert_quorum: Annotated[
        str,
        Meta(pattern="^(0|auto|[1-9][0-9]?)$"),
        _says("replicas that must have a batch before it counts as inserted; auto: a majority; 0: one"),
    ] = "0"
    clickhouse_database: Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$"), _says("database of the tables")] = (
        "headrace"
    )
    # Which day an event belongs to depends on where the business is.
    time_zone: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_+/-]+$"), _says("time zone of days in the views")] = "UTC"
    # Nothing is deleted unless somebody has decided how long it is needed, or may be kept. A `migrate` that lacks the
    # variables changes nothing: it may run in another place than the one that had them.
    events_days: Annotated[
        Days | None, _says("days that rows of events stay after received_at; 0: for ever; none: as it is")
    ] = None
    dead_letters_days: Annotated[
        Days | None, _says("days that rows of dead_letters stay; 0: for ever; none: as it is")
    ] = None
    ip_days: Annotated[
        Days | None, _says("days that events keep the column ip after received_at; 0: as the row; none: as it is")
    ] = None
    clickhouse_user: Annotated[Text, _says("ClickHouse user")] = "default"
    clickhouse_password_file: Annotated[str, _says("file with that user's password; empty: none")] = ""
    clickhouse_ca_file: Annotated[str, _says(_CA)] = ""
    # Without a password it also authenticates the user (ClickHouse's ssl_certificate users).
    clickhouse_certificate_file: Annotated[str, _says(_CERTIFICATE)] = ""
    clickhouse_key_file: Annotated[str, _says(_KEY)] = ""
    # Anybody on the network path could read them. Between containers of one host there is nobody.
    allow_plaintext_logins: Annotated[bool, _says("allow sending passwords to other machines without TLS")] = False
    # Below max_poll_interval_ms, so that one slow insert does not cost the partitions.
    insert_timeout_s: Annotated[Seconds, _says("an unanswered insert is retried after this")] = 60.0
    # One insert per partition at a time; this many partitions at once.
    insert_threads: Annotated[Count, _says("concurrent inserts and preparations")] = 4

    # An insert must be one block: ClickHouse splits at 1,048,449 rows and 256 MiB. 100,000 usual events are 95 MiB.
    batch_rows_max: Annotated[int, Meta(ge=1, le=1_000_000), _says("a batch closes at this many rows")] = 100_000
    batch_bytes_max: Annotated[int, Meta(ge=1, le=200 * 1024 * 1024), _says("or at this many bytes")] = 96 * 1024 * 1024
    # An event can be selected about this long after its 201; a longer time makes fewer, larger parts.
    batch_age_s_max: Annotated[Seconds, _says("or when its oldest record has waited this long")] = 1.0
    # An insert costs ClickHouse about 50 ms of a core, however few its rows: twelve are 0.6 of one. Five partitions
    # (four of events, one of dead letters) then close every 0.42 s.
    early_inserts_per_s_max: Annotated[
        float,
        Meta(ge=0, le=1000),
        _says("close batches before that age while all workers' inserts stay below this many a second; 0: never"),
    ] = 12.0
    waiting_bytes_max: Annotated[Count, _says("memory for records; above it partitions are paused")] = 256 * 1024 * 1024
    # A rebalance waits for inserts in flight at most this long; the intent covers the rest.
    revoke_s_max: Annotated[Seconds, _says("how long a rebalance waits for inserts in flight")] = 10.0
    # Orchestrators kill after 30 s; leaving a group whose broker is away takes 5 s.
    drain_s_max: Annotated[Seconds, _says("time to insert what was read when stopping")] = 20.0
    # Several workers on one host need one port each.
    http_host: Annotated[Text, _says("address of /metrics, /healthz and /readyz")] = "0.0.0.0"
    http_port: Annotated[int, Meta(ge=0, le=65_535), _says("port of /metrics, /healthz and /readyz; 0: none")] = 0
    # Long enough to upgrade forgotten workers; replay brings back records that became dead letters all the same.
    unknown_schema_s: Annotated[
        float, Meta(ge=0, le=_SECONDS_MAX), _says("how long to wait with records whose schema may be a newer release's")
    ] = 300.0
    # Longer than one insert may take: an insert is progress too.
    stall_s: Annotated[Seconds, _says("/healthz fails when a worker that is behind makes no progress for this")] = 180.0
    # Not in the database: ids could be tried against the hashes.
    erasure_key_file: Annotated[
        str, _says("file with the key of the hashes that `erase` keeps; empty: it can't erase")
    ] = ""
    # Often enough to notice a loss within the hour, seldom enough to cost nothing.
    audit_every_s: Annotated[
        float, Meta(ge=0, le=_SECONDS_MAX), _says("seconds between audits of the worker's partitions; 0: none")
    ] = 300.0
    # Each beat is one small insert: 50 workers make five a second.
    heartbeat_every_s: Annotated[
        float,
        Meta(ge=0, le=_SECONDS_MAX),
        _says("seconds between heartbeats, which say how far tables are complete; 0: none"),
    ] = 10.0
    # Above the ingress's RECEIVE_TIMEOUT_S and ANSWER_DEADLINE_S together, and what the machines' clocks differ.
    arrival_s_max: Annotated[
        float,
        Meta(ge=0, le=_SECONDS_MAX),
        _says("an event that was not spooled is in Kafka this long after its receipt"),
    ] = 30.0
    # The canary's own; workers do not read them.
    canary_url: Annotated[str, _says("collector that `canary` sends to, http(s)://host:port/path")] = ""
    canary_key_file: Annotated[str, _says("file with the canary's API key; empty: none is needed")] = ""
    canary_ca_file: Annotated[str, _says(_CA)] = ""
    # Twelve a minute: an alarm within minutes can tell a few late events from all of them.
    canary_every_s: Annotated[Seconds, _says("seconds between the canary's events")] = 5.0
    # Longer than a restart of ClickHouse or a rebalance; what takes longer is no delay any more.
    canary_patience_s: Annotated[Seconds, _says("an event without a row for this long counts as late")] = 300.0
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], _says("lowest level logged")] = "INFO"


def load(environ: Mapping[str, str], needed: Collection[str] = SERVERS) -> Settings:
    """Read the settings.

    Args:
        environ: the variables.
        needed: those of SERVERS that the command connects to; the other addresses may be missing.

    Raises:
        ValueError: names the first wrong variable and the reason.
    """
    given = {name.removeprefix(PREFIX).lower(): text for name, text in environ.items() if name.startswith(PREFIX)}
    for name in SERVERS - frozenset(needed):
        given[name] = given.get(name) or _NOBODY[name]
    try:
        settings = msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(_named(str(error))) from error
    for fault in _faults(settings):
        raise ValueError(f"{PREFIX}{fault}")
    for fault in _server_faults(settings):
        raise ValueError(fault)
    return settings


def _faults(settings: Settings) -> Iterator[str]:
    """Yield the contradictions between settings."""
    poll_ms, session_ms = settings.max_poll_interval_ms, settings.session_timeout_ms
    if settings.insert_timeout_s * 1000 >= poll_ms:
        yield (
            f"INSERT_TIMEOUT_S ({settings.insert_timeout_s}) must be below "
            f"{PREFIX}MAX_POLL_INTERVAL_MS ({poll_ms} ms): a slow insert costs the partitions"
        )
    if settings.insert_timeout_s >= settings.stall_s:
        yield (
            f"STALL_S ({settings.stall_s}) must be above "
            f"{PREFIX}INSERT_TIMEOUT_S ({settings.insert_timeout_s}): a running insert is progress"
        )
    if settings.group_protocol == "classic" and session_ms > poll_ms:
        yield f"SESSION_TIMEOUT_MS ({session_ms}) must not be above {PREFIX}MAX_POLL_INTERVAL_MS ({poll_ms})"
    if settings.group_protocol == "classic" and settings.heartbeat_interval_ms * 3 > session_ms:
        yield (
            f"HEARTBEAT_INTERVAL_MS ({settings.heartbeat_interval_ms}) must be at most a third of "
            f"{PREFIX}SESSION_TIMEOUT_MS ({session_ms}): a lost heartbeat costs the partitions"
        )
    try:
        check_servers(settings.bootstrap_servers)
    except ValueError as error:
        yield f"BOOTSTRAP_SERVERS: {error}"
    if settings.dead_letter_topic == settings.topic:
        yield f"DEAD_LETTER_TOPIC must not be {PREFIX}TOPIC ({settings.topic}): a dead letter is no event"


def clickhouse_access(settings: Settings) -> Access:
    """Return how to reach ClickHouse."""
    files = (settings.clickhouse_ca_file, settings.clickhouse_certificate_file, settings.clickhouse_key_file)
    tls = Tls(f"{PREFIX}CLICKHOUSE_", *files)
    return Access(settings.clickhouse_url, settings.clickhouse_user, settings.clickhouse_password_file, tls)


def settings_at(settings: Settings, url: str) -> Settings:
    """Return the same settings for another ClickHouse, which they take for a single server.

    Raises:
        ValueError: the address can't be used.
    """
    other = msgspec.structs.replace(settings, clickhouse_url=url, clickhouse_cluster="")
    for fault in _server_faults(other):
        raise ValueError(fault.partition(": ")[2])
    return other


def registry_access(settings: Settings) -> Access:
    """Return how to reach the Schema Registry."""
    files = (
        settings.schema_registry_ca_file,
        settings.schema_registry_certificate_file,
        settings.schema_registry_key_file,
    )
    tls = Tls(f"{PREFIX}SCHEMA_REGISTRY_", *files)
    user, password_file = settings.schema_registry_user, settings.schema_registry_password_file
    return Access(settings.schema_registry_url, user, password_file, tls, takes_proxies=True)


def canary_access(settings: Settings) -> Access:
    """Return how the canary reaches the collector; its key is sent like a password."""
    tls = Tls(f"{PREFIX}CANARY_", settings.canary_ca_file)
    return Access(settings.canary_url, tls=tls)


def _server_faults(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with the servers' settings; each sentence begins with the variable's name."""
    allow = "" if settings.allow_plaintext_logins else f"{PREFIX}ALLOW_PLAINTEXT_LOGINS"
    faults = (
        clickhouse_access(settings).fault(_SCHEMES, allow, several=True),
        registry_access(settings).fault(_SCHEMES, allow, several=True),
        canary_access(settings).fault(_SCHEMES, allow),
        _key_fault(settings, allow),
    )
    yield from filter(None, faults)
    if bool(settings.schema_registry_user) is not bool(settings.schema_registry_password_file):
        yield f"{PREFIX}SCHEMA_REGISTRY_USER: needs {PREFIX}SCHEMA_REGISTRY_PASSWORD_FILE, and the other way round"


def _key_fault(settings: Settings, allow: str) -> str:
    """Return a sentence when the canary's key would be sent in clear text, else ""."""
    if not settings.canary_key_file or not allow:
        return ""
    url = read_url(settings.canary_url, _SCHEMES, f"{PREFIX}CANARY_KEY_FILE") if settings.canary_url else None
    if url is None or url.keeps_secrets:
        return ""
    return (
        f"{PREFIX}CANARY_URL: {url.scheme}:// would send the key to {url.address} without TLS; use https://, or set"
        f" {allow}=true where the network is trusted"
    )


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
