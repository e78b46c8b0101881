"""The ingress's settings: environment variables INGEST_<NAME>, read once at start.

A secret is the path of a file. An unknown INGEST_ variable, a value out of bounds or of the wrong type stops the start
with the variable's name.
"""

from collections.abc import Iterator, Mapping
from re import fullmatch
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ingest.access.origins import read_origins
from ingest.http.client_ip import Privacy, read_networks
from ingest.logs import LINES_PER_S
from ingest.memory import bytes_of_body, bytes_of_records
from schemas.transport.access import Access
from schemas.transport.librdkafka import check_servers
from schemas.transport.tls import Tls

PREFIX: Final = "INGEST_"
_STORE_SCHEMES: Final = ("redis", "rediss", "unix")
_QUEUED_BYTES: Final = 1024  # of each record beside its value: librdkafka's bookkeeping (512), key and headers
_CA: Final = "file of the only CA certificates to trust there (PEM); empty: the system's"
_CERTIFICATE: Final = "file of the client certificate to present (PEM); empty: none"
_KEY: Final = "file of its key (PEM, not encrypted); empty: the certificate's file has it"

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]  # a day: more, or infinity, is a mistake


def _says(doc: str) -> Meta:
    return Meta(description=doc)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ingress's settings. Names end in their units; each default has its reason beside it."""

    bootstrap_servers: Annotated[Text, _says("Kafka brokers, host:port, comma-separated")]
    topic: Annotated[Text, _says("topic of the events")] = "events"
    dead_letter_topic: Annotated[Text, _says("topic of refused events")] = "events.dead"
    kafka_config_file: Annotated[str, _says("file of more librdkafka properties (TLS, SASL), key=value")] = ""
    environment: Annotated[Literal["sandbox", "production"], _says("written into each event")] = "sandbox"
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
    # Anybody on the network path could read them. Between containers of one host there is nobody.
    allow_plaintext_logins: Annotated[bool, _says("allow sending passwords to other machines without TLS")] = False

    host: Annotated[Text, _says("address to listen on")] = "0.0.0.0"
    port: Annotated[int, Meta(ge=1, le=65535), _says("port to listen on")] = 8080
    # The public port then has no /metrics. Same address as the public port: keep the public out with a firewall.
    operations_port: Annotated[
        int, Meta(ge=0, le=65535), _says("port of /metrics, /healthz and /readyz; 0: the public one")
    ] = 0
    # With one process the default rate limit is exact. Set it to the number of cores on larger machines.
    workers: Annotated[Count, _says("gunicorn worker processes")] = 1
    gunicorn_config: Annotated[Text, _says("gunicorn's configuration file")] = "deploy/gunicorn.conf.py"
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], _says("lowest level to log")] = "INFO"
    # An idle connection takes about 10 KB and one open file.
    connections_max: Annotated[Count, _says("connections to each worker process; then an idle one goes")] = 10_000
    # Longer than a balancer keeps it (nginx, AWS, HAProxy: 60 s; Google: 600 s), or its clients get 502 now and then.
    keepalive_s: Annotated[Seconds, _says("a connection without a request is closed after this time")] = 75.0
    # The event loop handles small bodies itself.
    threads: Annotated[Count, _says("threads for large bodies in each worker process")] = 2
    # Python alone makes the same records, for half as much processor time again.
    compiled: Annotated[
        bool, _says("write plain events with compiled code, where the installation could compile it")
    ] = True

    # A slow phone sends its body in a few seconds.
    receive_timeout_s: Annotated[Seconds, _says("time for a request's head to arrive, and then for its body")] = 15.0

    # Ten refused requests a second show what is going on, and are 300 MB a day at most.
    log_lines_per_s: Annotated[Count, _says("log lines of one kind per second; more are suppressed and counted")] = (
        LINES_PER_S
    )
    # The lines help to explain single requests. Without them the metrics still count every refusal.
    log_refusals: Annotated[bool, _says("log a line for each refused request")] = True

    # Trusting X-Forwarded-For from any peer would let clients choose their address.
    trusted_proxies: Annotated[str, _says("CIDRs of proxies whose X-Forwarded-For is trusted, comma-separated")] = ""
    ip_privacy: Annotated[Privacy, _says("how much of an address rows keep; truncated: its /24 or /48")] = "full"
    # A person set the signal; only the operator may decide to ignore it.
    honour_privacy_signals: Annotated[bool, _says("on Sec-GPC: 1 or DNT: 1, keep no address and no User-Agent")] = True
    # Any origin, because answers hold nothing secret and no cookie is read.
    allowed_origins: Annotated[str, _says('origins whose pages may read answers, comma-separated; "*" is any')] = "*"

    # Open, as the API's specification says; with a registry every request needs a key.
    clients_file: Annotated[str, _says("client registry (TOML); empty: open to everybody")] = ""
    # The API's specification says a thousand a minute.
    rate_limit_requests: Annotated[int, Meta(ge=0), _says("requests per client and window; 0: no limit at all")] = 1000
    # Two hundred full requests; 250 readers with a PING every 15 s send a thousand events a minute.
    rate_limit_events: Annotated[int, Meta(ge=0), _says("events per client and window; 0: no limit")] = 100_000
    # 2.7 KB for each of those events: 4.5 MB a second to the broker from one address.
    rate_limit_bytes: Annotated[int, Meta(ge=0), _says("bytes of events per client and window; 0: no limit")] = (
        256 * 1024**2
    )
    rate_limit_window_s: Annotated[Count, _says("length of the rate limit's window")] = 60
    rate_limit_store_url: Annotated[
        str,
        _says(
            "Redis-compatible store that counts for all processes, redis(s)://host:port/database or unix:///file;"
            " empty: each process counts for itself"
        ),
    ] = ""
    rate_limit_store_user: Annotated[str, _says("user of the store; empty: its default user")] = ""
    rate_limit_store_password_file: Annotated[str, _says("file with the store's password")] = ""
    rate_limit_store_ca_file: Annotated[str, _says(_CA)] = ""
    rate_limit_store_certificate_file: Annotated[str, _says(_CERTIFICATE)] = ""
    rate_limit_store_key_file: Annotated[str, _says(_KEY)] = ""
    # An answer takes about 6 ms; a store that takes as long would double that.
    rate_limit_store_timeout_ms: Annotated[Count, _says("how long a request waits for the store")] = 5

    # After 5 s a browser has often left; the broker's own retries fit in.
    answer_deadline_s: Annotated[Seconds, _says("how long a request waits for the broker")] = 5.0
    # Not above the deadline: an event that was answered 503 could be delivered later.
    delivery_timeout_ms: Annotated[Count, _says("librdkafka's message.timeout.ms")] = 4500
    # Each answer waits about this long; 3 ms collect the events of concurrent requests into one batch.
    linger_ms: Annotated[int, Meta(ge=0, le=1000), _says("librdkafka's linger.ms")] = 3
    # Per worker process. Eight of the largest requests; at least one must fit.
    queue_bytes_max: Annotated[Count, _says("bytes awaiting acknowledgement; more get 503")] = 64 * 1024**2
    # A normal acknowledgement takes about 6 ms; after a few this slow the breaker opens. For a distant broker allow a
    # few round trips: at 500 ms and 25 requests a second, acknowledgements took up to 1.2 s.
    ack_slow_s: Annotated[Seconds, _says("slower acknowledgements count as broker failures")] = 1.0

    # On a disk that outlives the process and, in a cluster, the pod: see docs/OPERATIONS.md.
    spool_dir: Annotated[Text, _says("directory of events that the broker has not acknowledged")] = (
        "/var/lib/headrace/spool"
    )
    # About three million events of 500 bytes: one hour of outage at 800 events a second.
    spool_bytes_max: Annotated[Count, _says("size of the spool, over all processes of the directory")] = 2 * 1024**3
    # For other users of the disk. Never 0: a database on a full disk can't even delete.
    spool_free_bytes_min: Annotated[int, Meta(ge=16 * 1024**2), _says("disk space that the spool leaves free")] = (
        256 * 1024**2
    )
    # An fsync takes milliseconds; a disk that needs this long is failing.
    spool_deadline_s: Annotated[Seconds, _says("how long a request waits for the spool")] = 2.0
    # Faster would starve live requests; this drains 800,000 events in 7 minutes.
    drain_events_per_s: Annotated[Count, _says("highest rate at which the spool is sent to the broker")] = 2000

    # At 5,000 requests a second they are 0.2 s of work: longer queues are better refused at once.
    requests_max: Annotated[Count, _says("requests in flight in each worker process; more get 503")] = 1000
    # A tenth of the default deadline: a longer queue only adds delay.
    queue_wait_s: Annotated[Seconds, _says("a request that waited longer for the event loop gets 503")] = 0.5
    # A load balancer needs about this long to see /readyz fail and to stop sending.
    shutdown_grace_s: Annotated[
        float, Meta(ge=0, le=86_400), _says("how long requests are still accepted after SIGTERM")
    ] = 5.0

    # A product's own event types and fields; the project's catalogue stays unchanged.
    catalogue_file: Annotated[str, _says("file of additional event types and fields (TOML); empty: none")] = ""
    events_max: Annotated[Count, _says("events in one request")] = 500
    body_bytes_max: Annotated[Count, _says("bytes of a request body as sent")] = 1024 * 1024
    # Five times the body as sent: text compresses about that well.
    inflated_bytes_max: Annotated[Count, _says("bytes of a request body after decompression")] = 5 * 1024 * 1024
    event_bytes_max: Annotated[Count, _says("bytes of one event")] = 256 * 1024
    headers_bytes_max: Annotated[Count, _says("bytes of messageHeaders, which are copied into every event")] = 16 * 1024
    depth_max: Annotated[int, Meta(ge=4, le=500), _says("nesting levels of a request's JSON")] = 32
    # 200 for each of 500 events. The most expensive values, nested objects, take 0.4 us and 180 bytes each.
    nodes_max: Annotated[Count, _says("JSON values in one request")] = 100_000
    # The largest events seen have about 60.
    members_max: Annotated[Count, _says("members of one event, nested ones included")] = 1000
    # All events of one page together have a few hundred.
    paths_max: Annotated[Count, _says("distinct member names in the events of one request, nested ones included")] = (
        2000
    )
    # 4 KB for each of 500 events; headers and User-Agent usually have about 500 bytes.
    copied_bytes_max: Annotated[
        Count, _says("bytes of messageHeaders and User-Agent, summed over the events they are copied into")
    ] = 2 * 1024**2
    # Two of the largest requests at once; ordinary ones of 10 KB take about 200 KB each.
    memory_bytes_max: Annotated[
        Count, _says("estimated memory of all requests in progress in each worker process; more get 503")
    ] = 128 * 1024**2
    # Phones send what they collected offline; a month covers a holiday.
    clock_past_s_max: Annotated[Count, _says("an older client timestamp is ignored")] = 30 * 24 * 3600
    # An event can't happen after it was received; five minutes allow for a clock that runs ahead.
    clock_future_s_max: Annotated[Count, _says("a client timestamp further ahead is ignored")] = 300


def load(environ: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        ValueError: names the first wrong variable and the reason.
    """
    given = {name.removeprefix(PREFIX).lower(): text for name, text in environ.items() if name.startswith(PREFIX)}
    try:
        settings = msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(_named(str(error))) from error
    _check_lists(settings)
    for fault in _server_faults(settings):
        raise ValueError(fault)
    try:
        check_servers(settings.bootstrap_servers)
    except ValueError as error:
        raise ValueError(f"{PREFIX}BOOTSTRAP_SERVERS: {error}") from error
    if settings.operations_port == settings.port:
        raise ValueError(f"{PREFIX}OPERATIONS_PORT ({settings.port}) must not be {PREFIX}PORT; 0 is the public one")
    _check_times_and_sizes(settings)
    return settings


def _check_times_and_sizes(settings: Settings) -> None:
    if settings.delivery_timeout_ms > settings.answer_deadline_s * 1000:
        raise ValueError(
            f"{PREFIX}DELIVERY_TIMEOUT_MS ({settings.delivery_timeout_ms}) must not exceed "
            f"{PREFIX}ANSWER_DEADLINE_S ({settings.answer_deadline_s} s): a failed event could arrive later"
        )
    for name, least, what in (
        ("QUEUE_BYTES_MAX", _largest_in_queue(settings), "the largest request as records"),
        ("MEMORY_BYTES_MAX", _largest_in_memory(settings), "what the largest request takes"),
    ):
        given = getattr(settings, name.lower())
        if given < least:
            raise ValueError(f"{PREFIX}{name} ({given}) must not be below {what} ({least})")


def _largest_in_queue(settings: Settings) -> int:
    return settings.inflated_bytes_max + settings.copied_bytes_max + settings.events_max * _QUEUED_BYTES


def _largest_in_memory(settings: Settings) -> int:
    body = settings.body_bytes_max + 2 * settings.inflated_bytes_max  # as sent, and in pieces during decompression
    objects = bytes_of_body(settings.inflated_bytes_max, settings.nodes_max)
    records = bytes_of_records(settings.events_max, settings.inflated_bytes_max + settings.copied_bytes_max)
    return body + objects + records


def finish_s(settings: Settings) -> float:
    """Return how long a request in flight may still take (s): its body, the broker's deadline, the spool's."""
    return settings.receive_timeout_s + settings.answer_deadline_s + settings.spool_deadline_s


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


def store_access(settings: Settings) -> Access:
    """Return how to reach the rate limit's store."""
    files = (
        settings.rate_limit_store_ca_file,
        settings.rate_limit_store_certificate_file,
        settings.rate_limit_store_key_file,
    )
    tls = Tls(f"{PREFIX}RATE_LIMIT_STORE_", *files)
    user, password_file = settings.rate_limit_store_user, settings.rate_limit_store_password_file
    return Access(settings.rate_limit_store_url, user, password_file, tls)


def _server_faults(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with the servers' settings; each sentence begins with the variable's name."""
    allow = "" if settings.allow_plaintext_logins else f"{PREFIX}ALLOW_PLAINTEXT_LOGINS"
    faults = (
        registry_access(settings).fault(("http", "https"), allow, several=True),
        store_access(settings).fault(_STORE_SCHEMES, allow),
    )
    yield from filter(None, faults)
    if bool(settings.schema_registry_user) is not bool(settings.schema_registry_password_file):
        yield f"{PREFIX}SCHEMA_REGISTRY_USER: needs {PREFIX}SCHEMA_REGISTRY_PASSWORD_FILE, and the other way round"
    if settings.rate_limit_store_user and not settings.rate_limit_store_password_file:
        yield f"{PREFIX}RATE_LIMIT_STORE_USER: needs {PREFIX}RATE_LIMIT_STORE_PASSWORD_FILE"
    if not fullmatch(r"unix:.*|[^/]*(//[^/]+(/\d{0,5})?)?", settings.rate_limit_store_url):
        yield f"{PREFIX}RATE_LIMIT_STORE_URL: must end with the number of a database, or the port"


def _check_lists(settings: Settings) -> None:
    for name, text, read in (
        ("TRUSTED_PROXIES", settings.trusted_proxies, read_networks),
        ("ALLOWED_ORIGINS", settings.allowed_origins, read_origins),
    ):
        try:
            read(text)
        except ValueError as error:
            raise ValueError(f"{PREFIX}{name}: {error}") from error


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
