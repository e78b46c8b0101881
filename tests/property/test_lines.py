"""A batch as JSON and with one event a line give the same events, and the same faults of the same events."""

import json
from typing import Any, Final

from hypothesis import event, given
from hypothesis import strategies as st

from ingest.errors import ErrorCode, Rejected
from ingest.events.lines import count_nodes_of_lines, sent_events
from ingest.events.parsing import BOM
from ingest.events.structure import count_nodes
from ingest.events.validator import EventLimits, Sender, Validator
from tests.property.strategies import CATALOGUE, events

LIMITS: Final = EventLimits(events_max=5, event_bytes_max=200, members_max=8, paths_max=12)
VALIDATOR: Final = Validator(CATALOGUE, LIMITS, "sandbox")
SENDER: Final = Sender(1_800_000_000_000, user_agent="test", idempotency_key="k")
MOST: Final = 10_000
NO_LIST: Final = {ErrorCode.BAD_JSON, ErrorCode.EVENT_COUNT}  # a batch of too many that is no JSON is not told apart

gaps = st.text(" \t\r\n", max_size=3).map(lambda blanks: f"\n{blanks}".encode())
ends = st.text(" \t\r\n", max_size=3).map(str.encode)


@st.composite
def in_both_forms(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Draw the same events as a batch and as lines, some of them no JSON: NaN, half characters, endless nesting."""
    is_ascii = draw(st.booleans())
    texts = [
        json.dumps(item, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
        for item in draw(st.lists(events, max_size=LIMITS.events_max + 1))
    ]
    if texts and draw(st.integers(0, 4)) == 0:
        texts[-1] = b'{"eventType":"VIEW","x":' + b"[" * 3000 + b"]" * 3000 + b"}"
    sent = draw(st.sampled_from([b"", BOM])) + draw(ends)
    for number, text in enumerate(texts):
        sent += (draw(gaps) if number else b"") + text
    return b'{"messageBody": [' + b" , ".join(texts) + b"]}", sent + draw(ends)


def judged(body: bytes, *, is_lines: bool) -> Any:
    """Return what becomes of each event, or why none is looked at."""
    try:
        return VALIDATOR.read(body, SENDER, is_lines=is_lines).entries
    except Rejected as rejected:
        return "no list" if rejected.code in NO_LIST else rejected.code


@given(in_both_forms())
def test_lines_are_judged_as_the_batch_is(forms: tuple[bytes, bytes]) -> None:
    """Ids, times, columns and faults are equal; for a dead letter the same bytes are kept."""
    batch, sent = forms

    entries = judged(batch, is_lines=False)

    event(f"as a whole: {isinstance(entries, str)}")
    assert judged(sent, is_lines=True) == entries
    if not isinstance(entries, str):
        assert sent_events(sent, is_lines=True) == sent_events(batch, is_lines=False)


@given(st.lists(st.binary(max_size=30) | st.text('"\\[]{},: 1', max_size=30).map(str.encode), max_size=6))
def test_the_values_of_a_line_are_counted_whatever_stands_in_the_others(pieces: list[bytes]) -> None:
    """The count of lines is never below that of its lines one by one, which is what a parser may make of them."""
    found = list(sent_events(b"\n".join(pieces), is_lines=True))

    counted = count_nodes_of_lines(b"\n".join(pieces), MOST)

    assert counted >= sum(count_nodes(line, MOST) for line in found)
    for most in (0, 1, 5):
        one_by_one = sum(count_nodes(line, most) for line in found)
        assert (count_nodes_of_lines(b"\n".join(pieces), most) > most) is (one_by_one > most)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader_of_lines(body: bytes) -> None:
    """Whatever a body is, its lines are judged, or it is refused."""
    entries = judged(body, is_lines=True)

    assert isinstance(entries, str) or 1 <= len(entries) <= LIMITS.events_max
