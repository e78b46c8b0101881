"""One request's way to its records: all or nothing, the good ones, or nothing but a verdict."""

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest

from ingest.counters import EventCounters
from ingest.errors import ErrorCode, Overloaded, Rejected, Unavailable
from ingest.events.collector import Collector
from ingest.events.validator import EventLimits, Sender, Validator
from ingest.http.responses import accepted_body, validation_body
from ingest.memory import Body, MemoryBudget, Unbounded
from ingest.publishing.ports import Durability
from schemas.codec import Encoder
from schemas.event import read_catalogue
from tests.support.front import SCHEMA, Shelf

NOW_MS = 1_800_000_000_000
GOOD = {"eventType": "VIEW", "clientId": "web"}
BAD = {"eventType": "VIEW", "active": "maybe"}


class House:
    """A collector with its shelf and its books."""

    def __init__(self, event_bytes_max: int = 300_000, memory_bytes: int = 1_000_000) -> None:
        self.shelf = Shelf()
        self.budget = MemoryBudget(memory_bytes)
        self.ledger = EventCounters()
        limits = EventLimits(event_bytes_max=event_bytes_max)
        self._collector = Collector(Validator(read_catalogue(), limits, "sandbox"), Encoder(SCHEMA, 1), self.shelf)

    def collect(self, *events: Any, lenient: bool = False, **origin: Any) -> Any:
        """Take events and return the answer."""
        text = json.dumps({"messageBody": events}).encode()
        with self.ledger.open() as account, self.budget.lease() as lease:
            body = Body(text, len(text), lease)
            prepared = self._collector.prepare(body, Sender(NOW_MS, **origin), account, lenient=lenient)
            durability = asyncio.run(self._collector.publish(prepared, account))
        assert durability is Durability.BROKER
        return json.loads(accepted_body(prepared.entries))

    def validate(self, *events: Any, **origin: Any) -> Any:
        """Judge events and return the answer."""
        text = json.dumps({"messageBody": events}).encode()
        body = Body(text, len(text), Unbounded())
        examined = self._collector.validate(body, Sender(NOW_MS, **origin), EventCounters().open())
        return json.loads(validation_body(examined.result, examined.warnings, {}))

    @property
    def books(self) -> tuple[int, int, int]:
        """Events received, accepted and refused."""
        figures = self.ledger.figures()
        return figures["received"], figures["accepted"], figures["refused"]


def test_one_bad_event_refuses_all() -> None:
    """Nothing of the request is published, and the counters say refused."""
    house = House()

    with pytest.raises(Rejected) as caught:
        house.collect(GOOD, BAD, GOOD)

    assert caught.value.code is ErrorCode.BAD_EVENT_TYPE
    assert house.shelf.requests == []
    assert house.books == (3, 0, 3)


def test_a_lenient_request_gives_its_good_events() -> None:
    """Elements stand in request order, and good events and dead letters are published together."""
    house = House()
    answer = house.collect(GOOD, BAD, 5, GOOD, lenient=True, request_id="r1")

    assert [element["headers"] for element in answer] == [{}, {"statusCode": "400"}, {"statusCode": "400"}, {}]
    assert json.loads(answer[1]["value"]) == {
        "error": "Bad Request",
        "message": "active must be an integer or a boolean, got a string",
    }
    assert [event["eventId"] for event in house.shelf.events] == [
        json.loads(answer[index]["value"])["pingId"] for index in (0, 3)
    ]
    assert len(house.shelf.requests) == 1
    assert house.books == (4, 2, 2)


def test_a_dead_letter_holds_the_bytes_as_sent_and_why() -> None:
    """Its key is its own, and its headers say what an operator asks for first."""
    house = House()
    house.collect(GOOD, BAD, lenient=True, request_id="r1")
    (letter,) = house.shelf.letters
    kind, _, letter_id = letter.key.decode().partition("/")

    assert letter.value == json.dumps(BAD).encode()
    assert (kind, UUID(letter_id).version) == ("ingest", 7)
    assert dict(letter.headers) | {"headrace.service": b""} == {
        "headrace.reason": b"bad_event_type",
        "headrace.error": b"active must be an integer or a boolean, got a string",
        "headrace.service": b"",
        "headrace.origin_at": b"1800000000000",
        "headrace.request_id": b"r1",
    }
    assert dict(letter.headers)["headrace.service"].startswith(b"headrace-ingest/")


def test_a_lenient_retry_gives_the_same_letter() -> None:
    """Under an Idempotency-Key a dead letter has the same key again."""
    house = House()
    for request_id in ("r1", "r2"):
        house.collect(GOOD, BAD, lenient=True, idempotency_key="k", request_id=request_id)

    assert len({letter.key for letter in house.shelf.letters}) == 1


def test_another_content_under_a_used_key_is_another_letter() -> None:
    """No refused event replaces another one."""
    house = House()
    for bad in (BAD, BAD | {"anonId": "another"}):
        house.collect(GOOD, bad, lenient=True, idempotency_key="k")

    assert len({letter.key for letter in house.shelf.letters}) == 2


def test_the_letter_of_an_event_that_is_too_large_is_its_beginning() -> None:
    """It must fit into the topic; a header says how much there was."""
    house = House(event_bytes_max=1000)
    large = {"eventType": "VIEW", "x": "y" * 300_000}
    house.collect(GOOD, large, lenient=True)
    (letter,) = house.shelf.letters

    assert letter.value == json.dumps(large).encode()[: 256 * 1024]
    assert dict(letter.headers)["headrace.cut_from_bytes"] == str(len(json.dumps(large))).encode()
    assert dict(letter.headers)["headrace.reason"] == b"bad_event_size"


def test_a_lenient_request_without_a_good_event_is_refused() -> None:
    """The client keeps all of it, so there are no letters either."""
    house = House()

    with pytest.raises(Rejected) as caught:
        house.collect(BAD, 5, lenient=True)

    assert [fault.index for fault in caught.value.faults] == [0, 1]
    assert house.shelf.requests == []


def test_what_is_not_durable_is_not_accepted() -> None:
    """The publisher's failure goes to the client, and the counters say refused."""
    house = House()
    house.shelf.failure = Unavailable("no_room", "no room")

    with pytest.raises(Unavailable):
        house.collect(GOOD)

    assert house.books == (1, 0, 1)


@pytest.mark.parametrize("lenient", [False, True])
def test_an_event_of_another_client_refuses_the_request(lenient: bool) -> None:  # noqa: FBT001  (a row)
    """A key speaks for its own client alone, and leniency does not extend to that."""
    house = House()

    with pytest.raises(Rejected) as caught:
        house.collect(GOOD, GOOD | {"clientId": "app"}, client_id="web", lenient=lenient)
    with pytest.raises(Rejected):
        house.validate(GOOD, client_id="app")

    assert caught.value.code is ErrorCode.OTHER_CLIENT
    assert house.shelf.requests == []
    assert len(house.collect(GOOD, client_id="web")) == 1


def test_what_is_wrong_with_an_event_is_said_before_whose_it_is() -> None:
    """The client repairs its events first, wherever the other client's stands."""
    house = House()

    with pytest.raises(Rejected) as caught:
        house.collect(GOOD | {"clientId": "app"}, BAD, client_id="web")

    assert caught.value.code is ErrorCode.BAD_EVENT_TYPE


def test_a_dry_run_judges_each_event_and_publishes_nothing() -> None:
    """A verdict per event: its row, or the same details as an error's."""
    house = House()

    verdict = house.validate(GOOD, BAD, GOOD | {"client_id": "x"})

    says = "active must be an integer or a boolean, got a string"
    assert verdict["valid"] is False
    assert [event["valid"] for event in verdict["events"]] == [True, False, True]
    assert verdict["events"][1] == {
        "index": 1,
        "valid": False,
        "message": says,
        "details": [{"index": 1, "pointer": "/messageBody/1/active", "rule": "type", "message": says}],
        "warnings": [],
    }
    assert [len(event["warnings"]) for event in verdict["events"]] == [0, 0, 1]
    assert ["row" in event for event in verdict["events"]] == [True, False, True]
    assert house.shelf.requests == []


def test_a_dry_run_shows_the_ids_that_a_retry_would_get() -> None:
    """Under an Idempotency-Key the row of a dry run is the row of the real run."""
    house = House()
    dry = house.validate(GOOD, idempotency_key="k")
    real = house.collect(GOOD, idempotency_key="k")

    assert json.loads(real[0]["value"])["pingId"] == dry["events"][0]["row"]["event_id"]


def test_the_rows_of_a_dry_run_are_bounded() -> None:
    """A large request gets its whole verdict, and as many rows as fit into 1 MiB."""
    verdict = House().validate(*[GOOD | {"x": "y" * 200_000}] * 10)

    assert verdict["valid"] is True
    assert ["row" in event for event in verdict["events"]] == [True] * 5 + [False] * 5


def test_a_dry_run_tells_fifty_faults_at_most() -> None:
    """Every bad event is told as such; the details of the first ones are enough to begin with."""
    verdict = House().validate(*[BAD] * 60)

    assert sum(len(event["details"]) for event in verdict["events"]) == 50
    assert not any(event["valid"] for event in verdict["events"])


def test_without_memory_for_its_records_nothing_of_a_request_is_published() -> None:
    """503: the events were counted and none was taken; what the request held is free again."""
    house = House(memory_bytes=50_000)

    with pytest.raises(Overloaded):
        house.collect(*[GOOD] * 30)

    assert house.shelf.requests == []
    assert house.books == (30, 0, 30)
    assert house.budget.left_bytes == 50_000
    assert len(house.collect(*[GOOD] * 10)) == 10


def test_each_record_is_its_own_event() -> None:
    """What is encoded once for a request is equal in all of its events, whatever members they name like it."""
    house = House()
    events = [
        {
            "eventType": kind,
            "eventId": f"0b7a9c1e-55aa-4f0e-8f00-00000000000{index}",
            "userAgent": agent,
            "timestamp": NOW_MS - index,
            "ip": f"192.0.2.{index}",
            "receivedAt": index,
            "headers": {"x": index},
            "title": "é" * index,
        }
        for index, (kind, agent) in enumerate([("VIEW", None), ("PING", "Own/1"), ("EXIT", "Ü/2")])
    ]
    house.collect(*events, ip="192.0.2.9", user_agent="Browser/1", trace_id="t")

    body = json.dumps({"messageBody": events}).encode()
    origin = Sender(NOW_MS, ip="192.0.2.9", user_agent="Browser/1", trace_id="t")
    assert house.shelf.events == Validator(read_catalogue(), EventLimits(), "sandbox").read(body, origin).events
    assert [event["occurredAt"] for event in house.shelf.events] == [NOW_MS, NOW_MS - 1, NOW_MS - 2]
