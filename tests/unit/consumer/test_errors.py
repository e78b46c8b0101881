"""Every failure has a class, and no message of ours repeats a row."""

import inspect
import re

import clickhouse_connect.driver.exceptions as driver
import confluent_kafka
import confluent_kafka.error
import pytest
from confluent_kafka import KafkaError
from confluent_kafka.schema_registry import error as registry

from consumer.clickhouse.driver import translate
from consumer.clickhouse.errors import NAMES, of_clickhouse
from consumer.errors import Cause, ConsumerError, Denied, Fatal, Fenced, Halt, Reason, Rejected, TooLarge, Transient
from consumer.kafka.errors import of_kafka

WITHOUT_A_CODE = {
    "ClickHouseError": Halt,
    "Warning": Halt,
    "Error": Halt,
    "InterfaceError": Halt,
    "DatabaseError": Transient,  # a proxy's 502 has no code
    "DataError": Halt,
    "OperationalError": Transient,  # refused, reset, timed out
    "IntegrityError": Transient,
    "InternalError": Transient,
    "ProgrammingError": Halt,
    "NotSupportedError": Halt,
    "StreamClosedError": Halt,
    "StreamFailureError": Transient,
}
"""Every public exception of clickhouse-connect, when the server said no code."""
NOT_RAISED = {"StreamCompleteException"}  # the driver's own, caught inside it


def said(code: int, text: str, name: str = "SOME_NAME") -> str:
    """Return a message in the driver's form."""
    return (
        f"Received ClickHouse exception, code: {code}, server response: Code: {code}. DB::Exception: {text} ({name})"
        " (version 26.9.2.1) (for url http://127.0.0.1:8123)"
    )


def test_every_public_exception_of_the_clickhouse_driver_has_a_class() -> None:
    """No exception of clickhouse-connect is without a place in the table, and the table names none that is gone."""
    classes = {
        name: kind
        for name, kind in inspect.getmembers(driver, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == driver.__name__ and name not in NOT_RAISED
    }

    assert set(classes) == set(WITHOUT_A_CODE)
    for name, kind in classes.items():
        error = kind() if name == "StreamClosedError" else kind("what happened")
        assert type(translate(error)) is WITHOUT_A_CODE[name], name


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (413, "HTTP 413 for a request of 1234 bytes: a proxy before ClickHouse does not accept a request of this size"),
        (429, "a proxy limits requests"),
        (401, "a proxy wants a login"),
        (403, "a proxy wants a login"),
        (502, "a proxy can't reach it"),
        (503, "a proxy can't reach it"),
        (504, "a proxy timed out"),
        (301, "it redirects"),
        (307, "it redirects"),
        (404, "CONSUMER_CLICKHOUSE_URL must lead to its HTTP interface"),
        (418, "CONSUMER_CLICKHOUSE_URL must lead to its HTTP interface"),
        (500, "CONSUMER_CLICKHOUSE_URL must lead to its HTTP interface"),
    ],
)
def test_a_page_that_is_not_clickhouses_is_named_by_its_cause(status: int, words: str) -> None:
    """By its status; its text may be anybody's, and is not repeated. Only 413 says that nothing was passed on."""
    page = f"<html><h1>{status} Code: 27. DB::Exception: secret</h1></html>"
    raised = driver.DatabaseError(
        f"HTTP driver received HTTP status {status}, server response: {page} (for url http://x)"
    )

    error = translate(raised, 1234)

    assert words in str(error)
    assert str(error).startswith(f"HTTP {status}")
    assert "secret" not in str(error)
    assert (type(error), isinstance(error, Transient)) == (TooLarge if status == 413 else Transient, True)


KAFKA = {
    "KafkaException": "by its code",
    "ConsumeError": "by its code",
    "ProduceError": "by its code",
    "SerializationError": "by its code",  # these five come from (de)serializers, which nothing here calls
    "KeyDeserializationError": "by its code",
    "KeySerializationError": "by its code",
    "ValueDeserializationError": "by its code",
    "ValueSerializationError": "by its code",
    "ConcurrentModificationException": "ends the process",  # our own mistake: two threads, or a closed consumer
    "IllegalStateException": "ends the process",
    "SchemaRegistryError": "in schemas.registry",
    "OAuthTokenError": "in schemas.registry",
    "SchemaParseException": "in schemas.registry",
    "UnknownType": "in schemas.registry",
}
"""Every public exception of confluent-kafka, and where it is decided."""


def test_every_public_exception_of_the_kafka_driver_has_a_class() -> None:
    """What has a code goes through the table of codes; the rest is listed with its reason."""
    found = {
        name: kind
        for module in (confluent_kafka, confluent_kafka.error, registry)
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and not name.startswith("_")
    }

    assert set(found) == set(KAFKA)
    for name, kind in found.items():
        assert issubclass(kind, confluent_kafka.KafkaException) == (KAFKA[name] == "by its code"), name


def test_every_code_of_kafka_has_a_class() -> None:
    """Each of librdkafka's error codes ends in one of four classes, and the tables hold no unknown name."""
    codes = [value for name, value in vars(KafkaError).items() if name.lstrip("_").isupper() and isinstance(value, int)]
    names = {KafkaError(code).name() for code in codes}
    kinds = {name: type(of_kafka(name, "")) for name in names}

    assert len(names) > 150
    assert set(kinds.values()) == {Transient, Fenced, Halt, Fatal}
    assert {name for name, kind in kinds.items() if kind is Fenced} >= {"UNKNOWN_MEMBER_ID"}
    assert kinds["_TRANSPORT"] is kinds["REQUEST_TIMED_OUT"] is kinds["COORDINATOR_NOT_AVAILABLE"] is Transient
    assert kinds["OFFSET_METADATA_TOO_LARGE"] is kinds["GROUP_AUTHORIZATION_FAILED"] is Halt
    assert kinds["FENCED_INSTANCE_ID"] is Fatal


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (241, Transient),
        (202, Transient),
        (319, Transient),
        (242, Transient),
        (999, Transient),
        (159, Transient),
        (49, Transient),  # a defect of the server: its outcome is not known
        (1002, Transient),
        (77777, Transient),  # not known to anybody yet
        (516, Fatal),
        (497, Denied),
        (60, Halt),
        (115, Halt),
        (452, Halt),
        (164, Denied),
        (117, Rejected),
        (376, Rejected),
        (469, Rejected),
        (153, Rejected),
        (691, Rejected),
        (748, Rejected),
    ],
)
def test_a_code_has_the_class_that_its_group_says(code: int, kind: type[ConsumerError]) -> None:
    """What the worker does next follows from the code, whatever the driver's exception is called."""
    assert type(translate(driver.DatabaseError(said(code, "what happened"), code=code))) is kind


@pytest.mark.parametrize(("code", "cause"), [(241, Cause.BUSY), (252, Cause.BUSY), (319, Cause.UNKNOWN)])
def test_a_try_that_is_put_off_says_why(code: int, cause: Cause) -> None:
    """Refused for now and unknown are told apart: only the second may have written."""
    error = of_clickhouse(code, said(code, "what happened"))

    assert isinstance(error, Transient)
    assert error.cause is cause


def test_too_many_parts_is_waited_for_and_too_many_partitions_is_not() -> None:
    """Both are code 252; only one of them gets better by itself."""
    parts = said(252, "Too many parts (300 with average size of 1 KiB) in table 'd.events'. Merges are slower.")
    partitions = said(252, "Too many partitions for single INSERT block (more than 100). The limit is controlled by x")

    assert isinstance(of_clickhouse(252, parts), Transient)
    stop = of_clickhouse(252, partitions)
    assert isinstance(stop, Fatal)
    assert "max_partitions_per_insert_block" in str(stop)


@pytest.mark.parametrize("suffix", ["", " (0b4f7e2a-9d1c-4a57-8f0e-2c9f6f1d3a10)"])
def test_a_failing_view_never_starts_a_search_for_poison(suffix: str) -> None:
    """The rows are in the table then; taking some out and inserting again would double the others."""
    error = of_clickhouse(6, said(6, f"Cannot parse 'x' as UInt8: while pushing to view d.events_mv{suffix}."))

    assert isinstance(error, Transient)
    assert error.cause is Cause.VIEW


def test_a_row_that_quotes_a_views_message_does_not_hold_the_partition() -> None:
    """A client that writes ClickHouse's own words into an event can't pass for a failing view."""
    text = (
        "Constraint `c` for table d.events is violated at row 3. Column values: url = ': while pushing to view d.v."
        " (CANNOT_PARSE_TEXT)'."
    )

    error = of_clickhouse(469, said(469, text))

    assert isinstance(error, Rejected)
    assert (error.row, error.reason) == (3, Reason.CONSTRAINT)


@pytest.mark.parametrize("code", [6, 117, 376, 469, 748, 36, 62, 49, 1001])
def test_no_message_repeats_a_value(code: int) -> None:
    """ClickHouse quotes rows; what goes to logs and dead letters does not."""
    text = "Cannot parse: url = 'S3CRET it\\'s S3CRET', \"S3CRET\" (at row 2)"

    shown = str(of_clickhouse(code, said(code, text)))

    assert "S3CRET" not in shown
    assert str(code) in shown


def test_a_refusal_keeps_the_row_and_the_constraint() -> None:
    """Facts stay: the code, its name, the row to try first, which constraint."""
    error = of_clickhouse(
        469, said(469, "Constraint `short` for table d.events is violated at row 12. Column values: x")
    )

    assert isinstance(error, Rejected)
    assert error.row == 12
    assert str(error) == "ClickHouse 469 VIOLATED_CONSTRAINT, constraint short"


def test_an_older_servers_avro_exception_is_bad_avro_and_any_other_is_not() -> None:
    """Code 1001 is every C++ exception: only Avro's says something about the rows."""
    avro = of_clickhouse(1001, said(1001, "std::exception. Code: 1001, type: avro::Exception, e.what() = EOF reached"))
    other = of_clickhouse(1001, said(1001, "std::exception. Code: 1001, type: std::bad_alloc"))

    assert isinstance(avro, Rejected)
    assert avro.reason is Reason.BAD_AVRO
    assert isinstance(other, Transient)


def test_no_code_is_in_two_groups() -> None:
    """A name for each code, in ClickHouse's form; the engine is asked for them in tests/integration."""
    assert len(NAMES) >= 70
    assert all(re.fullmatch(r"[A-Z0-9_]+", name) for name in NAMES.values())
