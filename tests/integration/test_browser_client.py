"""The browser client in Chromium, before a whole pipeline: every event is in the table once, in any weather."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import IS_SOAK
from tests.support.chromium import Site, browsing
from tests.support.storm import Storm, Weather, rough
from tests.system.conftest import Pipeline, start

LOADS = 20 if IS_SOAK else 5
EVENTS_OF_A_LOAD = 25 if IS_SOAK else 20
ROUNDS = 12 if IS_SOAK else 2

# Each load tracks its events in a burst and reloads in the middle of sending; the last one waits for the confirmations.
STORM = """<!DOCTYPE html><title>a page in a storm</title><script src="COLLECTOR/headrace.js"></script><script>
headrace.init({clientId: "storm", flushMs: 20, backoffMs: 20, pingMs: 1e9});
const load = Number(sessionStorage.load || 0), sent = JSON.parse(sessionStorage.sent || "[]");
const report = (what) => fetch("/report", {method: "POST", body: JSON.stringify(what)});
sent.push(headrace.view());
for (let n = 0; n < EVENTS; n++) sent.push(headrace.track("CLICK", {clickAction: "CONTENT", load, n}));
sessionStorage.load = load + 1;
sessionStorage.sent = JSON.stringify(sent);
if (load + 1 < LOADS) setTimeout(() => location.reload(), load % 2 ? 1 : 150);
else setInterval(() => headrace.pending() || sessionStorage.done || report({sent: sessionStorage.done = sent}), 50);
</script>"""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """The whole pipeline, as `make run` starts it."""
    running = start(tmp_path_factory.mktemp("browser") / "headrace")
    yield running
    running.stop()


def port_of(pipeline: Pipeline) -> int:
    """Return the collector's port."""
    return int(pipeline.addresses["ingest"].rpartition(":")[2])


def rows_of(pipeline: Pipeline, client_id: str, count: int) -> list[dict[str, Any]]:
    """Return the rows of a client as analysts see them, once there are so many."""
    query = f"SELECT * FROM headrace.events_unique WHERE client_id = '{client_id}' ORDER BY toString(event_id)"
    return pipeline.await_rows(query, count, 60)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_every_event_is_in_the_table_once(pipeline: Pipeline) -> None:
    """Through offline spells, reloads, lost answers, 429, 502 and 503; the same ids are sent again, never new ones."""
    page = STORM.replace("EVENTS", str(EVENTS_OF_A_LOAD)).replace("LOADS", str(LOADS))
    with (
        Storm(port_of(pipeline), rough(ROUNDS)) as storm,
        Site({"/": page.replace("COLLECTOR", storm.url)}) as site,
        browsing(f"{site.origin}/"),
    ):
        sent = site.next_report(600)["sent"]
    exits = LOADS - 1
    rows = rows_of(pipeline, "storm", len(sent) + exits)

    requests = Counter(weather for _, weather, _ in storm.seen)
    print(f"{len(sent)} events and {exits} EXITs in {len(storm.seen)} requests: {dict(requests)}")
    assert len(sent) == len(set(sent)) == LOADS * (EVENTS_OF_A_LOAD + 1)
    assert sorted(row["event_id"] for row in rows if row["event_type"] != "EXIT") == sorted(sent)
    assert sum(row["event_type"] == "EXIT" for row in rows) >= exits  # the browser's end may send one more
    assert set(Weather) == set(requests)


PAGE_VIEW = """<!DOCTYPE html><title>a page view</title><body style="height: 4000px">
<script src="COLLECTOR/headrace.js"></script><script>
const report = (what) => fetch("/report", {method: "POST", body: JSON.stringify(what)});
headrace.init({clientId: "reader", flushMs: 20, pingMs: 100, fields: {contentId: "article-1"}});
const view = headrace.view({eventLocation: "PAGE"});
let pings = 0;
const flush = setInterval(() => {
  if (++pings === 20) scrollTo(0, 1700);
  if (pings < 60 || headrace.pending()) return;
  clearInterval(flush);
  report({view}).then(() => { location.href = "/next"; });
}, 50);
</script>"""
NEXT = """<!DOCTYPE html><title>the next page</title>
<script src="COLLECTOR/headrace.js" data-client-id="reader"></script>
<script>
const wait = setInterval(() => {
  if (headrace.pending()) return;
  clearInterval(wait);
  fetch("/report", {method: "POST", body: '{"done": 1}'});
}, 50);
</script>"""


def test_a_page_view_has_its_pings_and_its_exit(pipeline: Pipeline) -> None:
    """VIEW, PINGs with focus and scroll, and the EXIT that a beacon carried: all under the page view's UUID."""
    with (
        Storm(port_of(pipeline), []) as storm,
        Site(
            {path: page.replace("COLLECTOR", storm.url) for path, page in (("/", PAGE_VIEW), ("/next", NEXT))}
        ) as site,
        browsing(f"{site.origin}/"),
    ):
        view = site.next_report()["view"]
        assert site.next_report() == {"done": 1}
    first = f"client_id = 'reader' AND ping_id = '{view}'"
    exits = pipeline.await_rows(f"SELECT * FROM headrace.events_unique WHERE {first} AND event_type = 'EXIT'", 1, 60)
    rows = pipeline.select(f"SELECT * FROM headrace.events_unique WHERE {first} ORDER BY toString(event_id)")
    said = [json.loads(str(row["properties_text"])) for row in rows]

    assert [row["event_type"] for row in rows[:2]] == ["VIEW", "PING"]
    assert rows[0]["event_id"] == view
    assert {row["event_type"] for row in rows[1:-1]} == {"PING"}
    assert [row["event_id"] for row in exits] == [rows[-1]["event_id"]]
    assert {row["active"] for row in rows[1:-1]} <= {0, 1}
    assert {(row["content_id"], row["event_location"]) for row in rows} == {("article-1", "PAGE")}
    assert len({row["anon_id"] for row in rows}) == 1
    depths = [fields["scrollDepth"] for fields in said[1:]]
    assert depths == sorted(depths)
    assert 0 < depths[0] < depths[-1] <= 100
    assert any(row["event_type"] == "VIEW" for row in rows_of(pipeline, "reader", len(rows) + 1)[len(rows) :])


ONE = """<!DOCTYPE html><title>one event</title><script type="module">
SETUP
const headrace = await import("COLLECTOR/headrace.mjs");
const refused = [];
headrace.init({clientId: "CLIENT", flushMs: 20, backoffMs: 1, pingMs: 1e9,
  onRefused: (event, why) => refused.push([event.n, why])});
for (const fields of EVENTS) headrace.track("CLICK", fields);
const wait = setInterval(() => {
  if (headrace.pending()) return;
  clearInterval(wait);
  fetch("/report", {method: "POST", body: JSON.stringify({refused, keys: Object.keys(localStorage)})});
}, 20);
</script>"""


def tracked(
    pipeline: Pipeline, client_id: str, events: list[dict[str, object]], weather: list[Weather], setup: str = ""
) -> tuple[Storm, dict[str, Any]]:
    """Track events on one page, by the module; return the front and what the page reports in the end."""
    page = ONE.replace("EVENTS", json.dumps(events)).replace("CLIENT", client_id).replace("SETUP", setup)
    with (
        Storm(port_of(pipeline), weather) as storm,
        Site({"/": page.replace("COLLECTOR", storm.url)}) as site,
        browsing(f"{site.origin}/"),
    ):
        return storm, site.next_report()


def test_a_retry_waits_as_long_as_it_is_told(pipeline: Pipeline) -> None:
    """Retry-After: 1 beats a shorter pause; the retry has the very same bytes."""
    storm, _ = tracked(pipeline, "patient", [{"n": 1}], [Weather.LIMITED, Weather.OVERLOADED])

    (first_s, _, first), (second_s, _, second), (_, _, third) = storm.seen
    assert second_s - first_s >= 1
    assert first == second == third


def test_a_bad_event_costs_itself_alone(pipeline: Pipeline) -> None:
    """What the collector names is given up and reported; the others arrive."""
    events: list[dict[str, object]] = [{"n": n, "active": "no" if n in (3, 4) else 1} for n in range(8)]

    _, said = tracked(pipeline, "careless", events, [])
    rows = rows_of(pipeline, "careless", 6)

    assert [number for number, _ in said["refused"]] == [3, 4]
    assert all("active" in why for _, why in said["refused"])
    assert sorted(json.loads(str(row["properties_text"]))["n"] for row in rows) == [0, 1, 2, 5, 6, 7]


def test_who_asks_for_privacy_has_no_lasting_id(pipeline: Pipeline) -> None:
    """Sec-GPC: the events arrive, and nothing of them or of the visitor stays in the browser."""
    private = 'Object.defineProperty(navigator, "globalPrivacyControl", {value: true});'
    private += 'localStorage["headrace:anonId"] = "x";'

    _, said = tracked(pipeline, "private", [{"n": 1}, {"n": 2}], [], private)
    rows = rows_of(pipeline, "private", 2)

    assert said["keys"] == []
    assert len({row["anon_id"] for row in rows}) == 1
    assert rows[0]["anon_id"] not in ("", "x")


def test_events_arrive_where_nothing_can_be_stored(pipeline: Pipeline) -> None:
    """A browser that forbids storage, or has none left, costs the queue's survival and nothing else."""
    forbidden = 'Object.defineProperty(window, "localStorage", {get() { throw new Error("denied"); }});'
    setup = forbidden + "const localStorage = {};"

    tracked(pipeline, "storeless", [{"n": 1}, {"n": 2}], [Weather.OFFLINE], setup)

    assert len(rows_of(pipeline, "storeless", 2)) == 2
