"""Compiled code and Python come to the same, byte by byte, whatever a request says, and fastavro writes the same."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from ingest.errors import Rejected
from ingest.events.ids import NIL
from ingest.events.validator import EventLimits, Sender, Validator
from ingest.memory import Body, Unbounded
from ingest.publishing.ports import Record
from schemas.codec import FRAME_BYTES, decode
from schemas.event import CLIENT_COLUMNS, open_catalogue
from tests.property.strategies import CATALOGUE, ID, bodies, texts, values
from tests.support.both_ways import assert_alike, taken
from tests.support.front import SCHEMA
from tests.support.results import NOW_MS, intake

pytestmark = pytest.mark.timeout(900)  # for HYPOTHESIS_PROFILE=long

TIGHT: Final = EventLimits(
    events_max=4,
    event_bytes_max=120,
    headers_bytes_max=20,
    depth_max=5,
    members_max=5,
    paths_max=6,
    copied_bytes_max=90,
)
PARSED: Final = fastavro.parse_schema(json.loads(SCHEMA))
OWN: Final = """
[types.SHARE]
sent_when = "shared"
[fields.level]
type = "int8"
doc = "A level."
[fields.target]
type = "string"
length_min = 2
length_max = 5
doc = "A target."
"""

lengths = st.sampled_from([0, 1, 2, 5, 6, 63, 64, 127, 128, 129, 8191, 8192, 8193])
long_texts = st.builds(
    lambda size, letter: letter * size, lengths, st.sampled_from(["x", "é", "😀", "\0", '"', "\u2028"])
)
uuids = st.sampled_from(
    [ID, ID.upper(), NIL, ID[:-1], ID + "0", ID.replace("-", "0"), ID.replace("a", "g"), f"{{{ID}}}"]
)
numbers = st.sampled_from([-129, -128, -1, 0, 1, 127, 128, 2**31, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1])
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([1.0, 1e15, 1e308, -0.0, 5e-324, 2.0**53])
members = long_texts | texts | uuids | numbers | floats | st.none() | st.booleans() | values
clocks = st.integers(NOW_MS - 40 * 86_400_000, NOW_MS + 10 * 60_000) | members | st.just("2027-01-15T08:00:00Z")
names = st.sampled_from([*CLIENT_COLUMNS, "level", "target", "occurredAt", "properties", "", "x"]) | texts
types = st.sampled_from([*CATALOGUE.types, "SHARE", "view", "", " VIEW"]) | members
# One member that is refused hides what becomes of the others: most are taken, or just not.
edges = {
    "eventId": uuids,
    "pingId": uuids,
    "active": st.sampled_from([-129, -128, -1, 0, 1, 127, 128, "", "0", "1", True, 1.0]),
    "anonId": long_texts,
    "userId": long_texts | numbers,
    "contentId": long_texts | st.integers(0, 10**6),
    "userAgent": long_texts,
    "level": st.sampled_from([-129, -128, 127, 128, "", None]),
    "target": long_texts,
    "timestamp": clocks,
    "tags": st.lists(st.text(max_size=2), max_size=2),
    "any": members,
}
kinds = st.sampled_from([*CATALOGUE.types, "SHARE"])
fitting_events = st.builds(
    lambda kind, known: {"eventType": kind, "clientId": "web"} | dict(known),
    kinds,
    st.lists(st.sampled_from(list(edges)).flatmap(lambda name: st.tuples(st.just(name), edges[name])), max_size=3),
)
events = st.builds(lambda kind, rest: rest | {"eventType": kind}, types, st.dictionaries(names, members, max_size=6))


def request_of(some: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Return requests of such events."""
    return st.builds(
        lambda items, headers: json.dumps({"messageBody": items, "messageHeaders": headers}).encode(),
        st.lists(some, min_size=1, max_size=4),
        st.dictionaries(st.sampled_from(["a", "é"]), st.none() | st.integers() | st.text(max_size=3), max_size=2),
    )


senders = st.builds(
    Sender,
    st.sampled_from([0, 1, NOW_MS]),
    ip=st.sampled_from(["", "2001:db8::1"]),
    user_agent=st.sampled_from(["", "test/1", "é" * 80]),
    trace_id=st.sampled_from(["", "4bf92f3577b34da6a3ce929d0e0e4736"]),
    idempotency_key=st.sampled_from(["", "", "k"]),
)


@pytest.fixture(scope="module")
def validators(tmp_path_factory: pytest.TempPathFactory) -> list[Validator]:
    """Validators with the project's rules, tight bounds, an operator's catalogue, and a registry and bounded texts."""
    path = Path(tmp_path_factory.mktemp("own"), "own.toml")
    path.write_text(OWN)
    own = Validator(open_catalogue(str(path)), EventLimits(depth_max=3), "production")
    content = structs.replace(CATALOGUE.fields["contentId"], length_min=2, length_max=5)
    bounded = structs.replace(CATALOGUE, fields={**CATALOGUE.fields, "contentId": content})
    strict = Validator(bounded, EventLimits(), "sandbox", ("eventType", "clientId"))
    return [intake(), intake(TIGHT), own, strict]


@settings(max_examples=max(500, settings().max_examples))
@given(request_of(fitting_events), senders)
def test_both_ways_make_the_same_records(validators: list[Validator], body: bytes, sender: Sender) -> None:
    """Entries, keys, values, headers, kinds and dead letters are equal, at each limit and just beyond."""
    for validator in validators:
        assert_alike(validator, body, sender)


@given(bodies | request_of(events), senders)
def test_both_ways_come_to_the_same_for_any_body(validators: list[Validator], body: bytes, sender: Sender) -> None:
    """Or to the same refusal."""
    for validator in validators:
        assert_alike(validator, body, sender)


@given(st.lists(fitting_events | events, min_size=1, max_size=4), senders)
def test_fastavro_writes_the_same_bytes(some: list[Any], sender: Sender) -> None:
    """What is read from a record of the compiled way and written by fastavro is the record."""
    text = json.dumps({"messageBody": some}).encode()
    for record in _records(text, sender):
        if not record.dead:
            out = io.BytesIO()
            fastavro.schemaless_writer(out, PARSED, decode(record.value[FRAME_BYTES:], SCHEMA))
            assert record.value[FRAME_BYTES:] == out.getvalue()


def _records(text: bytes, sender: Sender) -> Sequence[Record]:
    try:
        return taken(intake(), Body(text, len(text), Unbounded()), sender).records
    except Rejected:
        return ()
