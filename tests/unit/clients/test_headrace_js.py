"""The browser client's queue in Node, without a browser: what it puts into its events and its beacons."""

import json
import shutil
import subprocess
from typing import Any, Final

import pytest

from docs.tables import ROOT

# As little of a browser as the client asks for; `sent` has the bodies of all requests and beacons.
BROWSER: Final = """
const sent = [], kept = {}, on = {};
Object.assign(globalThis, {
  document: { currentScript: { src: "https://c/headrace.js", dataset: {} }, documentElement: { scrollHeight: 9 },
    hidden: false, hasFocus: () => true },
  location: { href: "https://p/" }, scrollY: 0, innerHeight: 9,
  localStorage: { getItem: (key) => kept[key] ?? null, setItem(key, value) { kept[key] = value; },
    removeItem(key) { delete kept[key]; } },
  addEventListener: (name, use) => { on[name] = use; },
  setInterval: (use) => { on.ping = use; },
  setTimeout() {},
  fetch: async (url, { body }) => { sent.push(body); return { status: 201, json: async () => [] }; },
});
Object.defineProperty(globalThis, "navigator", { value: {
  sendBeacon: (url, body) => new Blob([body]).size <= 65536 && sent.push(body) > 0 } });
"""


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
        ("CLICK", "first"), ("VIEW", "first"), ("VIEW", "second"), ("PING", "second"), ("CLICK", "teaser"),
    ]  # fmt: skip


def test_beacons_fit_whatever_the_letters_are() -> None:
    """A browser refuses more than 64 KiB, counted in bytes; one event that is larger keeps no other back."""
    requests = events_of(
        "headrace.track('CLICK', { n: -1, text: 'x'.repeat(70000) });"
        "for (let n = 0; n < 30; n++) headrace.track('CLICK', { n, text: '\\u6c49'.repeat(1200) }); on.pagehide();"
    )

    assert [event["n"] for events in requests for event in events] == list(range(30))
