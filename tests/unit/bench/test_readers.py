"""Generated readers: the same for the same seed, in order, and as good or bad as they say."""

from collections import Counter
from itertools import islice, pairwise

import msgspec

from bench.readers import DAY_MS, PING_MS, Plan, Sent, traffic
from ingest.errors import Rejected
from ingest.events.validator import EventLimits, Sender, Validator
from schemas.event import read_catalogue

START_MS = 1_767_225_600_000
PLAN = Plan(START_MS, START_MS + 2 * DAY_MS, readers=400, copied=0.05, late=0.05, bad=0.05)
EVENTS = list(traffic(PLAN))
VALIDATOR = Validator(read_catalogue(), EventLimits(), "production")


def is_accepted(sent: Sent) -> bool:
    """Tell whether a collector takes it."""
    try:
        body = msgspec.json.encode({"messageBody": [sent.event]})
        return bool(VALIDATOR.read(body, Sender(sent.at_ms)).events)
    except Rejected:
        return False


def test_the_same_seed_gives_the_same_events_and_another_one_others() -> None:
    """Demos and tests can name their answers."""
    assert list(traffic(PLAN)) == EVENTS
    assert list(islice(traffic(PLAN, seed=8), 10)) != EVENTS[:10]


def test_events_come_in_the_order_in_which_they_are_sent() -> None:
    """So they can be sent while they are made; some are sent after their time, none before it."""
    assert [sent.at_ms for sent in EVENTS] == sorted(sent.at_ms for sent in EVENTS)
    assert {sent.at_ms >= sent.event["timestamp"] for sent in EVENTS} == {True}


def test_good_events_are_accepted_and_bad_ones_refused() -> None:
    """A copy is a good event, too."""
    assert [sent for sent in EVENTS if is_accepted(sent) != (sent.kind != "bad")] == []
    assert min(Counter(sent.kind for sent in EVENTS).values()) > 20


def test_a_copy_is_an_event_that_was_sent_before() -> None:
    """A retry under the same id, word for word."""
    first = {sent.event["eventId"]: sent.event for sent in reversed(EVENTS) if sent.kind == "new"}
    copies = [sent.event for sent in EVENTS if sent.kind == "copy"]

    assert [first[copy["eventId"]] for copy in copies] == copies
    assert len({sent.event["eventId"] for sent in EVENTS}) == len(EVENTS) - len(copies)


def test_a_page_view_is_one_ping_id_from_its_view_on() -> None:
    """PINGs follow their VIEW every 15 s, and nothing follows the EXIT."""
    pages: dict[str, dict[str, tuple[int, str]]] = {}
    for sent in (sent for sent in EVENTS if sent.kind == "new"):
        page = pages.setdefault(sent.event["pingId"], {})
        page[sent.event["eventId"]] = (sent.event["timestamp"], sent.event["eventType"])
    seen = Counter(kind for page in pages.values() for _, kind in page.values())
    assert seen.keys() == {*read_catalogue().types}
    for page in pages.values():
        events = sorted(page.values(), key=lambda item: item[0])
        at_ms = [at_ms for at_ms, kind in events if kind == "PING"]
        assert {later - earlier for earlier, later in pairwise(at_ms)} <= {PING_MS * number for number in range(1, 9)}
        assert "EXIT" not in [kind for _, kind in events][:-1]
