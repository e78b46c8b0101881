"""Whatever a client sends: never a 500, no event lost, none doubled, and none changed."""

import json
from typing import Any, Final

from hypothesis import event, given
from werkzeug.test import TestResponse

from ingest.events.fields import FieldError, compile_readers
from ingest.publishing.ports import Record
from schemas.event import Event
from tests.property.strategies import CATALOGUE, Request, parsed, requests
from tests.support.front import Shelf, event_of, front

ANSWERS: Final = {200, 201, 400, 413, 415}
BLANK: Final = {"active": -1}

shelf = Shelf()
client = front(shelf).test_client()


def ask(request: Request) -> tuple[TestResponse, list[Record]]:
    """Send a request and return its answer and what it published; more than one batch is an error."""
    shelf.requests.clear()
    response = request.send(client)
    assert len(shelf.requests) <= 1
    return response, shelf.requests[0] if shelf.requests else []


def check_taken(request: Request, answer: list[Any], records: list[Record]) -> None:
    """Each element of the answer is one record, in order: an event under its pingId, or a dead letter."""
    events = [event_of(record) for record in records if not record.dead]
    letters = [record for record in records if record.dead]
    taken = [element for element in answer if element["headers"] == {}]
    left = [element for element in answer if element["headers"] == {"statusCode": "400"}]

    assert len(taken) + len(left) == len(answer)
    assert [json.loads(element["value"]) for element in taken] == [{"pingId": item["pingId"]} for item in events]
    assert len(letters) == len(left)
    assert not left or "lenient" in request.headers["Prefer"]
    value = parsed(request.meant)
    if value is not None:
        raw = value["messageBody"]
        assert len(raw) == len(answer)
        kept = iter(events)
        refused = iter(letters)
        for item, element in zip(raw, answer, strict=True):
            if element in left:
                assert json.loads(next(refused).value) == item
            else:
                check_kept(item, next(kept))


def check_kept(raw: dict[str, Any], stored: Event) -> None:
    """What the client said is in the event: in its own field, or in the properties, as it was."""
    readers = compile_readers(CATALOGUE)
    known = {name: value for name, value in raw.items() if name in readers}
    others = {name: value for name, value in raw.items() if name not in readers}

    assert json.loads(stored["properties"]) == others
    for name, value in known.items():
        expected = BLANK.get(name, "") if value is None else readers[name](value)
        if value is not None or name not in ("eventId", "pingId", "userAgent"):
            assert stored[name] == expected  # type: ignore[literal-required]  # a field of the catalogue


def is_good(raw: Any) -> bool:
    """Tell, by the field readers alone, that an event has no bad field; guards are not looked at."""
    if not isinstance(raw, dict) or raw.get("eventType") is None:
        return False
    readers = compile_readers(CATALOGUE)
    try:
        for name, value in raw.items():
            if name in readers and value is not None:
                readers[name](value)
    except FieldError:
        return False
    return True


@given(requests())
def test_no_request_breaks_the_collector(request: Request) -> None:
    """The answer is one of the contract's, in its form, and what is published is what it says."""
    response, records = ask(request)
    event(f"status {response.status_code}")
    answer = json.loads(response.data)

    assert response.status_code in ANSWERS, answer
    assert response.content_type == "application/json"
    if response.status_code == 201:
        assert request.path == "/collect/event"
        check_taken(request, answer, records)
        return
    assert records == []
    if response.status_code >= 400:
        assert answer["statusCode"] == response.status_code
        assert len(answer.get("details", ())) <= 50
    elif request.meant is not None:
        verdicts = [item["valid"] for item in answer["events"]]
        assert answer["valid"] is all(verdicts)
        value = parsed(request.meant)
        assert value is None or len(verdicts) == len(value["messageBody"])


@given(requests())
def test_a_retry_under_a_key_gives_the_same_events(request: Request) -> None:
    """Answer and events of the second time are those of the first, but for the time of receipt."""
    keyed = Request(
        request.path, {**request.headers, "Idempotency-Key": "k"}, request.sent, request.length, request.meant
    )
    first, published = ask(keyed)
    second, again = ask(keyed)

    assert (second.status_code, _lasting(second)) == (first.status_code, _lasting(first))
    assert [record.key for record in again] == [record.key for record in published]
    assert [event_of(record)["eventId"] for record in again if not record.dead] == [
        event_of(record)["eventId"] for record in published if not record.dead
    ]


def _lasting(response: TestResponse) -> Any:
    """Return what an answer says apart from the moment and the request: the rows of a dry run bear both."""
    answer = json.loads(response.data)
    for item in answer.get("events", ()) if isinstance(answer, dict) else ():
        for name in ("received_at", "occurred_at", "trace_id"):
            item.get("row", {}).pop(name, None)
    return answer


@given(requests())
def test_a_request_of_good_events_is_taken(request: Request) -> None:
    """Where the field readers find no bad field in a request that arrived whole, only a guard refuses an event."""
    response, _ = ask(request)
    if request.meant is None or response.status_code in (413, 415):
        return
    try:
        raw = json.loads(request.meant)["messageBody"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    if isinstance(raw, list) and raw and all(map(is_good, raw)) and response.status_code == 400:
        details = json.loads(response.data).get("details", ())
        event("good events refused")
        assert details or "Idempotency-Key" in request.headers
        assert {item["rule"] for item in details if item["index"] is not None} <= {"depth", "integer", "size", "json"}
