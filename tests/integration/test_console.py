"""The console in Chromium, before a whole pipeline: by keyboard alone, with hostile events, for everybody's eyes."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.event import read_catalogue
from tests.conftest import SOAK_ONLY
from tests.support.axe import faults
from tests.support.chromium import Site
from tests.support.devtools import Page, driving
from tests.system.conftest import Pipeline, start

CATALOGUE = read_catalogue()
HOSTILE = "</pre><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>\"'&lt;${1}"
WAIT_S = 60


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """The whole pipeline, as `make run` starts it."""
    running = start(tmp_path_factory.mktemp("console") / "headrace")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    """One browser for all of these tests."""
    with driving() as page:
        yield page


@pytest.fixture
def page(pipeline: Pipeline, browser: Page) -> Page:
    """The console, freshly loaded."""
    browser.open("about:blank")
    browser.open(f"{pipeline.addresses['console']}/")
    browser.wait("document.getElementById('body').value && /[0-9]/.test(document.getElementById('rows').textContent)")
    return browser


def focus(page: Page, selector: str) -> None:
    """Press Tab until an element has the focus, which must be seen there."""
    for _ in range(120):
        page.press("Tab")
        if page.run(f"document.activeElement.matches({json.dumps(selector)})"):
            assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    raise AssertionError(f"Tab never reaches {selector}")


def choose(page: Page, selector: str, value: str) -> None:
    """Focus a list and press arrows until it has a value."""
    focus(page, selector)
    for _ in range(20):
        if page.run(f"document.querySelector({json.dumps(selector)}).value") == value:
            return
        page.press("ArrowDown")
    raise AssertionError(f"{selector} has no {value}")


def test_an_event_is_posted_and_followed_by_keyboard(page: Page, pipeline: Pipeline) -> None:
    """Type, send, see it arrive with its offset and its times, open its row, close it: without a mouse."""
    choose(page, "#type", "PURCHASE")
    page.wait("document.getElementById('body').value.includes('PURCHASE')")
    event_id = json.loads(page.run("document.getElementById('body').value"))["messageBody"][0]["eventId"]
    focus(page, "[type=submit]")
    page.press("Enter")
    page.wait("document.querySelector('.verdict')?.textContent.startsWith('In the table after')")
    steps = page.run("[...document.querySelectorAll('.steps li')].map(one => one.innerText)")
    page.wait("document.querySelector('#events tr.yours')")
    focus(page, "#outcome button")
    page.press("Enter")
    shown = page.wait("document.getElementById('row').open && document.getElementById('row').innerText")
    page.press("Escape")

    (row,) = pipeline.select(f"SELECT _partition, _offset, amount FROM headrace.events WHERE event_id = '{event_id}'")
    assert [step.split("\n")[0] for step in steps] == ["Request", "Answer 201", "Offset", "Worker", "Row"]
    assert f"events / {row['_partition']} / {row['_offset']}" in steps[2]
    assert event_id in shown
    assert "9.99" in shown
    assert page.run("document.getElementById('row').open") is False


def test_a_broken_event_is_refused_with_its_reason(page: Page) -> None:
    """By keyboard; the member is named, and so is the code among the refused requests."""
    choose(page, "#fault", "type")
    page.wait("document.getElementById('body').value.includes('HOVER')")
    focus(page, "[type=submit]")
    page.press("Enter")

    verdict = page.wait("document.querySelector('.verdict.bad')?.textContent")
    details = page.run("document.querySelector('.details')?.innerText")
    assert "400" in verdict
    assert "invalid event type" in verdict
    assert "/messageBody/0/eventType" in details
    assert "HOVER" in details
    page.wait("document.getElementById('refusals').innerText.includes('bad_event_enum')")


def test_a_broken_event_beside_a_good_one_becomes_a_dead_letter(page: Page) -> None:
    """Both are followed: a row, and a dead letter with its reason, which is listed too."""
    choose(page, "#fault", "flag")
    focus(page, "#lenient")
    page.press(" ")
    page.wait("JSON.parse(document.getElementById('body').value).messageBody.length === 2")
    focus(page, "#body")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", modifiers=2, windowsVirtualKeyCode=13)

    page.wait("document.querySelector('.verdict')?.textContent.startsWith('In the table after')")
    steps = page.run("[...document.querySelectorAll('.steps b')].map(one => one.textContent)")
    assert steps == ["Request", "Answer 201", "Offset", "Worker", "Row", "Dead letter"]
    page.wait("document.getElementById('dead').innerText.includes('bad_event_type')")
    page.wait("document.getElementById('reasons').innerText.includes('bad_event_type')")


def hostile() -> dict[str, object]:
    """Return an event with the same attack in every member that takes text."""
    fields: dict[str, object] = {
        name: HOSTILE for name, field in CATALOGUE.fields.items() if field.type in ("string", "id")
    }
    members: dict[str, object] = {
        name: HOSTILE for name, member in CATALOGUE.properties.items() if member.type == "string"
    }
    lists: dict[str, object] = {
        name: [HOSTILE] for name, member in CATALOGUE.properties.items() if member.type == "strings"
    }
    return fields | members | lists | {HOSTILE: HOSTILE}


def lenient(pipeline: Pipeline, events: list[dict[str, object]]) -> None:
    """Post events of which the bad ones become dead letters."""
    request = urllib.request.Request(
        f"{pipeline.addresses['ingest']}/collect/event",
        json.dumps({"messageBody": events}).encode(),
        {"Content-Type": "application/json", "Prefer": "handling=lenient"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201


def test_hostile_events_are_text_everywhere(page: Page, pipeline: Pipeline) -> None:
    """A script in every field and name: in the list, the row, the dead letter, and the answers to all questions."""
    elements = "document.querySelectorAll('script, img, iframe, object, a[href]').length"
    before = page.run(elements)
    lenient(pipeline, [hostile() | {"eventType": name, "amount": 5} for name in CATALOGUE.types] + [hostile()])
    shown = (
        f"[...document.querySelectorAll('td, pre')].some(one => one.textContent.includes({json.dumps(HOSTILE[:30])}))"
    )
    page.wait(f"document.getElementById('events').innerText.includes('<script>') && {shown}")
    page.wait("document.getElementById('dead').textContent.includes('<script>')")
    page.run("document.querySelector('#events button').click()")
    page.wait("document.getElementById('row-values').textContent.includes('<script>')")
    page.run("document.getElementById('row').close()")
    answers = ask_everything(page)

    assert len(answers) >= 25
    assert all(" read" in answer for answer in answers)  # none of them failed
    assert sum("<script>" in answer for answer in answers) > 5
    assert page.run("window.hacked") is None
    assert page.run(elements) == before
    assert page.run(
        "[...document.querySelectorAll('*')].flatMap(one => one.getAttributeNames()).every(name => !/^on/.test(name))"
    )


def ask_everything(page: Page) -> list[str]:
    """Choose each question and return what the page shows of each answer."""
    answers = []
    for number in range(page.run("document.querySelectorAll('#questions button').length")):
        page.run(f"document.querySelectorAll('#questions button')[{number}].click()")
        page.wait("document.querySelector('#answer .cost')")
        answers.append(page.run("document.getElementById('answer').textContent"))
    return answers


def test_nothing_is_asked_while_the_page_is_hidden(page: Page) -> None:
    """And at once again when it is seen."""
    asked = "performance.getEntriesByType('resource').filter(one => one.name.endsWith('/api/live')).length"
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    event = "document.dispatchEvent(new Event('visibilitychange'))"
    first = page.run(asked)
    page.wait(f"{asked} > {first}")
    page.run(hide % "true" + event)

    def is_quiet() -> bool:
        before = page.run(asked)
        time.sleep(1.5)  # longer than the page waits between two questions
        return bool(page.run(asked) == before)

    until(is_quiet)  # one may be under way
    hidden = page.run(asked)
    page.run(hide % "false" + event)

    page.wait(f"{asked} > {hidden}")


@SOAK_ONLY
def test_the_switch_starts_and_stops_traffic(page: Page, pipeline: Pipeline) -> None:
    """By keyboard; a killed console is started again, and takes its traffic with it."""
    choose(page, "#mode", "live-50")
    focus(page, "#switch")  # it comes before the list: Tab goes round
    page.press(" ")
    page.wait("document.getElementById('switch').getAttribute('aria-checked') === 'true'")
    page.wait("parseFloat(document.getElementById('rate').textContent) > 1")
    assert processes(pipeline, "bench.traffic")
    page.press(" ")
    page.wait("document.getElementById('switch').getAttribute('aria-checked') === 'false'")
    until(lambda: not processes(pipeline, "bench.traffic"))
    page.press(" ")
    until(lambda: bool(processes(pipeline, "bench.traffic")))

    until(lambda: len(processes(pipeline, "deploy.embedded.console")) == 1)  # it was two while it started the traffic
    (console,) = processes(pipeline, "deploy.embedded.console")
    os.kill(console, signal.SIGKILL)
    until(lambda: not processes(pipeline, "bench.traffic"))
    until(lambda: processes(pipeline, "deploy.embedded.console") not in ([], [console]))
    page.wait("document.getElementById('problems').hidden && document.getElementById('switch').ariaChecked === 'false'")


def processes(pipeline: Pipeline, module: str) -> list[int]:
    """Return the processes that run a module for this pipeline, by a part of their command line."""
    wanted, found = f"-m\0{module}\0".encode(), []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        if wanted in command and pipeline.addresses["ingest"].encode() in command:
            found.append(int(path.parent.name))
    return found


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


ATTACK = """<!DOCTYPE html><title>another site</title><script type="module">
const url = "CONSOLE/api/";
const outcome = async (route, options) => {
  try {
    const answer = await fetch(url + route, options);
    return answer.type + " " + answer.status;
  } catch (error) { return String(error); }
};
const body = JSON.stringify({mode: "live-10"});
const report = {
  read: await outcome("live"),
  blind: await outcome("traffic", {method: "POST", mode: "no-cors", body}),
  asked: await outcome("traffic", {method: "POST", headers: {"X-Headrace": "console"}, body}),
};
await fetch("/report", {method: "POST", body: JSON.stringify(report)});
</script>"""


def test_another_sites_page_reads_and_starts_nothing(browser: Page, pipeline: Pipeline) -> None:
    """It can send what a form can, and that does nothing."""
    console = pipeline.addresses["console"]
    with Site({"/": ATTACK.replace("CONSOLE", console)}) as site:
        browser.open(f"{site.origin}/")
        said = site.next_report()
    with urllib.request.urlopen(f"{console}/api/live", timeout=30) as answer:
        mode = json.load(answer)["traffic"]["mode"]

    assert said == dict.fromkeys(("read", "blind", "asked"), "TypeError: Failed to fetch")
    assert mode == ""


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), pytest.param("dark", 390, marks=SOAK_ONLY)])
def test_nothing_serious_keeps_anybody_out(page: Page, scheme: str, width: int) -> None:
    """Labels, roles, contrast, with an answer and a followed event on the page; and nothing scrolls sideways."""
    page.size(width, 900)
    page.scheme(scheme)
    page.run("document.querySelector('#questions button').click()")
    page.run("document.querySelector('[type=submit]').click()")
    page.wait("document.querySelector('#answer .cost') && document.querySelector('.steps .waiting') === null")
    page.wait("document.querySelector('.verdict')")
    found = faults(page)
    wide = page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.size(1280, 900)
    page.scheme("light")

    assert found == []
    assert wide <= 0
