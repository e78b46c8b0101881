"""librdkafka in both services: what a file of properties may hold, and how its own lines reach the log."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

import consumer.kafka.properties
import ingest.publishing.kafka
from schemas.transport.librdkafka import check_servers, is_for_a_person, plain, read_properties, verify
from schemas.transport.librdkafka_log import LIBRARY, LineFilter
from tests.support.certificates import Authority

SERVICES = {"consumer": consumer.kafka.properties.OWNED, "ingest": ingest.publishing.kafka.OWNED}
BROKERS = {"bootstrap.servers": "127.0.0.1:9"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of properties."""
    return tmp_path / "kafka.properties"


def test_a_file_of_properties_is_pairs(file: Path) -> None:
    """Blank lines and comments are skipped, spaces around name and value too; a value may hold equal signs."""
    file.write_text("# TLS\n\nsecurity.protocol = ssl\nssl.key.password=a=b\nclient.rack=a\n")

    pairs = {"security.protocol": "ssl", "ssl.key.password": "a=b", "client.rack": "a"}
    assert all(read_properties(str(file), owned) == pairs for owned in SERVICES.values())
    assert read_properties("", {}) == {}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "line",
    [
        "acks=1",
        "acks =1",
        "request.required.acks=1",
        "enable.idempotence=false",
        "message.timeout.ms=60000",
        "delivery.timeout.ms=60000",
        "bootstrap.servers=elsewhere:9092",
        "metadata.broker.list=elsewhere:9092",
        "partitioner=random",
        "transactional.id=t",
        "client.id=c",
        "logger=x",
        "log.queue=true",
        "error_cb=print",
        "oauth_cb=print",
        "on_delivery=print",
        "default.topic.config=x",
    ],
)
def test_what_the_promises_rest_on_can_not_be_set_there(service: str, line: str, file: Path) -> None:
    """Under none of librdkafka's names for it; nor can what needs a function."""
    file.write_text(f"client.rack=a\n{line}\n")

    with pytest.raises(ValueError, match=r"kafka.properties, line 2: \S+ (is set by headrace|is the setting|needs a)"):
        read_properties(str(file), SERVICES[service])


@pytest.mark.parametrize(
    ("service", "line"),
    [
        ("ingest", "linger.ms=100"),
        ("ingest", "queue.buffering.max.ms=100"),
        ("ingest", "compression.codec=none"),
        ("consumer", "enable.auto.commit=true"),
        ("consumer", "auto.commit.enable=true"),
        ("consumer", "auto.offset.reset=latest"),
        ("consumer", "group.id=other"),
        ("consumer", "session.timeout.ms=1"),
    ],
)
def test_each_service_has_names_of_its_own(service: str, line: str, file: Path) -> None:
    """What one of them owns, the other's clients ignore."""
    file.write_text(line)

    with pytest.raises(ValueError, match="line 1: "):
        read_properties(str(file), SERVICES[service])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"sasl.password hunter2", "kafka.properties, line 1: not key=value"),
        (b"=hunter2", "kafka.properties, line 1: not key=value"),
        (b"\xffhunter2", "kafka.properties: is not text"),
        (b"a=b\nssl.ca.location=/not/there", "line 2: ssl.ca.location: /not/there: No such file or directory"),
        (b"ssl.key.location=/dev/null/x", "line 1: ssl.key.location: /dev/null/x: Not a directory"),
    ],
)
def test_a_line_that_can_not_be_used_is_named_and_not_shown(content: bytes, says: str, file: Path) -> None:
    """It may be a secret."""
    file.write_bytes(content)

    with pytest.raises(ValueError, match=says) as refused:
        read_properties(str(file), {})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({"no.such.name": "1"}, r'^No such configuration property: "no.such.name"$'),
        ({"enable.ssl.certificate.verification": "maybe"}, '^Expected bool value for "enable.ssl'),
        ({"security.protocol": "tls"}, '^Invalid value "tls"'),
        ({"max.in.flight": "10", "enable.idempotence": "true"}, "`max.in.flight` must be set <= 5"),
        ({"receive.message.max.bytes": "1000"}, "`receive.message.max.bytes` must be >="),
    ],
)
def test_librdkafka_looks_at_what_all_clients_get(properties: Mapping[str, str], says: str) -> None:
    """Names, values and contradictions, those of producers and of consumers, before anything is started."""
    with pytest.raises(ValueError, match=says):
        verify({**BROKERS, **properties}, "")


def test_each_client_takes_the_names_of_the_other_kinds() -> None:
    """So one file is enough."""
    verify({**BROKERS, "fetch.min.bytes": "1", "batch.size": "1000", "client.rack": "a"}, "")


@pytest.mark.parametrize("fault", ["mismatch", "no key", "no certificate"])
def test_files_of_certificates_are_looked_at(fault: str, tmp_path: Path) -> None:
    """In words, with the property and the path."""
    authority = Authority(tmp_path)
    one, other = authority.pair("one"), authority.pair("two")
    files = {"ssl.certificate.location": str(one.certificate), "ssl.key.location": str(one.key)}
    name, path = {
        "mismatch": ("ssl.key.location", other.key),
        "no key": ("ssl.key.location", one.certificate),
        "no certificate": ("ssl.certificate.location", one.key),
    }[fault]
    verify({**BROKERS, **files, "security.protocol": "ssl"}, "")

    with pytest.raises(ValueError, match=rf"^{name}: {path}: [a-zA-Z ]+$"):
        verify({**BROKERS, **files, name: str(path), "security.protocol": "ssl"}, "")


@pytest.mark.parametrize(
    ("servers", "mechanism", "protocol", "is_refused"),
    [
        ("kafka:9092", "PLAIN", "SASL_PLAINTEXT", True),
        ("127.0.0.1:9092,kafka:9092", "PLAIN", "sasl_plaintext", True),
        ("PLAINTEXT://kafka:9092", "OAUTHBEARER", "sasl_plaintext", True),
        ("127.0.0.1:9092,[::1]:9092", "PLAIN", "sasl_plaintext", False),
        ("kafka:9092", "SCRAM-SHA-256", "sasl_plaintext", False),
        ("kafka:9092", "PLAIN", "sasl_ssl", False),
    ],
)
def test_no_password_goes_to_a_broker_in_clear_text(
    servers: str,
    mechanism: str,
    protocol: str,
    is_refused: bool,  # noqa: FBT001  (a row's column)
) -> None:
    """Unless a setting allows it; SCRAM proves a password without sending it."""
    properties = {"bootstrap.servers": servers, "sasl.mechanisms": mechanism, "security.protocol": protocol}
    properties |= {"sasl.username": "u", "sasl.password": "hunter2"}
    verify(properties, "")
    if not is_refused:
        verify(properties, "X_ALLOW")
        return
    with pytest.raises(ValueError, match="X_ALLOW=true") as refused:
        verify(properties, "X_ALLOW")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("text", ["", ",", "a:9092,", "a:0", "a:65536", "a:x", "a:1:2", "a b", "http://a:1/x", "a/b"])
def test_brokers_are_hosts_and_ports(text: str) -> None:
    """Librdkafka takes anything, and never finds it."""
    with pytest.raises(ValueError, match="must be host:port"):
        check_servers(text)
    check_servers("a:9092, b-1.example.org:1,[::1]:65535,SASL_SSL://c:9093,d")


class Lines:
    """What passes the filter, and its clock."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.now_s = 100.0
        self._caplog = caplog

    def say(self, facility: str, text: str) -> None:
        """Log as confluent-kafka does."""
        logging.getLogger(LIBRARY).log(logging.ERROR, "%s [%s] %s", facility, "rdkafka#producer-1", text)

    @property
    def passed(self) -> list[dict[str, object]]:
        """The members of each."""
        return [vars(record) | {"text": record.getMessage()} for record in self._caplog.records]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Lines]:
    """A log with the filter."""
    made = Lines(caplog)
    logger = logging.getLogger(LIBRARY)
    others, logger.filters = logger.filters, [LineFilter(lambda: made.now_s)]
    level = logger.level
    logger.setLevel(logging.DEBUG)
    yield made
    logger.setLevel(level)
    logger.filters = others


def test_a_line_of_librdkafka_is_taken_apart(lines: Lines) -> None:
    """Its thread is nobody's business."""
    lines.say("FAIL", "[thrd:kafka:9092/bootstrap]: kafka:9092/bootstrap: Connect failed: refused (after 3ms)")

    (line,) = lines.passed
    assert line["text"] == "kafka:9092/bootstrap: Connect failed: refused (after 3ms)"
    assert (line["facility"], line["client"]) == ("FAIL", "rdkafka#producer-1")


def test_who_only_looks_at_properties_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever the file asks librdkafka to tell: where it writes by itself, no line is JSON."""
    verify({**BROKERS, "debug": "all"}, "")

    assert capfd.readouterr() == ("", "")


def test_what_repeats_itself_passes_once_in_a_while(lines: Lines) -> None:
    """However its figures differ; the next one says how many were left out, and other kinds are not held back."""
    for number in range(100):
        lines.say("FAIL", f"kafka:9092/bootstrap: Connect failed (after {number}ms in state CONNECT)")
    lines.say("FAIL", "kafka:9092/bootstrap: Disconnected")
    assert len(lines.passed) == 2
    lines.now_s += 31
    lines.say("FAIL", "kafka:9092/bootstrap: Connect failed (after 7ms in state CONNECT)")

    assert [line.get("repeated", 0) for line in lines.passed] == [0, 0, 99]


def test_properties_of_other_kinds_of_clients_are_no_news(lines: Lines) -> None:
    """The file is for all of them."""
    lines.say("CONFWARN", "[thrd:app]: acks is a producer property and will be ignored by this x")
    lines.say("CONFWARN", "[thrd:app]: Configuration property x is deprecated")

    assert [line["text"] for line in lines.passed] == ["Configuration property x is deprecated"]


def test_only_certificates_and_logins_need_a_person() -> None:
    """A broker that dies in the middle of a handshake does not."""
    refused = "ssl://a:1: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed (after 5ms in X)"

    assert is_for_a_person(KafkaError(KafkaError._SSL, refused))  # noqa: SLF001  (its public name)
    assert is_for_a_person(KafkaError(KafkaError._AUTHENTICATION, "denied"))  # noqa: SLF001  (as above)
    alert = "Receive failed: ssl/tls alert bad certificate: SSL alert number 42"
    assert is_for_a_person(KafkaError(KafkaError._TRANSPORT, alert))  # noqa: SLF001  (as above)
    assert not is_for_a_person(KafkaError(KafkaError._SSL, "SSL handshake failed: Disconnected"))  # noqa: SLF001  (as above)
    assert not is_for_a_person(KafkaError(KafkaError._TRANSPORT, "refused"))  # noqa: SLF001  (as above)
    assert plain(KafkaError(KafkaError._SSL, refused)) == "ssl://a:1: SSL handshake failed: certificate verify failed"  # noqa: SLF001  (as above)
