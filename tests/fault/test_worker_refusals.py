"""ClickHouse refuses everything for a while, or refuses rows and fails in the middle of the search for them."""

import json
import time
import uuid
from typing import Final

import pytest

from consumer.errors import HaltCode
from tests.conftest import IS_SOAK, cases
from tests.fault.conftest import PARTITIONS, Oracle
from tests.support.fleet import Member, until
from tests.support.proxy import Answer, CutBody, DelayRequest, DropAnswer, Mode, Pass, Refuse, Reset
from tests.support.rig import INSERT, PROBE, QUERY, TIMEOUT_S, TWIN, Rig, page, refusal

_PER_SECOND: Final = 100
_MODES: Final = 3
"""How many ways of each kind `make test` takes; `make soak` takes all."""
_RETRIES: Final = "headrace_consumer_retries_total"

HALTED: Final[dict[str, tuple[HaltCode, Answer]]] = {
    "read only": (HaltCode.DENIED, refusal(500, 164, "READONLY", "Cannot execute query in readonly mode")),
    "right revoked": (HaltCode.DENIED, refusal(403, 497, "ACCESS_DENIED", "default: Not enough privileges")),
    "no table": (HaltCode.TABLE, refusal(404, 60, "UNKNOWN_TABLE")),
    "partitions": (
        HaltCode.TABLE,
        refusal(500, 252, "TOO_MANY_PARTS", "Too many partitions for single INSERT block (more than 100)"),
    ),
}
"""What somebody has to repair while the worker stays."""


def test_a_full_disk_is_waited_for(rig: Rig, member: Member, oracle: Oracle) -> None:
    """Held for a reason that the log names, nothing dead-lettered, and on it goes once there is room."""
    rig.fleet.settle(rig.feed)
    letters = rig.fleet.look(rig.feed).letters
    before = member.figure(_RETRIES, step="insert", cause="busy")
    rig.proxy.set(refusal(500, 243, "NOT_ENOUGH_SPACE"), only="INSERT")
    with rig.feed.running(_PER_SECOND):
        until(lambda: member.figure(_RETRIES, step="insert", cause="busy") >= before + 8, "retries")
        until(lambda: '"retrying"' in member.page("/healthz")[1], "held")
        health, ready = member.page("/healthz"), member.page("/readyz")
        until(lambda: member.figure("headrace_consumer_is_retrying") == 1, "held, as a figure")
        meanwhile = rig.fleet.look(rig.feed)
        rig.proxy.set(Pass())
    found = rig.fleet.settle(rig.feed)
    until(lambda: member.page("/readyz")[0] == 200, "ready again")
    oracle.say(struck=rig.proxy.count(Answer), rows=found.rows, letters=found.letters, waiting=len(meanwhile.missing))
    found.check()
    assert (health[0], ready[0]) == (200, 503)
    assert meanwhile.letters == letters
    assert "ClickHouse 243 " in member.said()


@pytest.mark.parametrize("kind", cases(HALTED, {"right revoked", "partitions"}))
def test_what_a_person_must_repair_halts_partitions(rig: Rig, member: Member, oracle: Oracle, kind: str) -> None:
    """The process stays, says what to do, dead-letters nothing, and goes on by itself once it is repaired."""
    code, answer = HALTED[kind]
    rig.fleet.settle(rig.feed)
    letters = rig.fleet.look(rig.feed).letters
    rig.proxy.set(answer, only="INSERT")
    with rig.feed.running(_PER_SECOND):
        until(lambda: member.figure("headrace_consumer_partitions", state="halted") > 0, "halted partitions")
        until(lambda: '"halted"' in member.page("/readyz")[1], "halted")
        health, ready = member.page("/healthz"), member.page("/readyz")
        meanwhile = rig.fleet.look(rig.feed)
        rig.proxy.set(Pass())
    found = rig.fleet.settle(rig.feed)
    until(lambda: member.page("/readyz")[0] == 200, "ready again")
    oracle.say(struck=rig.proxy.count(Answer), rows=found.rows, letters=found.letters, waiting=len(meanwhile.missing))
    found.check()
    assert (health[0], ready[0]) == (200, 503)
    told = json.loads(ready[1])["halted"]
    assert {item["code"] for item in told} == {code}
    assert "is halted at offset " in told[0]["sentence"]
    assert f"ClickHouse {answer.headers['X-ClickHouse-Exception-Code']} " in told[0]["sentence"]
    assert meanwhile.letters <= letters + 8, "frames and schemas are dead letters before the insert; nothing else is"
    assert member.is_alive


@pytest.mark.parametrize(
    ("setting", "code"),
    cases(
        [("parts_to_throw_insert = 1", 252), ("min_free_disk_bytes_to_perform_insert = 1000000000000000", 243)],
        [("parts_to_throw_insert = 1", 252)],
    ),
)
def test_a_table_that_takes_no_more_for_now(rig: Rig, member: Member, oracle: Oracle, setting: str, code: int) -> None:
    """The engine's own refusals, too many parts and too little room, are waited out."""
    rig.feed.send(200)
    rig.fleet.settle(rig.feed).check()
    busy = member.figure(_RETRIES, step="insert", cause="busy")
    rig.fleet.connection.command(f"ALTER TABLE events MODIFY SETTING {setting}")
    rig.feed.send(400)
    until(lambda: member.figure(_RETRIES, step="insert", cause="busy") >= busy + 6, "retries")
    until(lambda: '"retrying"' in member.page("/healthz")[1], "held")
    health = member.page("/healthz")[0]
    rig.fleet.connection.command(f"ALTER TABLE events RESET SETTING {setting.split(maxsplit=1)[0]}")
    found = rig.fleet.settle(rig.feed)
    oracle.say(rows=found.rows, letters=found.letters, retries=member.figure(_RETRIES, cause="busy") - busy)
    found.check()
    assert health == 200
    assert f"ClickHouse {code} " in member.said()


def test_a_password_that_is_wrong_stops_the_worker(rig: Rig, member: Member, oracle: Oracle) -> None:
    """It stops at once, having dead-lettered nothing; started again, with its file read again, it goes on."""
    rig.fleet.settle(rig.feed)
    letters = rig.fleet.look(rig.feed).letters
    rig.proxy.set(refusal(403, 516, "AUTHENTICATION_FAILED"), only=INSERT)
    rig.feed.send(300)
    code = member.await_exit()
    stopped = rig.fleet.look(rig.feed)
    rig.proxy.set(Pass())
    rig.start()
    found = rig.fleet.settle(rig.feed)
    oracle.say(exit_code=code, rows=found.rows, letters=found.letters)
    found.check()
    assert code != 0
    assert "ClickHouse 516 AUTHENTICATION_FAILED" in member.said()
    assert stopped.letters <= letters + 8, "frames and schemas are dead letters before the insert; nothing else is"


PROBED: Final[dict[str, tuple[str, int, list[Mode]]]] = {
    "probes": (PROBE, 2, [DropAnswer(), Reset(), CutBody(-1), DelayRequest(TIMEOUT_S + 0.2), page(200), page(502)]),
    "the query": (QUERY, 4, [DropAnswer(), Reset(), page(200), page(502), refusal(500, 241, "MEMORY_LIMIT_EXCEEDED")]),
    "busy probes": (PROBE, 2, [refusal(500, 241, "MEMORY_LIMIT_EXCEEDED"), refusal(403, 497, "ACCESS_DENIED")]),
    "the probe table's creation and drop": (
        TWIN,
        4,  # the driver sends some of them again by itself, and a failed drop is no reason for another try
        [DropAnswer(), Reset(), page(200), refusal(403, 497, "ACCESS_DENIED")],
    ),
}
"""Each kind: the requests that are struck, how many of them by each mode, and the modes, in turn."""


@pytest.mark.soak
@pytest.mark.parametrize("kind", cases(PROBED, {"probes", "the query"}))
def test_a_fault_in_the_search_for_poison_blames_nobody(rig: Rig, member: Member, oracle: Oracle, kind: str) -> None:
    """The search is repeated; no neighbour becomes a dead letter, no reason changes, its probe table is dropped."""
    only, times, modes = PROBED[kind]
    modes = modes if IS_SOAK else modes[:_MODES]
    twins(rig)  # of the tests before
    probes = member.figure("headrace_consumer_poison_probes_total", table="events")
    retries = member.figure(_RETRIES)
    with rig.feed.running(_PER_SECOND):
        for mode in modes:
            have_probes(rig)
            count = rig.proxy.count(type(mode)) + times
            rig.proxy.set(mode, times, only=only)
            rig.proxy.await_count(type(mode), count, 60)
    found = rig.fleet.settle(rig.feed)
    retries = member.figure(_RETRIES) - retries
    probes = member.figure("headrace_consumer_poison_probes_total", table="events") - probes
    oracle.say(struck=times * len(modes), retries=retries, probes=probes, rows=found.rows, letters=found.letters)
    found.check()
    assert probes > 0
    assert len(twins(rig)) <= (times * len(modes) if only == TWIN else 0), "a probe table stays when its drop fails"


@pytest.mark.soak
def test_clickhouse_goes_away_in_the_middle_of_a_search(rig: Rig, member: Member, oracle: Oracle) -> None:
    """The probe table can't be dropped then: it stays, empty and without an engine; `migrate` drops it by its name."""

    def away() -> float:
        return member.figure(_RETRIES, step="insert", cause="away")

    twins(rig)  # of the tests before
    before, rounds = away(), 3 if IS_SOAK else 1
    with rig.feed.running(_PER_SECOND):
        for _ in range(rounds):
            have_probes(rig)
            struck = rig.proxy.count(DelayRequest) + 1
            rig.proxy.set(DelayRequest(0.3), 1, only=PROBE)
            rig.proxy.await_count(DelayRequest, struck, 60)
            rig.proxy.set(Refuse())
            time.sleep(0.5)
            until(lambda: away() > before, "a refused connection")
            rig.proxy.set(Pass())
    found = rig.fleet.settle(rig.feed)
    left = twins(rig)
    oracle.say(away=away() - before, twins=len(left), rows=found.rows, letters=found.letters)
    found.check()
    assert len(left) <= rounds * PARTITIONS, "one for each search that was broken off"


def have_probes(rig: Rig) -> None:
    """Change the table, so that each kind of poison is probed again."""
    rig.fleet.connection.command(f"ALTER TABLE events ADD CONSTRAINT changed_{uuid.uuid4().hex} CHECK 1")


def twins(rig: Rig) -> list[str]:
    """Return the tables that searches have left behind, and drop them."""
    query = """
    SELECT name FROM system.tables
    WHERE database = {d:String} AND engine = 'Null' AND match(name, '_probe_[0-9a-f]{12}$')
    """
    names = [row["name"] for row in rig.fleet.connection.query(query, {"d": rig.fleet.database})]
    for name in names:
        rig.fleet.connection.command(f"DROP TABLE {name}")
    return names
