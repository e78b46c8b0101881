"""A proxy before ClickHouse that takes no large request, or answers itself: the cause is said, and nothing is lost."""

from typing import Final

import pytest

from tests.conftest import cases
from tests.fault.conftest import Oracle
from tests.support.fleet import Member, until
from tests.support.proxy import LimitBody, Pass
from tests.support.rig import INSERT, Rig, page

_LIMIT_BYTES: Final = 10_000  # some fifty rows, behind a head of 1.8 kB
_RETRIES: Final = "headrace_consumer_retries_total"


def test_batches_are_made_smaller_for_a_proxy_that_takes_no_large_request(
    rig: Rig, member: Member, oracle: Oracle
) -> None:
    """Though their intents are out; those of a worker that was killed over it too, and each record once."""
    rig.proxy.set(LimitBody(_LIMIT_BYTES), only=INSERT)
    rig.feed.send(600)
    until(lambda: "batches are made smaller" in member.said(), "a smaller batch")
    rig.fleet.settle(rig.feed)
    until(lambda: not rig.fleet.intents(), "the last commits")
    struck = rig.proxy.count(LimitBody)
    rig.proxy.set(LimitBody(0), only=INSERT)
    rig.feed.send(400)
    until(lambda: len(rig.fleet.intents()) > 0 and rig.proxy.count(LimitBody) > struck, "an intent")
    member.kill()
    left = rig.fleet.intents()
    rig.proxy.set(LimitBody(_LIMIT_BYTES), only=INSERT)
    struck = rig.proxy.count(LimitBody)
    successor = rig.start()
    found = rig.fleet.settle(rig.feed)
    oracle.say(
        of_successor=rig.proxy.count(LimitBody) - struck,
        struck=struck,
        rows=found.rows,
        letters=found.letters,
        inherited=len(left),
    )
    found.check()
    assert left
    assert successor.is_alive
    assert '"bytes_max"' in member.said() + successor.said()


def test_a_request_that_can_not_be_smaller_halts_and_says_which_limit(rig: Rig, member: Member, oracle: Oracle) -> None:
    """One record alone: its partition waits for a higher limit, and goes on by itself."""
    rig.fleet.settle(rig.feed)
    rig.proxy.set(LimitBody(1), only=INSERT)
    rig.feed.send(40)
    until(lambda: '"too_large"' in member.page("/readyz")[1], "halted")
    ready = member.page("/readyz")
    rig.proxy.set(Pass())
    found = rig.fleet.settle(rig.feed)
    until(lambda: member.page("/readyz")[0] == 200, "ready again")
    oracle.say(struck=rig.proxy.count(LimitBody), rows=found.rows, letters=found.letters)
    found.check()
    assert "HTTP 413 for a request of " in ready[1]
    assert "client_max_body_size" in ready[1]


@pytest.mark.parametrize(
    ("status", "words"),
    cases([(502, "a proxy can't reach it"), (504, "a proxy timed out"), (429, "limits")], [(504, "a proxy timed out")]),
)
def test_a_page_in_clickhouses_place_is_said_by_its_cause(
    rig: Rig, member: Member, oracle: Oracle, status: int, words: str
) -> None:
    """In the log, and never what stands on it."""
    before = member.figure(_RETRIES, step="insert", cause="unknown")
    rig.proxy.set(page(status), times=2, only=INSERT)
    rig.feed.send(50)
    until(lambda: f"HTTP {status}, not from ClickHouse" in member.said(), "the cause")
    found = rig.fleet.settle(rig.feed)
    oracle.say(retries=member.figure(_RETRIES, step="insert", cause="unknown") - before, rows=found.rows)
    found.check()
    assert words in member.said()
    assert "nobody you know" not in member.said()
