"""A collector under tight bounds takes what one under wide bounds takes, if it keeps them, and nothing else."""

import json
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import event, given

from ingest.events.validator import EventLimits
from ingest.http.body import BodyLimits, BodyReader
from ingest.memory import MemoryBudget
from tests.property.strategies import Request, is_json, parsed, requests
from tests.property.test_structure import members_of, nodes_of, paths_of
from tests.support.front import Shelf, front

pytestmark = pytest.mark.timeout(900)  # for HYPOTHESIS_PROFILE=long

AGENT: Final = "test"
MEMORY_BYTES: Final = 50_000
LIMITS: Final = EventLimits(members_max=3, paths_max=5, copied_bytes_max=80)
BODY_LIMITS: Final = BodyLimits(nodes_max=24)

shelf, budget = Shelf(), MemoryBudget(MEMORY_BYTES)
tight = front(shelf, limits=LIMITS, bodies=BodyReader(BODY_LIMITS, budget)).test_client()
wide = front(Shelf()).test_client()


def copied(value: dict[str, Any]) -> int:
    """Return what messageHeaders and User-Agent add to the events (bytes)."""
    headers: dict[str, Any] = next(
        (value[name] for name in ("messageHeaders", "messageheader") if value.get(name) is not None), {}
    )
    texts = [
        name + (item if isinstance(item, str) else json.dumps(item))
        for name, item in headers.items()
        if item is not None
    ]
    return len(value["messageBody"]) * (len(AGENT) + sum(len(text.encode()) + 16 for text in texts))


def in_places(pairs: list[tuple[str, Any]]) -> dict[int, Any]:
    """Return an object's members by their places, so that none replaces another."""
    return {place: value for place, (_, value) in enumerate(pairs)}


@given(requests())
def test_what_keeps_the_bounds_is_taken_and_nothing_else(request: Request) -> None:
    """A request that the wide collector takes is taken whole, or told the bound that it breaks; memory comes back."""
    request = replace(request, headers={**request.headers, "User-Agent": AGENT})
    shelf.requests.clear()
    narrow, broad = request.send(tight).status_code, request.send(wide).status_code
    published = [record for records in shelf.requests for record in records if not record.dead]

    assert budget.left_bytes == MEMORY_BYTES
    # What is left out of a request for being no JSON is not counted either.
    value = parsed(request.meant) if request.meant is not None and is_json(request.meant) else None
    if broad not in (200, 201) or value is None:
        assert narrow in (broad, 400, 413)
        return
    events = value["messageBody"]
    is_small = (
        nodes_of(json.loads(request.meant or b"", object_pairs_hook=in_places)) <= BODY_LIMITS.nodes_max
        and len(set().union(*map(paths_of, events))) <= LIMITS.paths_max
        and copied(value) <= LIMITS.copied_bytes_max
    )
    crowded = sum(members_of(item) > LIMITS.members_max for item in events)
    event(f"small {is_small}, crowded {bool(crowded)}")
    if not is_small:
        assert narrow in (400, 413)
    elif not crowded:
        assert narrow == broad
    elif narrow == 201:
        assert "lenient" in request.headers["Prefer"]
        assert len(published) <= len(events) - crowded
