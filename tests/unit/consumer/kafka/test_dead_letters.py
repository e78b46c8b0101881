"""A dead letter from its headers to its row: whatever stands there, it becomes a row."""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

from consumer.clickhouse.rows import DeadLetterRows, letter_of
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Partition, Poison, Record
from consumer.errors import Reason, Transient
from consumer.kafka import dead_letters
from consumer.kafka.dead_letters import DeadLetterProducer, Outgoing, headers_of, letter_key, smaller
from tests.support.fixtures_consumer import AT_MS, record


def dead(key: bytes, value: bytes, headers: tuple[tuple[str, bytes], ...]) -> Record:
    """Return a record of the dead-letter topic."""
    return Record(Partition("dead", 0), 5, AT_MS + 1, key, value, headers)


def test_a_letter_says_where_its_record_stood_and_keeps_its_bytes() -> None:
    """From the refused record to the fields of the row."""
    refused = record(7, b"\x00\x01")._replace(headers=(("trace", b"t1"), ("reason", b"mine")))
    headers = tuple(headers_of(refused, Poison(7, Reason.FRAME, "no frame"), Origin("id-1", 4, 1)))

    letter = letter_of(dead(letter_key(refused, Origin("id-1", 4)), refused.value, headers))  # type: ignore[arg-type]  # ours are bytes

    assert letter["letterId"] == "events/0/7"
    assert letter_key(refused, Origin("id-1", 4, 1)) == b"events/0/7@4"  # another record may have been there before
    assert (letter["originTopic"], letter["originTopicId"]) == ("events", "id-1")
    assert (letter["originPartition"], letter["originOffset"]) == (0, 7)
    assert (letter["originLeaderEpoch"], letter["originReading"]) == (4, 1)
    assert (letter["originAt"], letter["schemaId"], letter["reason"]) == (AT_MS, -1, "frame")
    assert (letter["key"], letter["value"]) == (b"key", b"\x00\x01")
    own = {name: text for name, text in letter["headers"].items() if not name.startswith("headrace.")}
    assert own == {"trace": "t1", "reason": "mine"}


@pytest.mark.parametrize(
    "number", [b"", b"x", b"-5", b"99999999999999999999", b"1e3", b"\xff", b"9" * 5000, b"10413792000000000"]
)
def test_numbers_that_no_column_holds_take_their_defaults(number: bytes) -> None:
    """Anybody may write to the topic; one such record must not stop the worker."""
    names = ("headrace.origin_partition", "headrace.origin_offset", "headrace.origin_at", "headrace.schema_id")
    strange = dead(b"\xff", b"", tuple((name, number) for name in names))

    letter = letter_of(strange)
    (block,) = DeadLetterRows().blocks([strange], Origin("incarnation"), "token")

    assert letter["originPartition"] == -1
    assert letter["originAt"] == AT_MS + 1
    assert block.offsets == (5,)
    assert bytes(block.payload)


def test_a_letter_without_headers_is_a_row_too() -> None:
    """Everything on the topic is kept, from any producer."""
    (block,) = DeadLetterRows().blocks([dead(b"", b"", ())], Origin("incarnation"), "token")

    assert block.offsets == (5,)
    assert bytes(block.payload)


def test_a_letter_that_is_cut_says_what_it_lacks() -> None:
    """First the record's own headers go; the value stays whole as long as it fits, and its length is told."""
    headers = [("headrace.reason", b"frame"), ("trace", b"t"), ("reason", b"mine")]
    once = smaller(Outgoing(b"k", b"12345678", headers))
    twice = smaller(once)
    thrice = smaller(twice)

    assert once == Outgoing(b"k", b"12345678", [("headrace.reason", b"frame"), ("headrace.cut_headers", b"2")])
    assert (twice.value, dict(twice.headers)["headrace.cut_from_bytes"]) == (b"1234", b"8")
    assert (thrice.value, dict(thrice.headers)["headrace.cut_from_bytes"]) == (b"12", b"8")


@pytest.mark.parametrize("name", ["headrace.x", "headrace.reason", "headrace.cut_headers", "reason"])
@pytest.mark.parametrize("size_bytes", [10, 100_000])
def test_no_record_makes_a_letter_that_can_not_be_cut(name: str, size_bytes: int) -> None:
    """Whatever its key, value and headers hold and are called: the dead letter ends as a small one, with its reason."""
    record = Record(Partition("events", 0), 5, 0, b"k" * size_bytes, b"v" * size_bytes, ((name, b"h" * size_bytes),))
    letter = Outgoing(b"k", record.value, headers_of(record, Poison(5, Reason.FRAME, "why"), Origin("id")))
    for _ in range(50):
        letter = smaller(letter)

    size = len(letter.value) + sum(len(name) + len(value or b"") for name, value in letter.headers)
    assert size < 2000
    assert dict(reversed(letter.headers))["headrace.reason"] == b"frame"


class Sender:
    """A producer that reports the same error of every record."""

    made: int
    code: int

    def __init__(self, *_: object, **__: object) -> None:
        Sender.made += 1

    def produce(self, *_: object, on_delivery: Callable[..., None], **__: Any) -> None:
        """Report."""
        on_delivery(KafkaError(Sender.code), None)

    def flush(self, _: float) -> None:
        """Wait for nothing."""

    def purge(self) -> None:
        """Drop nothing."""


@pytest.mark.parametrize(
    ("code", "made"),
    [(KafkaError._MSG_TIMED_OUT, 2), (KafkaError._FENCED, 2), (KafkaError.NOT_ENOUGH_REPLICAS, 1)],  # noqa: SLF001  (their public names)
)
def test_a_producer_that_may_fail_for_long_is_replaced(monkeypatch: pytest.MonkeyPatch, code: int, made: int) -> None:
    """One that knows no broker any more times out for ever; where brokers refuse, a new one would fare no better."""
    monkeypatch.setattr(Sender, "made", 0, raising=False)
    monkeypatch.setattr(Sender, "code", code, raising=False)
    monkeypatch.setattr(dead_letters, "Producer", Sender)
    producer = DeadLetterProducer({}, "events.dead")

    with pytest.raises(Transient, match="not acknowledged"):
        producer.publish([Outgoing(b"k", b"v", ())])

    assert Sender.made == made
