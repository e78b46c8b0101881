"""Whatever a query says: always an image, and a 200 is exactly the event that a POST of the same members would make."""

import json
from typing import Any, Final
from urllib.parse import quote, quote_plus

from hypothesis import event, given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from ingest.errors import Rejected
from ingest.events.parsing import parse
from ingest.http.pixel import GIF, QUERY_BYTES_MAX, QueryReader
from schemas.event import Event
from tests.property.strategies import CATALOGUE, ID, names, texts
from tests.support.front import Shelf, front

ANSWERS: Final = {200, 400, 403, 413}
OF_THE_REQUEST: Final = ("eventId", "pingId", "receivedAt", "occurredAt", "traceId", "userAgent", "ip")
NUMERIC: Final = {"int8", "integer", "number", "boolean"}
TYPES: Final = {name: entry.type for name, entry in (CATALOGUE.fields | CATALOGUE.properties).items()}

shelf = Shelf()
client = front(shelf).test_client()

types = st.sampled_from([*CATALOGUE.types, "view"])
values = texts | st.sampled_from(
    ["", "1", "0", "true", "1.50", "-7", "1e3", "007", "null", "NaN", "9" * 30, ID, "a b+c&d=e"]
)
pairs = st.lists(st.tuples(names, values), max_size=8)


def show(query: str, **headers: str) -> tuple[TestResponse, list[Event]]:
    """Ask for the image; return the answer and the events that it made."""
    shelf.requests.clear()
    response = client.get("/collect/pixel.gif", headers=headers, environ_overrides={"QUERY_STRING": query})
    return response, shelf.events


def encoded(text: str, *, plus: bool) -> str:
    """Return a text as browsers write it into a query. Half a character is no UTF-8; two halves are a whole one."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    sent = whole.encode("utf-8", "surrogatepass")
    return quote_plus(sent) if plus else quote(sent, safe="")


def meant(some: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the members that a query of these pairs means."""
    event: dict[str, Any] = {}
    for name, value in some:
        if name != "key":
            event.setdefault(name, []).append(value)
    return {name: _value(name, found) for name, found in event.items()}


def _value(name: str, found: list[str]) -> Any:
    if len(found) > 1 or TYPES.get(name) == "strings":
        return found
    if TYPES.get(name) not in NUMERIC:
        return found[0]
    try:
        value = parse(found[0].encode("utf-8", "surrogatepass"))
    except Rejected:
        return found[0]
    is_scalar = isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**64)
    return value if is_scalar else found[0]


@given(st.text(st.characters(max_codepoint=255), max_size=200) | st.text("&=%+;ceg01f", max_size=60))
def test_any_query_is_answered_with_an_image(query: str) -> None:
    """Bytes of every kind: never a 500, and no event unless the status is 200."""
    response, events = show(query)

    assert response.status_code in ANSWERS
    assert (response.data, response.content_type) == (GIF, "image/gif")
    assert response.headers["Cache-Control"] == "no-store"
    assert len(events) == (response.status_code == 200)
    assert ("X-Error-Code" in response.headers) is (response.status_code != 200)


@given(types, pairs, st.booleans())
def test_an_image_makes_the_event_that_a_post_makes(kind: str, some: list[tuple[str, str]], plus: bool) -> None:  # noqa: FBT001  (drawn)
    """The same members give the same event, and are refused for the same reason."""
    members = [("eventType", kind), *((name, value) for name, value in some if name != "eventType")]
    query = "&".join(f"{encoded(name, plus=plus)}={encoded(value, plus=plus)}" for name, value in members)
    response, shown = show(query)
    shelf.requests.clear()
    posted = client.post("/collect/event", data=json.dumps({"messageBody": [meant(members)]}))

    event(f"{posted.status_code}")
    assert (response.status_code == 200) is (posted.status_code == 201), (response.headers, posted.data)
    for one, other in zip(shown, shelf.events, strict=True):
        assert {name: one[name] for name in one if name not in OF_THE_REQUEST} == {  # type: ignore[literal-required]
            name: other[name]  # type: ignore[literal-required]  # names of fields
            for name in other
            if name not in OF_THE_REQUEST
        }


def test_a_query_is_bounded() -> None:
    """Our server bounds the request line; behind another one the reader does."""
    query = "eventType=VIEW&x="

    assert show(query + "x" * (QUERY_BYTES_MAX - len(query)))[0].status_code == 200
    response, events = show(query + "x" * (QUERY_BYTES_MAX - len(query) + 1))
    assert (response.status_code, response.headers["X-Error-Code"], events) == (413, "too_large", [])


def test_an_image_that_is_fetched_again_under_its_id_is_one_event() -> None:
    """The id in the query is the event's, so the table keeps one."""
    _, (first,) = show(f"eventType=VIEW&eventId={ID.upper()}")
    _, (again,) = show(f"eventType=VIEW&eventId={ID.upper()}")

    assert first["eventId"] == again["eventId"] == ID


def test_privacy_signals_and_the_header_of_the_browser_count_as_elsewhere() -> None:
    """The User-Agent fills the column, unless Sec-GPC asks not to."""
    _, (plain,) = show("eventType=VIEW", **{"User-Agent": "mail"})
    _, (private,) = show("eventType=VIEW", **{"User-Agent": "mail", "Sec-GPC": "1"})

    assert (plain["userAgent"], private["userAgent"]) == ("mail", "")


def test_what_is_no_number_of_its_field_stays_a_text() -> None:
    """So it is kept with all its digits, or the field says what is wrong with it."""
    body = json.loads(
        QueryReader(CATALOGUE).request_of(f"counter={2**64}&numOfCta=null&active=7&scrollDepth=1e400&x=7")
    )

    assert body["messageBody"] == [
        {"counter": str(2**64), "numOfCta": "null", "active": 7, "scrollDepth": "1e400", "x": "7"}
    ]


def test_the_key_is_no_member() -> None:
    """Or every reader of the table could send as this client."""
    body = json.loads(QueryReader(CATALOGUE).request_of("key=secret&eventType=VIEW&key=other"))

    assert body == {"messageBody": [{"eventType": "VIEW"}]}
