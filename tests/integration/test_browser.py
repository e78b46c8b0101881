"""Events from pages of another origin, in a real browser: what is sent arrives at the broker, in whichever way."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from schemas.codec import FRAME_BYTES, decode, read_schema
from tests.support.chromium import Site, browsing, rendered
from tests.support.collector import Collector, collector
from tests.support.kafka import Broker
from tests.support.kafka_clients import read_all

PAGE = """<!DOCTYPE html><title>a page of another origin</title><script>
const url = "COLLECTOR/collect/event";
const body = (name) => JSON.stringify({messageBody: [{eventType: "VIEW", anonId: name, url: location.href}]});
const report = (what) => fetch("/report", {method: "POST", body: JSON.stringify(what)});
const read = async (answer) => ({
  status: answer.status, json: await answer.json(), headers: Object.fromEntries(answer.headers)
});

async function sendJson() {
  return read(await fetch(url, {method: "POST", body: body("fetch"), headers: {
    "Content-Type": "application/json", "Idempotency-Key": "one", "Prefer": "handling=lenient",
    "X-API-Key": "unused", "Authorization": "Bearer unused",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
  }}));
}

async function sendGzip() {
  const packed = new Blob([body("gzip")]).stream().pipeThrough(new CompressionStream("gzip"));
  return read(await fetch(url, {method: "POST", body: await new Response(packed).blob(),
    headers: {"Content-Type": "application/json", "Content-Encoding": "gzip"}}));
}

async function sendNonsense() {
  return read(await fetch(url, {method: "POST", body: "{", headers: {"Content-Type": "application/json"}}));
}

// What Sentry, W3C baggage, Application Insights, jQuery, New Relic and Datadog put into every request of a page.
async function sendWithAgents() {
  return read(await fetch(url, {method: "POST", body: body("agents"), headers: {
    "Content-Type": "application/json", "sentry-trace": "1-2-1", "baggage": "a=b", "Request-Id": "|1.2",
    "newrelic": "e30=", "X-Requested-With": "XMLHttpRequest", "x-datadog-trace-id": "7"
  }}));
}

async function sendWithCredentials() {
  return read(await fetch(url, {method: "POST", credentials: "include", body: body("credentials"),
    headers: {"Content-Type": "application/json"}}));
}

async function sendKept() {
  return read(await fetch(url, {method: "POST", keepalive: true, body: body("kept"),
    headers: {"Content-Type": "application/json"}}));
}

function sendByXhr() {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.withCredentials = true;
    request.onload = () => resolve({status: request.status, limit: request.getResponseHeader("X-RateLimit-Limit")});
    request.onerror = reject;
    request.send(body("xhr"));
  });
}

const blob = (name, type) => new Blob([body(name)], {type});
const sendBeacons = () => [
  navigator.sendBeacon(url, body("beacon of a string")),
  navigator.sendBeacon(url, blob("beacon of a text blob", "text/plain")),
  navigator.sendBeacon(url, blob("beacon of a JSON blob", "application/json")),
  navigator.sendBeacon(url, blob("beacon of a blob", ""))
];

addEventListener("pagehide", () => {
  navigator.sendBeacon(url, body("beacon"));
  navigator.sendBeacon(url, blob("last beacon of a JSON blob", "application/json"));
  fetch(url, {method: "POST", keepalive: true, body: body("last kept")});
});

(async () => {
  try {
    await report({json: await sendJson(), gzip: await sendGzip(), nonsense: await sendNonsense(),
      agents: await sendWithAgents(), credentials: await sendWithCredentials(), kept: await sendKept(),
      xhr: await sendByXhr(), beacons: sendBeacons()});
    location.href = "/next";
  } catch (error) {
    await report({error: String(error)});
  }
})();
</script>"""
WAYS = {
    *("fetch", "gzip", "agents", "credentials", "kept", "xhr", "beacon", "last beacon of a JSON blob", "last kept"),
    *(f"beacon of a {kind}" for kind in ("string", "text blob", "JSON blob", "blob")),
}
NEXT = """<!DOCTYPE html><title>the next page</title><script>
fetch("/report", {method: "POST", body: JSON.stringify({next: true})});
</script>"""


@pytest.fixture
def collected(embedded_broker: Broker, new_topic: Callable[..., str]) -> Iterator[tuple[Collector, str]]:
    """A collector with its own topic, and the topic's name."""
    topic = new_topic()
    with collector(embedded_broker.bootstrap_servers, topic=topic, dead_letter_topic=new_topic()) as running:
        yield running, topic


def events_of(broker: Broker, topic: str, count: int) -> dict[str, dict[str, Any]]:
    """Return the first events of a topic by the way that they were sent."""
    schema = read_schema("event")
    events = [decode(value[FRAME_BYTES:], schema) for value in read_all(broker, topic, count)]
    return {event["anonId"]: event for event in events}


def test_a_page_of_another_origin_sends_in_every_way(embedded_broker: Broker, collected: tuple[Collector, str]) -> None:
    """By fetch, with credentials, beside agents, by beacons of each kind, while the page goes: all are in the topic."""
    running, topic = collected
    with Site({"/": PAGE.replace("COLLECTOR", running.url), "/next": NEXT}) as site, browsing(f"{site.origin}/"):
        said = site.next_report()
        assert site.next_report() == {"next": True}
        events = events_of(embedded_broker, topic, len(WAYS))

    assert set(events) == WAYS
    assert all(event["url"] == f"{site.origin}/" for event in events.values())
    assert "HeadlessChrome" in events["beacon"]["userAgent"]
    assert events["fetch"]["traceId"] == "0af7651916cd43dd8448eb211c80319c"
    assert {said[way]["status"] for way in ("json", "gzip", "agents", "credentials", "kept", "xhr")} == {201}
    assert said["beacons"] == [True] * 4
    assert said["xhr"]["limit"] == "1000"
    assert "pingId" in said["json"]["json"][0]["value"]


def test_a_page_reads_what_it_needs_of_an_answer(collected: tuple[Collector, str]) -> None:
    """The exposed headers, and the reason of an error, are readable from another origin."""
    running, _ = collected
    with Site({"/": PAGE.replace("COLLECTOR", running.url), "/next": NEXT}) as site, browsing(f"{site.origin}/"):
        said = site.next_report()

    taken, nonsense = said["json"]["headers"], said["nonsense"]
    assert {"x-request-id", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"} <= set(taken)
    assert taken["preference-applied"] == "handling=lenient"
    assert (nonsense["status"], nonsense["json"]["error"]) == (400, "Bad Request")
    assert "x-request-id" in nonsense["headers"]


def test_a_page_of_an_origin_that_is_not_allowed_can_read_nothing(
    embedded_broker: Broker, new_topic: Callable[..., str]
) -> None:
    """With a list of origins, the browser keeps the answer from a page of another one: its preflight fails."""
    with (
        collector(
            embedded_broker.bootstrap_servers, topic=new_topic(), allowed_origins="https://www.example.com"
        ) as running,
        Site({"/": PAGE.replace("COLLECTOR", running.url)}) as site,
        browsing(f"{site.origin}/"),
    ):
        said = site.next_report()
        preflight = running.ask("OPTIONS", "/collect/event", headers=_preflight(site.origin))

    assert said == {"error": "TypeError: Failed to fetch"}
    assert "access-control-allow-origin" not in preflight.headers


def _preflight(origin: str) -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": "POST"}


def test_the_documentation_page_shows_the_interface(collected: tuple[Collector, str]) -> None:
    """/docs works from its own assets alone, under a policy that lets it ask no other host."""
    running, _ = collected

    shown = rendered(f"{running.url}/docs")

    assert "Collect events" in shown
    assert "/collect/validate" in shown
    assert "default-src 'none'" in running.ask("GET", "/docs").headers["content-security-policy"]
