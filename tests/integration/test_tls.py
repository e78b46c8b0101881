"""TLS with an authority of our own to all four servers, with and without client certificates: real listeners.

ClickHouse and the registry stand behind something that ends TLS, as they often do; Kafka and Redis end it themselves.
"""

import http.client
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from consumer.clickhouse.client import Connection
from consumer.errors import Misconfigured, Transient
from deploy.embedded.kafka_distribution import NotAvailableError
from ingest.access.rate_limit import Allowance, Claim
from ingest.access.rate_limit_redis import SharedLimiter, open_store
from ingest.http.wsgi import run_on_loop
from ingest.ports import NoMetrics
from ingest.publishing.kafka import KafkaBroker, TopicNames
from schemas.codec import read_schema
from schemas.registry import RegistryAwayError, RegistrySchemas
from schemas.transport.access import Access
from schemas.transport.tls import Tls
from tests.support.certificates import Authority, Pair
from tests.support.clickhouse import PASSWORD, ClickHouse
from tests.support.command import Command, environ_of
from tests.support.fleet import Fleet, until
from tests.support.ingress import Ingress
from tests.support.kafka_tls import TlsKafka
from tests.support.redis_server import RedisServer
from tests.support.registry import SchemaRegistry
from tests.support.tls_front import tls_front

ROOT: Final = Path(__file__).resolve().parents[2]
WAIT_S: Final = 60.0
ALLOWED: Final = 1000  # a minute: a request whose store is slow is let pass uncounted
SECRET: Final = "correct horse"  # noqa: S105  (a test's own)


class Keys(NamedTuple):
    """Who signs, and what is signed.

    Attributes:
        authority: of the servers and of the clients that they trust.
        stranger: an authority that nobody trusts.
        server: for 127.0.0.1 alone, not for `localhost`.
        client: of the authority.
        secret: a file with a password.
    """

    authority: Authority
    stranger: Authority
    server: Pair
    client: Pair
    secret: Path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """The keys of this module."""
    directory = tmp_path_factory.mktemp("keys")
    authority = Authority(directory)
    secret = directory / "secret"
    secret.write_text(f"{SECRET}\n")
    server = authority.pair("server", ("127.0.0.1",))
    return Keys(authority, Authority(directory, "stranger"), server, authority.pair("client"), secret)


@pytest.fixture(scope="module")
def tls_kafka(keys: Keys) -> Iterator[TlsKafka]:
    """Apache Kafka."""
    try:
        broker = TlsKafka(keys.authority, keys.server)
    except NotAvailableError as reason:
        pytest.skip(str(reason))
    with broker:
        yield broker


def redis_options(keys: Keys, *, wants_client: bool) -> list[str]:
    """Return what redis-server is told."""
    files = ["--tls-cert-file", str(keys.server.certificate), "--tls-key-file", str(keys.server.key)]
    return [
        *files,
        "--tls-ca-cert-file",
        str(keys.authority.file),
        "--tls-auth-clients",
        "yes" if wants_client else "no",
    ]


def files_of(server: str, keys: Keys, *, with_client: bool) -> dict[str, object]:
    """Return the settings of one server's certificates."""
    ours = {"certificate_file": keys.client.certificate, "key_file": keys.client.key} if with_client else {}
    return {f"{server}_{name}": path for name, path in {"ca_file": keys.authority.file, **ours}.items()}


def kafka_file(directory: Path, keys: Keys, *, with_client: bool) -> Path:
    """Write Kafka's properties."""
    pair = f"ssl.certificate.location={keys.client.certificate}\nssl.key.location={keys.client.key}\n"
    path = directory / "kafka.properties"
    path.write_text(
        f"security.protocol=ssl\nssl.ca.location={keys.authority.file}\nclient.rack=a\n{pair if with_client else ''}"
    )
    return path


@pytest.mark.parametrize("with_client", [False, True], ids=["server", "mutual"])
def test_an_event_goes_all_the_way_over_tls(
    with_client: bool,  # noqa: FBT001  (a fixture of its own would say no more)
    keys: Keys,
    tls_kafka: TlsKafka,
    clickhouse: ClickHouse,
    tmp_path: Path,
) -> None:
    """From the collector to the table, past a proxy's path; passwords go within TLS, and stand in no log."""
    context = keys.authority.server(keys.server, wants_client=with_client)
    topic = f"tls-{int(with_client)}"
    for name in (topic, f"{topic}.dead"):
        tls_kafka.create_topic(name, partitions=1)
    with ExitStack() as stack:
        registry = stack.enter_context(SchemaRegistry())
        registry_front = stack.enter_context(tls_front(registry.port, context))
        port = int(clickhouse.url.rpartition(":")[2])
        table_front = stack.enter_context(tls_front(port, context, lambda piece: as_a_proxy(piece, port)))
        store = stack.enter_context(RedisServer(SECRET, redis_options(keys, wants_client=with_client)))
        shared = {
            "topic": topic,
            "bootstrap_servers": f"127.0.0.1:{tls_kafka.mutual_port if with_client else tls_kafka.port}",
            "kafka_config_file": kafka_file(tmp_path, keys, with_client=with_client),
            "schema_registry_url": f"https://127.0.0.1:{registry_front.port}",
            "schema_registry_user": "somebody",
            "schema_registry_password_file": keys.secret,
            **files_of("schema_registry", keys, with_client=with_client),
        }
        fleet = stack.enter_context(Fleet(tmp_path, tls_kafka.bootstrap_servers, topic, clickhouse.url))
        fleet.settings |= {
            **shared,
            "clickhouse_url": f"https://127.0.0.1:{table_front.port}/clickhouse/",
            **files_of("clickhouse", keys, with_client=with_client),
        }
        collector = Ingress(
            tmp_path,
            **{
                **shared,
                "rate_limit_requests": ALLOWED,
                "rate_limit_store_url": store.url,
                "rate_limit_store_password_file": keys.secret,
                **files_of("rate_limit_store", keys, with_client=with_client),
            },  # type: ignore[arg-type]  # the settings' types are theirs
        )
        stack.callback(collector.end)
        collector.start()
        worker = fleet.start()
        posts = [post(collector.port)]
        while int(posts[-1][1]) >= ALLOWED - 1:
            posts.append(post(collector.port))
        until(lambda: rows(fleet) == len(posts) or not worker.is_alive, f"all rows: {worker.said()[-2000:]}")
        assert worker.stop() == 0
        collector.terminate()
        collector.await_end(WAIT_S)

        assert {where for where, _ in posts} == {"broker"}
        assert rows(fleet) == len(posts)
        assert len(registry.credentials) == 1
        assert b"Authorization: Basic " in bytes(table_front.heard)
        for said in (worker.said(), collector.log_path.read_text()):
            assert SECRET not in said
            assert PASSWORD not in said
            assert all(line.startswith("{") for line in said.splitlines())


def as_a_proxy(piece: bytes, port: int) -> bytes:
    """Take a proxy's path and name out of a request, as it would."""
    return re.sub(rb"\r\nHost: [^\r]*", b"\r\nHost: 127.0.0.1:%d" % port, piece.replace(b" /clickhouse?", b" /?"))


def post(port: int) -> tuple[str, str]:
    """Post an event; return where it is durable and how many requests are left."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    body = json.dumps({"messageBody": [{"eventType": "VIEW"}]})
    connection.request("POST", "/collect/event", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == http.HTTPStatus.CREATED, answer.read()
    connection.close()
    return answer.headers["X-Durability"], answer.headers["X-RateLimit-Remaining"]


def rows(fleet: Fleet) -> int:
    """Return how many events there are."""
    return int(fleet.connection.query("SELECT count() AS n FROM events")[0]["n"])


def begun(command: str, settings: Mapping[str, object]) -> Command:
    """Start a command of the worker."""
    return Command([command], environ_of("CONSUMER_", **settings))


def sentence(process: Command) -> str:
    """Return what a command that is refused says last."""
    output, said = process.communicate(timeout=WAIT_S)
    assert (process.returncode, output) == (2, ""), said
    assert "Traceback" not in said
    assert SECRET not in said
    return said.splitlines()[-1].removeprefix("consumer: ")


def test_clickhouse_that_can_not_be_trusted_or_does_not_trust_us_is_one_sentence(
    keys: Keys, clickhouse: ClickHouse
) -> None:
    """A wrong authority, none, another host, no client certificate, one of nobody's; and no password is sent."""
    stranger = keys.stranger.pair("client")
    ours = {"clickhouse_ca_file": keys.authority.file, "clickhouse_password_file": keys.secret}
    strange = {"clickhouse_certificate_file": stranger.certificate, "clickhouse_key_file": stranger.key}
    cases: list[tuple[bool, str, dict[str, object], str]] = [
        (False, "127.0.0.1", {**ours, "clickhouse_ca_file": keys.stranger.file}, "CA_FILE: no trusted authority"),
        (False, "127.0.0.1", {"clickhouse_password_file": keys.secret}, "CA_FILE: no trusted authority"),
        (False, "localhost", {**ours}, "URL: the certificate at localhost:{port} is for another host name"),
        (True, "127.0.0.1", {**ours}, "CERTIFICATE_FILE: 127.0.0.1:{port} wants a client certificate"),
        (True, "127.0.0.1", {**ours, **strange}, "CERTIFICATE_FILE: 127.0.0.1:{port} does not trust our certificate"),
    ]
    port = int(clickhouse.url.rpartition(":")[2])
    for wants_client, host, settings, says in cases:
        with tls_front(port, keys.authority.server(keys.server, wants_client=wants_client)) as front:
            told = {"clickhouse_url": f"https://{host}:{front.port}", **settings}
            begins = "CONSUMER_CLICKHOUSE_" + says.format(port=front.port)
            assert sentence(begun("migrate", told)).startswith(begins)
            assert not front.heard


@pytest.mark.parametrize(("password", "header"), [("", b"X-ClickHouse-SSL-Certificate-Auth: on"), ("x", b"Basic ")])
def test_without_a_password_the_certificate_is_the_login(password: str, header: bytes, keys: Keys) -> None:
    """As ClickHouse's ssl_certificate users log in; with one it is shown, and the password counts."""
    pair = [str(path) for path in keys.client]
    tls = Tls("X_", str(keys.authority.file), *pair)
    context = keys.authority.server(keys.server, wants_client=True)
    with SchemaRegistry() as anybody, tls_front(anybody.port, context) as front:
        connection = Connection(f"https://127.0.0.1:{front.port}", "me", password, "", 5, tls=tls)
        with pytest.raises(Transient):
            connection.client()

        assert header in bytes(front.heard)
        assert (b"Basic " in bytes(front.heard)) is bool(password)


def test_a_refused_client_certificate_is_named_however_the_connection_ends(keys: Keys) -> None:
    """The server's alert races with the end of the connection, and often loses: another connection hears it."""
    stranger = keys.stranger.pair("other")
    without = Tls("X_", str(keys.authority.file))
    strange = Tls("X_", str(keys.authority.file), str(stranger.certificate), str(stranger.key))
    with (
        SchemaRegistry() as anybody,
        tls_front(anybody.port, keys.authority.server(keys.server, wants_client=True)) as front,
    ):
        for tls, says in ((without, "wants a client certificate"), (strange, "does not trust our certificate")):
            for _ in range(30):
                connection = Connection(f"https://127.0.0.1:{front.port}", "me", "x", "", 5, tls=tls)
                with pytest.raises(Misconfigured, match=says):
                    connection.client()


def test_kafka_that_can_not_be_trusted_or_does_not_trust_us_is_one_sentence(
    keys: Keys, tls_kafka: TlsKafka, tmp_path: Path
) -> None:
    """With the file's setting; librdkafka's own lines stay away from it."""
    cases = [
        (f"127.0.0.1:{tls_kafka.port}", keys.stranger.file, "certificate verify failed"),
        (f"localhost:{tls_kafka.port}", keys.authority.file, "certificate verify failed"),
        (f"127.0.0.1:{tls_kafka.mutual_port}", keys.authority.file, "certificate"),
    ]
    started = []
    for number, (servers, authority, _) in enumerate(cases):
        path = tmp_path / f"{number}.properties"
        path.write_text(f"security.protocol=ssl\nssl.ca.location={authority}\nsasl.password={SECRET}\n")
        started.append(begun("lag", {"bootstrap_servers": servers, "kafka_config_file": path}))
    for process, (_, _, says) in zip(started, cases, strict=True):
        said = sentence(process)
        assert said.startswith("CONSUMER_KAFKA_CONFIG_FILE: ssl://"), said
        assert says in said


def test_the_ingress_says_which_file_a_broker_is_refused_for(
    keys: Keys, tls_kafka: TlsKafka, caplog: pytest.LogCaptureFixture
) -> None:
    """It serves on, from its spool; a person must look at the file."""
    properties = {
        "bootstrap.servers": f"127.0.0.1:{tls_kafka.port}",
        "security.protocol": "ssl",
        "ssl.ca.location": str(keys.stranger.file),
        "ssl.key.password": SECRET,
    }
    broker = KafkaBroker(properties, TopicNames("events", "events.dead"), 2**20, NoMetrics())
    try:
        assert not broker.answers(2)
        until(lambda: any("setting" in vars(record) for record in caplog.records), "a line")
    finally:
        broker.close(0)

    told = next(vars(record) for record in caplog.records if "setting" in vars(record))
    assert told["setting"] == "INGEST_KAFKA_CONFIG_FILE"
    assert "certificate verify failed" in told["detail"]
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("wrong authority", "CA_FILE: no trusted authority has signed the certificate at 127.0.0.1:"),
        ("other host", "URL: the certificate at localhost:"),
        ("no client", "CERTIFICATE_FILE: 127.0.0.1:"),
    ],
)
def test_a_registry_that_can_not_be_trusted_is_one_sentence(case: str, says: str, keys: Keys, tmp_path: Path) -> None:
    """An outage to a worker, whose log says it."""
    context = keys.authority.server(keys.server, wants_client=case == "no client")
    with SchemaRegistry() as registry, tls_front(registry.port, context) as front:
        host = "localhost" if case == "other host" else "127.0.0.1"
        file = (keys.stranger if case == "wrong authority" else keys.authority).file
        access = Access(f"https://{host}:{front.port}", "u", str(keys.secret), Tls("X_", str(file)))
        with pytest.raises(RegistryAwayError, match=f"^X_{says}"):
            RegistrySchemas(access, tmp_path, "events").id_of(read_schema("event"))
        assert not registry.credentials


def test_an_ingress_that_can_not_trust_its_registry_ends_with_one_line(keys: Keys, tmp_path: Path) -> None:
    """With the setting's name, and no traceback."""
    context = keys.authority.server(keys.server)
    with SchemaRegistry() as registry, tls_front(registry.port, context) as front:
        collector = Ingress(
            tmp_path,
            "127.0.0.1:9",
            schema_registry_url=f"https://127.0.0.1:{front.port}",
            schema_registry_ca_file=keys.stranger.file,
        )
        with pytest.raises(AssertionError, match="the ingress ended"):
            collector.start()
        assert collector.await_end(WAIT_S) == 3

    (line,) = [line for line in collector.log_lines() if line["message"] == "the collector can't start"]
    assert line["reason"].startswith("INGEST_SCHEMA_REGISTRY_CA_FILE: no trusted authority")
    assert "Traceback" not in collector.log_path.read_text()


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("wrong authority", "CA_FILE: no trusted authority"),
        ("other host", "URL: the certificate at localhost:"),
        ("no client", "CERTIFICATE_FILE: 127.0.0.1:"),
    ],
)
def test_a_store_that_can_not_be_trusted_lets_requests_pass_and_says_why(
    case: str, says: str, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, with the setting's name."""
    with RedisServer(SECRET, redis_options(keys, wants_client=case == "no client")) as server:
        url = server.url.replace("127.0.0.1", "localhost") if case == "other host" else server.url
        file = (keys.stranger if case == "wrong authority" else keys.authority).file
        access = Access(url, "", str(keys.secret), Tls("X_", str(file)))
        store, options = open_store(access, WAIT_S)
        limiter = SharedLimiter(store, "test:", 60, NoMetrics(), options)
        caplog.set_level(logging.WARNING)
        asked = Claim("a", Allowance(5))
        assert [run_on_loop(limiter.hit([asked], 0))[0].requests for _ in range(3)] == [0, 0, 0]
        until(lambda: bool(caplog.records), "a line")
        run_on_loop(store.aclose())

    (told,) = [vars(record)["reason"] for record in caplog.records]
    assert told.startswith(f"X_{says}")
    assert SECRET not in caplog.text
