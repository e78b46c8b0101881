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
events = st.builds(
    lambda kind, rest, clock: rest | {"eventType": kind} | clock,
    types,
    st.dictionaries(names, members, max_size=9),
    st.just({}) | st.fixed_dictionaries({"timestamp": clocks}),
)
senders = st.builds(
    Sender,
    st.sampled_from([0, 1, NOW_MS]),
    ip=st.sampled_from(["", "2001:db8::1"]),
    user_agent=st.sampled_from(["", "test/1", "é" * 80]),
    trace_id=st.sampled_from(["", "4bf92f3577b34da6a3ce929d0e0e4736"]),
    idempotency_key=st.sampled_from(["", "", "k"]),
)
requests = bodies | st.builds(
    lambda some, headers: json.dumps({"messageBody": some, "messageHeaders": headers}).encode(),
    st.lists(events, min_size=1, max_size=4),
    st.dictionaries(st.sampled_from(["a", "é"]), st.none() | st.integers() | st.text(max_size=3), max_size=2),
)


@pytest.fixture(scope="module")
def validators(tmp_path_factory: pytest.TempPathFactory) -> list[Validator]:
    """Validators with the project's bounds, tight ones, an operator's catalogue, and a registry's required fields."""
    path = Path(tmp_path_factory.mktemp("own"), "own.toml")
    path.write_text(OWN)
    own = Validator(open_catalogue(str(path)), EventLimits(), "production")
    return [intake(), intake(TIGHT), own, intake(required=("eventType", "clientId"))]


@settings(max_examples=max(300, settings().max_examples))
@given(requests, senders)
def test_both_ways_make_the_same_records(validators: list[Validator], body: bytes, sender: Sender) -> None:
    """Entries, keys, values, headers, kinds and dead letters are equal, or the refusals."""
    for validator in validators:
        assert_alike(validator, body, sender)


@given(st.lists(events, min_size=1, max_size=4), senders)
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
