"""The ingress's settings: environment variables INGEST_<NAME>, read once at start.

A secret is the path of a file. An unknown INGEST_ variable, a bound not kept or a value of the wrong type stops the
start with the variable's name.
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
_CA: Final = "file of the only CA certificates that count there (PEM); empty: those of the system"
_CERTIFICATE: Final = "file of the certificate to show there (PEM); empty: none"
_KEY: Final = "file of its key (PEM, not encrypted); empty: it is in the certificate's file"

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]  # a day: more, or infinity, is a slip


def _says(doc: str) -> Meta:
    return Meta(description=doc)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units are in the names; each default has its reason beside it."""

    bootstrap_servers: Annotated[Text, _says("Kafka brokers, host:port, comma-separated")]
    topic: Annotated[Text, _says("topic of the events")] = "events"
    dead_letter_topic: Annotated[Text, _says("topic of refused events")] = "events.dead"
    kafka_config_file: Annotated[str, _says("file of further librdkafka properties (TLS, SASL), key=value")] = ""
    environment: Annotated[Literal["sandbox", "production"], _says("stamped on each event")] = "sandbox"
    schema_registry_url: Annotated[
        str,
        _says("Schema Registry, http(s)://host:port, or several; empty: ids come from the schema files"),
    ] = ""
    schema_registry_user: Annotated[str, _says("user of the registry; empty: none")] = ""
    schema_registry_password_file: Annotated[str, _says("file with that user's password")] = ""
    schema_registry_ca_file: Annotated[str, _says(_CA)] = ""
    schema_registry_certificate_file: Annotated[str, _says(_CERTIFICATE)] = ""
    schema_registry_key_file: Annotated[str, _says(_KEY)] = ""
    schema_cache_dir: Annotated[Text, _says("where registry answers are kept")] = "/var/lib/headrace/schemas"
    # Whoever is on the way could read them. Containers of one host are such a place where nobody is.
    allow_plaintext_logins: Annotated[bool, _says("passwords may leave this machine without TLS")] = False

    host: Annotated[Text, _says("address to listen on")] = "0.0.0.0"
    port: Annotated[int, Meta(ge=1, le=65535), _says("port to listen on")] = 8080
    # The public port then shows no figures. On the same address; let a firewall keep the public away from it.
    operations_port: Annotated[
        int, Meta(ge=0, le=65535), _says("port of /metrics, /healthz and /readyz; 0: the public one")
    ] = 0
    # One process keeps the default rate limit exact; a machine with more cores sets as many as it has.
    workers: Annotated[Count, _says("gunicorn worker processes")] = 1
    gunicorn_config: Annotated[Text, _says("gunicorn's configuration file")] = "deploy/gunicorn.conf.py"
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], _says("lowest level logged")] = "INFO"
    # An idle one takes some 10 KB, and an open file.
    connections_max: Annotated[
        Count, _says("connections to each worker process; then the one that has been idle longest is closed")
    ] = 10_000
    # The balancer must close first: else it sends a request into a connection that is being closed, and its client
    # hears 502. Most close after 60 s (nginx, AWS, HAProxy); behind one that takes longer (Google: 600 s) set more.
    keepalive_s: Annotated[Seconds, _says("a connection without a request is closed after")] = 75.0
    # Small bodies are dealt with in the event loop; two large ones at once keep two cores busy.
    threads: Annotated[Count, _says("threads for large bodies in each worker process")] = 2

    # A slow phone sends its body in a few seconds; who needs longer has gone.
    receive_timeout_s: Annotated[Seconds, _says("a request's head, and then its body, must arrive within")] = 15.0

    # Off, the metrics still count every refusal; the lines are for whoever asks about one request.
    # Ten refused requests a second show what is going on, and are 300 MB a day at most.
    log_lines_per_s: Annotated[Count, _says("log lines of one kind in a second; the next one tells of the others")] = (
        LINES_PER_S
    )
    log_refusals: Annotated[bool, _says("one log line for each refused request")] = True

    # Believing X-Forwarded-For from anybody would let clients choose their address.
    trusted_proxies: Annotated[str, _says("CIDRs of proxies whose X-Forwarded-For is believed, comma-separated")] = ""
    ip_privacy: Annotated[Privacy, _says("what rows keep of an address; truncated: its /24 or /48")] = "full"
    # A person set the signal; ignoring it is the operator's decision to take.
    honour_privacy_signals: Annotated[bool, _says("with Sec-GPC: 1 or DNT: 1 keep no address and no User-Agent")] = True
    # Any, because answers hold nothing secret and no cookie is ever looked at.
    allowed_origins: Annotated[str, _says('origins whose pages may read answers, comma-separated; "*" is any')] = "*"

    # Open, as the API's document describes it; with a registry every request needs a key.
    clients_file: Annotated[str, _says("client registry (TOML); empty: open to everybody")] = ""
    # The API's document says a thousand a minute.
    rate_limit_requests: Annotated[int, Meta(ge=0), _says("requests per client and window; 0: no limit at all")] = 1000
    # A hundred full requests; 250 readers with a PING every 15 s are a thousand.
    rate_limit_events: Annotated[int, Meta(ge=0), _says("events per client and window; 0: no limit")] = 100_000
    # Two and a half kilobytes for each of those events: 4.5 MB a second to the broker, from one address.
    rate_limit_bytes: Annotated[int, Meta(ge=0), _says("bytes of events per client and window; 0: no limit")] = (
        256 * 1024**2
    )
    rate_limit_window_s: Annotated[Count, _says("length of the rate limit's window")] = 60
    rate_limit_store_url: Annotated[
        str,
        _says(
            "store with Redis' protocol that counts for all processes, redis(s)://host:port/database or unix:///file;"
            " empty: each process counts its own"
        ),
    ] = ""
    rate_limit_store_user: Annotated[str, _says("user of the store; empty: its default user")] = ""
    rate_limit_store_password_file: Annotated[str, _says("file with the store's password")] = ""
    rate_limit_store_ca_file: Annotated[str, _says(_CA)] = ""
    rate_limit_store_certificate_file: Annotated[str, _says(_CERTIFICATE)] = ""
    rate_limit_store_key_file: Annotated[str, _says(_KEY)] = ""
    # An answer takes about 6 ms; a store that needs as long does not limit, it delays.
    rate_limit_store_timeout_ms: Annotated[Count, _says("a request waits this long for the store")] = 5

    # Beyond 5 s a browser has often gone; the broker's own retries fit in.
    answer_deadline_s: Annotated[Seconds, _says("a request waits this long for the broker")] = 5.0
    # Not above the deadline, or an event answered "failed" could be delivered later.
    delivery_timeout_ms: Annotated[Count, _says("librdkafka's message.timeout.ms")] = 4500
    # The answer waits about this long; 3 ms gather the events of concurrent requests into one batch.
    linger_ms: Annotated[int, Meta(ge=0, le=1000), _says("librdkafka's linger.ms")] = 3
    # What waits in memory for acknowledgement, over all requests of a worker process.
    # Eight of the largest requests; one must fit in.
    queue_bytes_max: Annotated[Count, _says("bytes awaiting acknowledgement; more get 503")] = 64 * 1024**2
    # A good acknowledgement takes some 6 ms; after a few of this length the broker counts as away. For one that is far,
    # allow a few round trips: at 500 ms and 25 requests a second acknowledgements took up to 1.2 s.
    ack_slow_s: Annotated[Seconds, _says("an acknowledgement that takes longer speaks against the broker")] = 1.0

    # On a disk that outlives the process and, in a cluster, the pod: see docs/OPERATIONS.md.
    spool_dir: Annotated[Text, _says("directory of the events that the broker did not take yet")] = (
        "/var/lib/headrace/spool"
    )
    # Some three million events of 500 bytes: an hour's outage at 800 events a second.
    spool_bytes_max: Annotated[Count, _says("size of the spool, over all processes of the directory")] = 2 * 1024**3
    # What else lives on the disk must not meet its end here. Never none: a database on a full disk can't even delete.
    spool_free_bytes_min: Annotated[int, Meta(ge=16 * 1024**2), _says("the spool leaves so much of its disk free")] = (
        256 * 1024**2
    )
    # An fsync takes milliseconds; a disk that needs this long is failing.
    spool_deadline_s: Annotated[Seconds, _says("a request waits this long for the spool")] = 2.0
    # Twice what a worker process takes in at its busiest would starve it; this empties 800,000 events in 7 minutes.
    drain_events_per_s: Annotated[Count, _says("the spool is sent to the broker no faster")] = 2000

    # At five thousand a second they are 0.2 s of work: what would wait longer is better told to come again.
    requests_max: Annotated[Count, _says("requests in work in each worker process; more get 503")] = 1000
    # A tenth of an answer's deadline.
    queue_wait_s: Annotated[Seconds, _says("a request that the event loop comes to later gets 503")] = 0.5
    # A load balancer needs so long to see /readyz fail and to stop sending.
    shutdown_grace_s: Annotated[
        float, Meta(ge=0, le=86_400), _says("after SIGTERM requests are still taken for so long")
    ] = 5.0

    # What a product adds to the events; the project's own catalogue stays as it is.
    catalogue_file: Annotated[str, _says("event types and fields of your own (TOML), added to ours; empty: none")] = ""
    events_max: Annotated[Count, _says("events in one request")] = 500
    body_bytes_max: Annotated[Count, _says("bytes of a request's body as sent")] = 1024 * 1024
    # Five times the body as sent: text compresses about that well.
    inflated_bytes_max: Annotated[Count, _says("bytes of a request's body after inflating")] = 5 * 1024 * 1024
    event_bytes_max: Annotated[Count, _says("bytes of one event")] = 256 * 1024
    headers_bytes_max: Annotated[Count, _says("bytes of messageHeaders, which every event carries")] = 16 * 1024
    depth_max: Annotated[int, Meta(ge=4, le=500), _says("nesting of a request's JSON")] = 32
    # 200 for each of 500 events. The most expensive ones, objects in objects, take 0.4 us and 180 bytes each.
    nodes_max: Annotated[Count, _says("JSON values in one request")] = 100_000
    # The largest events seen have some 60; a thousand is a catalogue that somebody put into one event.
    members_max: Annotated[Count, _says("members of one event, with those of the objects in it")] = 1000
    # All events of one page together have a few hundred.
    paths_max: Annotated[Count, _says("different names in the events of one request, with those of objects")] = 2000
    # 4 KB for each of 500 events; headers and User-Agent have some 500 bytes.
    copied_bytes_max: Annotated[
        Count, _says("bytes that messageHeaders and User-Agent, copied into each, add to a request's events")
    ] = 2 * 1024**2
    # Two of the largest requests at once; ordinary ones of 10 KB take some 200 KB each.
    memory_bytes_max: Annotated[
        Count, _says("estimated memory of the requests in work in each worker process; more get 503")
    ] = 128 * 1024**2
    # Phones deliver what they collected offline; a month covers a holiday.
    clock_past_s_max: Annotated[Count, _says("a client's timestamp older than this is not believed")] = 30 * 24 * 3600
    # An event can't have happened after it came in; five minutes allow for a clock that runs ahead.
    clock_future_s_max: Annotated[Count, _says("a client's timestamp further ahead is not believed")] = 300


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
    body = settings.body_bytes_max + 2 * settings.inflated_bytes_max  # as sent, and in pieces while it is inflated
    objects = bytes_of_body(settings.inflated_bytes_max, settings.nodes_max)
    records = bytes_of_records(settings.events_max, settings.inflated_bytes_max + settings.copied_bytes_max)
    return body + objects + records


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
    """Yield what the settings of servers can't mean, with the variable's whole name."""
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
        yield f"{PREFIX}RATE_LIMIT_STORE_URL: must end with the number of a database, or with the port"


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
