"""Each verdict by its cause, as the table in docs/OPERATIONS.md has it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from consumer.delivery.buffer import BufferLimits
from consumer.delivery.halting import Step
from consumer.delivery.partition import PartitionState
from consumer.delivery.ports import Membership, Poison, Record
from consumer.delivery.reading import Intake
from consumer.errors import Halt, HaltCode, Reason
from consumer.health import HealthMonitor
from consumer.metrics import PrometheusMetrics
from consumer.pages import Pages
from tests.support.consumer_fakes import Clock
from tests.support.states import PLACE, feed

OPERATIONS: Final = (Path(__file__).resolve().parents[3] / "docs" / "OPERATIONS.md").read_text("utf-8")
STALL_S: Final = 90.0


def state(*offsets: int, ended_at: int | None = None) -> PartitionState:
    """Return a state at offset 7 that has taken some records, and perhaps come to the log's end."""
    made = PartitionState(PLACE, "id", 7, None, read_to=7)
    feed(made, *offsets)
    if ended_at is not None:
        made.reached_end(ended_at)
    return made


def halted() -> PartitionState:
    """Return the state of a halted partition."""
    made = state(7, 8)
    made.halted(Step.INSERT, Halt("run this", HaltCode.TABLE))
    return made


def retrying() -> PartitionState:
    """Return a state whose commit has failed."""
    made = state(7, 8)
    made.commit_attempt = 1
    return made


def after(
    *ages_s: float, state: Callable[[], PartitionState] = state, end: int | None = 7, **membership: object
) -> HealthMonitor:
    """Return a watch that has noted the same at these moments, and now is the last of them."""
    clock = Clock()
    watch = HealthMonitor(STALL_S, clock, "kafka:9092")
    made = state()
    for age_s in ages_s:
        clock.now_s = 1000.0 + age_s
        watch.turned({PLACE: made}, lambda _: end, Membership(**membership))  # type: ignore[arg-type]  # its fields
    return watch


def stuck() -> HealthMonitor:
    """Return a watch that has heard nothing for long."""
    clock = Clock()
    watch = HealthMonitor(STALL_S, clock)
    watch.turned({}, lambda _: None)
    clock.now_s += STALL_S + 1
    return watch


CAUSES: Final[dict[str, tuple[Callable[[], HealthMonitor], str]]] = {
    "starting": (after, "the log says which"),
    "joining": (lambda: after(0, is_formed=False), "the group has not given out its partitions"),
    "idle": (lambda: after(0, 3600), "1 partitions, none behind"),
    "moving": (lambda: after(0, 89, state=lambda: state(7, 8), end=9), "1 of 1 partitions behind"),
    "no_topic": (lambda: after(0, 3600, gone=("events",)), "`kafka-topics.sh --bootstrap-server kafka:9092 --create"),
    "retrying": (lambda: after(0, 3600, state=retrying, end=9), "headrace_consumer_retries_total"),
    "halted": (lambda: after(0, 3600, state=halted, end=9), "events/3 is halted at offset 7: run this"),
    "kept_back": (
        lambda: after(0, 61, state=lambda: state(ended_at=7), end=12),
        "events/3: an open transaction holds back 5 offsets from 7 on for 61 s: if it stays, `kafka-transactions.sh",
    ),
    "stalled": (lambda: after(0, 91, state=lambda: state(7, 8), end=9), "events/3 at offset 7, 2 behind, for 91 s"),
    "poll_stuck": (stuck, "has not come round for 91 s"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_each_verdict_has_its_cause_and_is_answered_as_documented(name: str) -> None:
    """The table of OPERATIONS.md says the code of /healthz; /readyz is 200 for two of them alone."""
    make, detail = CAUSES[name]
    watch = make()
    pages = Pages(PrometheusMetrics(), watch)

    assert watch.verdict().name == name
    assert detail in watch.verdict().detail
    assert pages.answer("/healthz")[0] == documented()[name]
    assert pages.answer("/readyz")[0] == (200 if name in ("idle", "moving") else 503)
    assert f"headrace_consumer_is_ready {float(name in ('idle', 'moving'))}" in pages.answer("/metrics")[2].decode()


def documented() -> dict[str, int]:
    """Return what the table says of /healthz."""
    table = OPERATIONS.partition("| `/healthz` |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (\d{3}) \|", table, re.MULTILINE)
    return {name: int(code) for names, code in rows for name in re.findall(r"\w+", names)}


def test_the_table_of_verdicts_is_complete() -> None:
    """What the page may say, an operator can look up."""
    assert set(documented()) == set(CAUSES)


def test_what_a_transaction_keeps_back_for_less_than_a_minute_is_nothing_unusual() -> None:
    """Nor is it behind: nobody can read it."""
    for watch in (
        after(0, 59, state=lambda: state(ended_at=7), end=12),
        after(0, 3600, state=lambda: state(ended_at=12), end=12),
    ):
        assert watch.verdict().name == "idle"
        assert watch.progress[PLACE].behind == 0


def test_transactions_that_follow_each_other_are_nothing_unusual() -> None:
    """The reader gets on with each of them."""
    clock = Clock()
    watch = HealthMonitor(STALL_S, clock)
    made = state()
    for end in range(8, 30):
        clock.now_s += 30
        made.reached_end(end)
        watch.turned({PLACE: made}, lambda _: 100)

    assert watch.verdict().name == "idle"


def test_a_paused_partition_is_behind_what_it_does_not_read() -> None:
    """It came to the end once, and was paused since: what lies behind that is a backlog, and no transaction's."""
    made = state(ended_at=7)
    made.intake = Intake.PAUSED
    watch = after(0, 80, state=lambda: made, end=12)

    assert (watch.verdict().name, watch.progress[PLACE].behind) == ("moving", 5)


def test_a_partition_whose_end_nobody_has_told_is_not_said_to_have_none_behind() -> None:
    """Nor is it a lag of 0 on the page."""
    watch = after(0, end=None)

    assert watch.verdict().name == "joining"
    assert b"lag_records{" not in Pages(PrometheusMetrics(), watch).answer("/metrics")[2]


def test_a_group_that_says_why_it_does_not_form_is_quoted() -> None:
    """The sentence names what to do."""
    assert after(0, is_formed=False, trouble="stop all of its workers").verdict().detail == "stop all of its workers"


def test_a_partition_that_comes_is_noted_at_once() -> None:
    """For a second, nothing would be behind because nothing was known."""
    clock = Clock()
    watch = HealthMonitor(STALL_S, clock)
    watch.turned({}, lambda _: None)
    watch.turned({PLACE: state(7, 8)}, lambda _: 9)

    assert watch.progress[PLACE].behind == 2


@pytest.mark.parametrize("claimed_s", [-1.8e9, -8 * 24 * 3600.0, 60.0, 3600.0, 1e9])
def test_freshness_grows_with_the_backlogs_age_whatever_its_timestamps_say(claimed_s: float) -> None:
    """1.8e9 seconds, or 0 with 51 behind: both were seen."""
    clock, wall_ms = Clock(), 1.8e12
    watch = HealthMonitor(STALL_S, clock, now_ms=lambda: wall_ms + (clock.now_s - 1000.0) * 1000)
    made = state()
    made.buffer.add(made_at(wall_ms + claimed_s * 1000), 0.0)
    for _ in range(3):
        clock.now_s += 10
        watch.turned({PLACE: made}, lambda _: 58)
    item = watch.progress[PLACE]

    assert item.behind == 51
    assert watch.age_s(item) == 20
    clock.now_s += 5  # whether the polling thread comes round or not
    assert watch.age_s(item) == 25


def made_at(at_ms: float) -> Record:
    """Return a record with a timestamp."""
    return Record(PLACE, 7, int(at_ms), b"", b"v")


def test_another_log_has_no_past() -> None:
    """A topic that was recreated is not as old as the one before."""
    clock = Clock()
    watch = HealthMonitor(STALL_S, clock)
    watch.turned({PLACE: state()}, lambda _: 50)
    clock.now_s += 3600
    watch.turned({PLACE: PartitionState(PLACE, "other", 0, None)}, lambda _: 5)
    clock.now_s += 4

    assert watch.age_s(watch.progress[PLACE]) == 4


def test_a_worker_that_finds_poison_is_healthy_though_its_position_stands() -> None:
    """A batch may take many searches; each that finds some is a step, and a restart would begin them again."""
    clock = Clock()
    watch = HealthMonitor(60, clock)
    state = PartitionState(PLACE, "id", 7, None, read_to=7)
    feed(state, *range(7, 57))
    task = state.seal(BufferLimits(50, 10**6, 0.0, 10**6), 0.0)
    assert task is not None
    for offset in range(7, 17):
        task.batch = task.batch.without([Poison(offset, Reason.BAD_VALUE, "")])
        clock.now_s += 59
        watch.turned({PLACE: state}, lambda _: 100)
    assert watch.verdict().name == "moving"
    for _ in range(3):
        clock.now_s += 30
        watch.turned({PLACE: state}, lambda _: 100)

    assert watch.verdict().name == "stalled"


def test_a_worker_that_its_group_refuses_is_not_idle() -> None:
    """It owns nothing, so nothing is behind: the missing right is what is said, until it is there."""
    watch = HealthMonitor(60, Clock())
    watch.turned({}, lambda _: None, Membership(refusal="GROUP_AUTHORIZATION_FAILED: give it Read"))

    assert (watch.verdict().name, watch.verdict().detail) == ("halted", "GROUP_AUTHORIZATION_FAILED: give it Read")
    assert (watch.verdict().is_healthy, watch.verdict().is_ready) == (True, False)
    watch.turned({}, lambda _: None)
    assert watch.verdict().name == "idle"
