"""One event of a request is broken on its way: that one is refused, by its place, and its neighbours are taken."""

import json
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from ingest.events.envelope import BODY
from ingest.events.salvage import elements
from ingest.events.validator import EventLimits, InvalidEvent, Sender, Validator
from tests.property.strategies import CATALOGUE

INTAKE: Final = Validator(CATALOGUE, EventLimits(), "sandbox")
ORIGIN: Final = Sender(1_800_000_000_000, idempotency_key="k")
BLANKS: Final = st.text(" \n\r\t", max_size=2)

texts = st.text(max_size=6) | st.text('"\\\\{}[],: u', max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(-1e9, 1e9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
events = st.builds(
    lambda extra, url: extra | {"eventType": "VIEW", "url": url}, st.dictionaries(texts, values, max_size=3), texts
).filter(lambda event: set(event).isdisjoint(set(CATALOGUE.fields) - {"eventType", "url"}))
# Each is a value that no parser takes, and none hides where it ends.
faults = st.sampled_from(
    [
        *(rb'"\ud800"', rb'"a\udfff"', rb'"\ud83d\n"', rb'{"\udc00": 1}', rb'["\ud800\ud800"]'),
        *(b'"\xff"', b'"\xc3"', b'"\xe2\x82"', b'"\xed\xbf\xbf"', b'"\xf5\x80\x80\x80"', b'"\xc0\xaf"'),
        *(
            b"1e999",
            b"-1e400",
            b"9" * 4500,
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"undefined",
            b"01",
            b"1.",
            b"+1",
            b".5",
        ),
        *(b'"\x00"', b'"a\nb"', rb'"\x41"', rb'"\u12"', b"[1,]", b"[,]", b'{"a":1,}', b"{,}", b"[1 2]", b"'a'"),
        *(b"[" * 3000 + b"]" * 3000, b'{"":' * 1500 + b"1" + b"}" * 1500),
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, list[dict[str, Any]], list[bytes], int]:
    """Draw a body, its events as they were meant and as they are sent, and the place of the broken one."""
    meant = draw(st.lists(events, min_size=1, max_size=5))
    at = draw(st.integers(0, len(meant) - 1))
    is_ascii = draw(st.booleans())
    sent = [
        json.dumps(event, ensure_ascii=is_ascii, indent=draw(st.sampled_from([None, 1]))).encode() for event in meant
    ]
    bad = b'"broken": ' + draw(faults)
    sent[at] = b"{" + bad + b", " + sent[at][1:] if draw(st.booleans()) else sent[at][:-1] + b", " + bad + b"}"
    blank = draw(BLANKS).encode()
    around = draw(
        st.sampled_from([b"{%b}", b'{"x": "[{", %b}', b'{%b, "messageHeaders": {"a": "]}"}}', b"\xef\xbb\xbf{%b}"])
    )
    name = draw(st.sampled_from([b'"messageBody"', rb'"message\u0042ody"', b'"messageBody": [1], "messageBody"']))
    items = (blank + b"," + blank).join(sent)
    return around.replace(b"%b", name + blank + b":" + blank + b"[" + items + blank + b"]"), meant, sent, at


@given(requests())
def test_one_broken_event_costs_itself_alone(request: tuple[bytes, list[dict[str, Any]], list[bytes], int]) -> None:
    """Its index is right, the others are what they are without it, and each event's bytes are found."""
    body, meant, sent, at = request
    alone = INTAKE.read(json.dumps({"messageBody": meant}).encode(), ORIGIN)

    verdict = INTAKE.read(body, ORIGIN)

    assert {fault.index for fault in verdict.faults} == {at}
    assert isinstance(verdict.entries[at], InvalidEvent)
    headers = {"a": "]}"} if b"messageHeaders" in body else {}
    for index, (entry, expected) in enumerate(zip(verdict.entries, alone.entries, strict=True)):
        if index != at:
            assert not isinstance(expected, InvalidEvent)
            assert entry == expected | {"headers": headers}
    assert elements(body, BODY) == sent
