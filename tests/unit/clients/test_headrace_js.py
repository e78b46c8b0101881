"""The browser client's queue in Node, without a browser: what it puts into its events and its beacons."""

import json
import shutil
import subprocess
from typing import Any, Final

import pytest

from docs.tables import ROOT

# As little of a browser as the client asks for; `sent` has the bodies of all requests and beacons.
BROWSER: Final = """
const sent = [], kept = {}, on = {}, timers = [];
Object.assign(globalThis, {
  document: { currentScript: { src: "https://c/headrace.js", dataset: {} }, documentElement: { scrollHeight: 9 },
    hidden: false, hasFocus: () => true },
  location: { href: "https://p/" }, scrollY: 0, innerHeight: 9,
  localStorage: new Proxy(kept, { get: (_, name) => ({
    getItem: (key) => kept[key] ?? null, setItem(key, value) { kept[key] = value; },
    removeItem(key) { delete kept[key]; },
  })[name] }),
  addEventListener: (name, use) => { on[name] = use; },
  setInterval: (use) => { on.ping = use; },
  setTimeout: (use) => { timers.push(use); },
  fetch: async (url, { body }) => { sent.push(body); return { status: 201, json: async () => [] }; },
});
Object.defineProperty(globalThis, "navigator", { value: {
  sendBeacon: (url, body) => new Blob([body]).size <= 65536 && sent.push(body) > 0 } });
"""


OURS: Final = "web@https://c/collect/event"


def events_of(page: str) -> list[list[dict[str, Any]]]:
    """Run a page's script; return the events of each of its requests."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not on the PATH")
    script = (ROOT / "clients/browser/headrace.js").read_text("utf-8")
    code = f"{BROWSER}\n{script}\n(async () => {{ {page}\nconsole.log(JSON.stringify(sent)); }})();"
    out = subprocess.run([node, "-e", code], capture_output=True, check=True, text=True, timeout=60).stdout
    return [json.loads(body)["messageBody"] for body in json.loads(out)]


@pytest.mark.parametrize("absent", ["undefined", "null", '""'])
def test_an_event_that_names_no_id_gets_one(absent: str) -> None:
    """Or the second such event would take the first one's place in the queue."""
    (events,) = events_of(
        f"for (const n of [1, 2]) headrace.track('CLICK', {{ n, eventId: {absent} }}); await headrace.flush();"
    )

    assert [event["n"] for event in events] == [1, 2]
    assert len({event["eventId"] for event in events}) == 2


def test_events_of_a_page_name_its_content() -> None:
    """That of the view, not of the page that was loaded first: an application of one page shows several."""
    (events,) = events_of(
        "headrace.init({ fields: { contentId: 'first' } }); headrace.track('CLICK'); headrace.view();"
        "headrace.view({ contentId: 'second' }); on.ping(); headrace.track('CLICK', { contentId: 'teaser' });"
        "await headrace.flush();"
    )

    assert [(event["eventType"], event["contentId"]) for event in events] == [
        ("CLICK", "first"), ("VIEW", "first"), ("EXIT", "first"), ("VIEW", "second"), ("PING", "second"),
        ("CLICK", "teaser"),
    ]  # fmt: skip


def test_beacons_fit_whatever_the_letters_are() -> None:
    """A browser refuses more than 64 KiB, counted in bytes; one event that is larger keeps no other back."""
    requests = events_of(
        "headrace.track('CLICK', { n: -1, text: 'x'.repeat(70000) });"
        "for (let n = 0; n < 30; n++) headrace.track('CLICK', { n, text: '\\u6c49'.repeat(1200) }); on.pagehide();"
    )

    assert [event["n"] for events in requests for event in events] == list(range(30))


def test_a_view_ends_the_one_before() -> None:
    """An application of one page changes its address first; the EXIT names the page that it ends, as measured."""
    (events,) = events_of(
        "headrace.init({ clientId: 'web' }); headrace.view(); scrollY = 9; document.documentElement.scrollHeight = 36;"
        "on.scroll(); location.href = 'https://p/next'; document.documentElement.scrollHeight = 9; headrace.view();"
        "on.pagehide(); sent.length = 0; await headrace.flush();"
    )
    first, exited, second, left = events

    assert [event["eventType"] for event in events] == ["VIEW", "EXIT", "VIEW", "EXIT"]
    assert (exited["pingId"], exited["url"]) == (first["eventId"], "https://p/")
    assert (exited["scrollDepth"], exited["pageLength"]) == (50, 36)
    assert (left["pingId"], left["url"], left["scrollDepth"]) == (second["eventId"], "https://p/next", 100)


def test_a_page_that_comes_back_has_one_exit_for_each_of_its_views() -> None:
    """The browser's back button shows the page as it was: a new view, whose EXIT is not the old one's."""
    (events,) = events_of(
        "headrace.view(); on.pagehide(); sent.length = 0; on.pageshow({ persisted: true }); headrace.view();"
        "await headrace.flush();"
    )

    assert [event["eventType"] for event in events] == ["VIEW", "EXIT", "VIEW", "EXIT", "VIEW"]
    views, exits = events[::2], events[1::2]
    assert [event["pingId"] for event in exits] == [event["eventId"] for event in views[:2]]


def test_what_a_prerendered_page_does_counts_when_it_is_shown() -> None:
    """Most are, some never; the ids that the calls gave are those of the events."""
    page = (
        "const shown = []; document.prerendering = true;"
        "document.addEventListener = (name, use) => name === 'prerenderingchange' && shown.push(use);"
        "const ids = [headrace.view({ contentId: 'a' }), headrace.track('CLICK', { n: 1 })];"
        "await headrace.flush(); const before = headrace.pending() + sent.length;"
    )
    activated = "document.prerendering = false; for (const use of shown) use(); await headrace.flush(); sent.push"

    (events, (told,)) = events_of(f"{page} {activated}(JSON.stringify({{ messageBody: [{{ ids, before }}] }}));")

    assert events_of(page) == []
    assert [(event["eventType"], event["contentId"]) for event in events] == [("VIEW", "a"), ("CLICK", "a")]
    assert told == {"ids": [event["eventId"] for event in events], "before": 0}
    assert {event["pingId"] for event in events} == {told["ids"][0]}


def left(client: str, number: int) -> str:
    """Return the code that leaves an event of an earlier page in the storage."""
    return f"kept['headrace:{client}:0190{number}'] = JSON.stringify({{ n: {number} }});"


@pytest.mark.parametrize(
    "other", ["other@https://c/collect/event", "@https://c/collect/event", "web@https://d/collect/event"]
)
def test_an_application_sends_no_event_of_another_one(other: str) -> None:
    """They share the origin's storage; another's events may need another key, and would block the queue for ever."""
    (events,) = events_of(
        f"{left(other, 0)} {left(OURS, 1)} headrace.init({{ clientId: 'web' }}); await headrace.flush();"
    )

    assert events == [{"n": 1}]


def test_an_application_with_a_new_key_sends_what_it_left() -> None:
    """The key in the address is no part of the queue's name."""
    (events,) = events_of(
        f"{left(OURS, 1)} headrace.init({{ clientId: 'web', url: 'https://c/collect/event?key=new' }});"
        "await headrace.flush();"
    )

    assert events == [{"n": 1}]


def test_an_event_outlives_a_page_that_throws_when_it_hears_of_another() -> None:
    """A full queue gives up its oldest event: the new one is kept, and the page's mistake shows in the console."""
    requests = events_of(
        "let heard = 0; headrace.init({ onRefused() { heard++; throw new Error('mine'); } });"
        "for (let n = 0; n <= 1000; n++) headrace.track('CLICK', { n }); await headrace.flush();"
        "const thrown = timers.filter((use) => { try { use(); } catch (error) { return error.message === 'mine'; } });"
        "if (heard !== 1 || thrown.length !== 1) sent.length = 0;"
    )

    assert {event["n"] for events in requests for event in events} >= set(range(1, 1001))
