"""Ids: fresh ones that rise within a request, and what counts as a UUID."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from typing import Any, Final
from uuid import RFC_4122, UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.events.ids import canonical_uuid, random_hex, uuid7, uuid7s
from tests.support.results import ID, NOW_MS, judge

VIEW: Final = {"eventType": "VIEW"}
PATTERN: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@given(st.integers(0, 2**48 - 1))
def test_fresh_ids_rise_and_are_uuid7_of_their_moment(at_ms: int) -> None:
    """Text and number rise alike, so the table and the answers keep the request's order."""
    texts = list(islice(uuid7s(at_ms), 600))

    assert all(first < second for first, second in pairwise(texts))
    for text in texts:
        made = UUID(text)
        assert (str(made), made.version, made.variant, made.int >> 80) == (text, 7, RFC_4122, at_ms)


def test_two_requests_of_one_moment_have_different_ids() -> None:
    """Both the first id and the distance to the next are random."""
    requests = [list(islice(uuid7s(NOW_MS), 500)) for _ in range(200)]

    assert len({text for texts in requests for text in texts}) == 200 * 500
    assert len({UUID(texts[1]).int - UUID(texts[0]).int for texts in requests}) > 190
    assert uuid7(NOW_MS) != uuid7(NOW_MS)


def test_random_digits_are_used_once() -> None:
    """Across draws and threads no digits come twice."""
    with ThreadPoolExecutor(4) as threads:
        texts = list(threads.map(lambda _: random_hex(16), range(4000)))

    assert len(set(texts)) == 4000
    assert all(re.fullmatch("[0-9a-f]{32}", text) for text in texts)


def test_a_child_process_has_random_digits_of_its_own() -> None:
    """What its parent has drawn before the fork is the parent's."""
    script = (
        "from ingest.events.ids import os, random_hex; random_hex(1); os.fork(); os.write(1, random_hex(16).encode())"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout

    assert len(said) == 64
    assert said[:32] != said[32:]


@pytest.mark.parametrize("drawn", ["00", "ff"])
def test_the_ids_of_one_draw_do_not_run_out(drawn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was drawn, the counter has room: its upper bit begins as 0, and a step is below 2**24."""
    monkeypatch.setattr("ingest.events.ids.random_hex", lambda size_bytes: drawn * size_bytes)
    first, second, third = (UUID(text).int & (2**48 - 1) for text in islice(uuid7s(NOW_MS), 3))

    assert second - first == third - second > 0
    assert first + (second - first) * 2**23 <= 2**48


def test_the_ids_of_a_request_rise_in_its_order() -> None:
    """Events with ids of their own in between change nothing."""
    events = judge(*[VIEW, VIEW | {"eventId": ID}, VIEW, {"eventType": "VIEW", "pingId": ID}] * 50).events
    fresh = [event["eventId"] for event in events if event["eventId"] != ID]

    assert len(fresh) == 150
    assert fresh == sorted(set(fresh))


@example("C523AA41-9f0f-4fc2-bc96-5a8ff5520b78")
@example("c523aa41-9f0f-4fc2-bc96-5a8ff5520b7g")
@example("c523aa419-f0f-4fc2-bc96-5a8ff5520b78")
@example("c523aa41-9f0f-4fc2-bc96-5a8ff5520b78\n")
@example("c523aa41-9f0f-4fc2-bc96-5a8ff5520b7８")  # noqa: RUF001  (a digit of another script)
@example("c523aa41-9f0f-4fc2-bc96-5a8ff5520b7\ud800")
@example("--------" + "-" * 28)
@given(
    st.text("0123456789abcdefABCDEFgG-{ ", max_size=40)
    | st.uuids().map(str)
    | st.uuids().map(lambda made: str(made).upper())
)
def test_a_uuid_is_hexadecimal_digits_in_their_groups(text: str) -> None:
    """As a regular expression says it, in any case."""
    lower = text.lower()

    assert canonical_uuid(text) == (lower if PATTERN.fullmatch(lower) else None)


@pytest.mark.parametrize("value", [None, 1, 1.5, True, [], {}, b"c523aa41-9f0f-4fc2-bc96-5a8ff5520b78"])
def test_what_is_no_text_is_no_uuid(value: Any) -> None:
    """Nothing is raised."""
    assert canonical_uuid(value) is None
