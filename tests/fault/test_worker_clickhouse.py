"""ClickHouse answers wrongly, late or not at all, under load with poison in it: every record ends up once."""

from typing import Final

import pytest

from tests.fault.conftest import PARTITIONS, Oracle
from tests.support.fleet import Member, until
from tests.support.proxy import Answer, BlackHole, CutBody, DelayAnswer, DelayRequest, DropAnswer, Mode, Reset
from tests.support.rig import INSERT, TIMEOUT_S, Rig, page, refusal

_PER_SECOND: Final = 200


_EXCEPTION_BEHIND_THE_HEAD: Final = Answer(
    200,
    {"X-ClickHouse-Query-Id": "1", "X-ClickHouse-Exception-Tag": "abcdefghijklmnop"},
    b"__exception__\r\nabcdefghijklmnop\r\nCode: 241. DB::Exception: Memory. (MEMORY_LIMIT_EXCEEDED)\r\n"
    b"68 abcdefghijklmnop\r\n__exception__\r\n",
)
FAULTS: Final[dict[str, tuple[str, int, list[Mode]]]] = {
    "applied, and the answer is lost": ("unknown", 2 * PARTITIONS, [DropAnswer()]),
    "applied, and the answer is late": ("unknown", PARTITIONS, [DelayAnswer(TIMEOUT_S + 0.5)]),
    "applied while the second try runs": ("unknown", PARTITIONS, [DelayRequest(TIMEOUT_S + 0.2)]),
    "applied long after the second try": ("unknown", PARTITIONS, [DelayRequest(TIMEOUT_S + 2)]),
    "cut in the middle": ("unknown", 2, [CutBody(0), CutBody(1), CutBody(1000), CutBody(9000), CutBody(-1)]),
    "reset": ("unknown", 3, [Reset()]),
    "never answered": ("unknown", 2, [BlackHole()]),
    "refused for now": (
        "busy",
        2,
        [
            refusal(500, 202, "TOO_MANY_SIMULTANEOUS_QUERIES"),
            refusal(500, 241, "MEMORY_LIMIT_EXCEEDED"),
            refusal(500, 243, "NOT_ENOUGH_SPACE"),
            refusal(500, 252, "TOO_MANY_PARTS", "Too many parts (300). Merges are behind"),
        ],
    ),
    "ended in the middle": (
        "unknown",
        2,
        [
            refusal(500, 319, "UNKNOWN_STATUS_OF_INSERT"),
            refusal(500, 242, "TABLE_IS_READ_ONLY"),
            refusal(500, 999, "KEEPER_EXCEPTION"),
            refusal(503, 98_765, "FROM_THE_FUTURE"),
        ],
    ),
    "answered by somebody between": (
        "unknown",
        1,
        [Answer(400, {}, b"Code: 27. DB::Exception: Cannot parse. (X)\n"), *map(page, (401, 404, 429, 502, 503, 504))],
    ),
    "answered with a 200 that is none": (
        "unknown",
        2,
        [page(200), Answer(200), _EXCEPTION_BEHIND_THE_HEAD, page(303, Location="/ping"), page(307, Location="/ping")],
    ),
}
"""Each kind: the cause that the metrics name, how many inserts each mode strikes, and the modes, in turn."""


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_at_an_insert_costs_nothing_but_time(rig: Rig, member: Member, oracle: Oracle, kind: str) -> None:
    """It is tried again under its token, whatever became of it, and the metrics say what happened."""
    cause, times, modes = FAULTS[kind]
    retries, ended = retried(member, cause), ended_so(member, cause)
    with rig.feed.beside(poison_every=200).running(_PER_SECOND):  # most inserts are whole, and struck as such
        for mode in modes:
            count = rig.proxy.count(type(mode)) + times
            rig.proxy.set(mode, times, only=INSERT)
            rig.proxy.await_count(type(mode), count, 60)
    found = rig.fleet.settle(rig.feed)
    struck = times * len(modes)
    oracle.say(struck=struck, rows=found.rows, letters=found.letters, missing=len(found.missing))
    found.check()
    # The rows may be there before the worker has missed the answer.
    until(lambda: retried(member, cause) - retries >= struck, "retries")
    until(lambda: ended_so(member, cause) - ended >= struck, "ends of inserts")


def retried(member: Member, cause: str) -> float:
    """Return how often inserts were tried again."""
    return member.figure("headrace_consumer_retries_total", step="insert", cause=cause)


def ended_so(member: Member, cause: str) -> float:
    """Return how many inserts have ended so."""
    return member.figure("headrace_consumer_insert_seconds_count", table="events", outcome=cause)
