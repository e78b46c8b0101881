"""What a worker claims of completeness, and everything for which it must not claim it."""

import itertools
from dataclasses import replace

import pytest

from consumer.delivery.halting import Halted, Step
from consumer.delivery.ports import Partition
from consumer.errors import HaltCode, Transient
from consumer.health import HealthMonitor, PartitionProgress
from consumer.kafka.admin import LogBounds, Topic
from consumer.operations.completeness import Completeness, Look
from consumer.operations.heart import CarefulClock, Heart
from tests.support.consumer_fakes import Tally

PLACE = Partition("events", 0)
TOPIC = Topic("id-1", 2)
ARRIVAL_S = 5.0


def at(position: int, topic_id: str = "id-1", *, is_halted: bool = False) -> dict[Partition, PartitionProgress]:
    """Return the progress of the one partition."""
    halt = Halted(PLACE, position, HaltCode.TABLE, "why", Step.INSERT) if is_halted else None
    return {PLACE: PartitionProgress(position, None, 0.0, halt=halt, topic_id=topic_id)}


class Beats:
    """Beats ten seconds apart, the first at second 100; returns until which second the partition is complete."""

    def __init__(self) -> None:
        self.completeness, self.now_ms = Completeness(ARRIVAL_S), 90_000

    def __call__(
        self, end: int | None, progress: dict[Partition, PartitionProgress], topic: Topic | None = TOPIC
    ) -> float | None:
        """Beat once; None when there is no heartbeat."""
        self.now_ms += 10_000
        ends = {} if end is None else {PLACE: end}
        look = Look(self.now_ms, ends, {} if topic is None else {"events": topic})
        made = self.completeness.beat(look, progress)
        return made[0].complete_ms / 1000 if made else None


def test_a_partition_without_traffic_is_complete_until_the_last_beat() -> None:
    """Less the time that an event may take into the log: nothing is claimed before the next look."""
    beat = Beats()
    assert beat(7, at(7)) == 0
    assert [beat(7, at(7)) for _ in range(3)] == [95, 105, 115]


def test_a_partition_that_is_behind_is_complete_until_the_end_that_it_has_reached() -> None:
    """The log goes on growing; the claim follows the position, not the clock."""
    beat = Beats()
    said = [beat(end, at(position)) for end, position in [(10, 0), (20, 5), (30, 10), (40, 19), (50, 29), (60, 60)]]
    assert said == [0, 0, 95, 95, 105, 135]


def test_what_was_claimed_stays_claimed_while_nothing_more_is() -> None:
    """A worker that stands still says the same again, for readers who have lost the earlier rows."""
    beat = Beats()
    assert [beat(7, at(7)), beat(9, at(7)), beat(9, at(7)), beat(11, at(7))] == [0, 95, 95, 95]


def test_a_halted_partition_claims_nothing() -> None:
    """Why it halts may be that its position means nothing any more."""
    beat = Beats()
    assert beat(7, at(7)) == 0
    assert [beat(7, at(7, is_halted=True)) for _ in range(2)] == [0, 0]
    assert beat(7, at(7)) == 115


def test_a_log_that_was_cut_claims_nothing_of_what_it_held_before() -> None:
    """A shorter log has lost what was read; when it has grown again, its offsets are other records."""
    beat = Beats()
    assert beat(20, at(20)) == 0
    assert beat(15, at(20)) == 0
    assert [beat(25, at(20)), beat(25, at(20)), beat(25, at(25))] == [0, 0, 125]


def test_another_topic_of_the_name_begins_from_nothing() -> None:
    """The position is of the earlier one until the partition is assigned again."""
    beat = Beats()
    other = Topic("id-2", 2)
    assert [beat(7, at(7)), beat(7, at(7))] == [0, 95]
    assert beat(7, at(7), other) is None
    assert [beat(7, at(7, "id-2"), other), beat(7, at(7, "id-2"), other)] == [0, 125]


def test_without_an_answer_of_the_brokers_there_is_no_heartbeat() -> None:
    """Neither of the end nor of the topic; what was asked before can still be claimed later."""
    beat = Beats()
    assert beat(7, at(3)) == 0
    assert beat(None, at(7)) is None
    assert beat(7, at(7), None) is None
    assert beat(9, at(7)) == 95


def test_a_partition_that_went_to_another_worker_and_came_back_begins_again() -> None:
    """Its marks are not kept: the other worker makes the claims meanwhile."""
    beat = Beats()
    assert [beat(7, at(7)), beat(7, at(7))] == [0, 95]
    assert beat(7, {}) is None
    assert [beat(7, at(7)), beat(7, at(7))] == [0, 125]


def test_a_long_backlog_keeps_few_marks_and_claims_none_too_late() -> None:
    """Memory is bounded; what is claimed was true of the end at that moment."""
    beat = Beats()
    for number in range(5000):
        beat(number + 1, at(0))
    (marks,) = beat.completeness._marks.values()  # noqa: SLF001  (its bound is what this is about)
    assert len(marks) <= 64

    claimed = [beat(5001, at(position)) for position in range(1, 5001, 100)]
    for position, until_s in zip(range(1, 5001, 100), claimed, strict=True):
        assert until_s is not None
        assert until_s <= 100 + 10 * (position - 1) - ARRIVAL_S
    assert claimed[-1] is not None
    assert claimed[-1] > 30_000


def test_how_many_partitions_there_were_is_known_of_the_look_before() -> None:
    """A partition that is added is not in the number of the look at which it was not there yet."""
    completeness = Completeness(ARRIVAL_S)
    counted = [
        completeness.beat(Look(at_ms, {PLACE: 7}, {"events": replace(TOPIC, partitions=many)}), at(7))[0]
        for at_ms, many in ((100_000, 2), (110_000, 2), (120_000, 3))
    ]

    assert [(item.partitions, item.counted_ms) for item in counted] == [(2, 0), (2, 95_000), (3, 105_000)]


class FakeLog:
    """Brokers: an end, a topic, and whether they answer; what is asked is noted."""

    def __init__(self) -> None:
        self.end, self.asked = 7, list[str]()
        self.listed: int | None = None  # instead of the end

    def ends(self, partitions: list[Partition]) -> dict[Partition, int]:
        """Return the end of each."""
        self.asked.append("ends")
        return dict.fromkeys(partitions, self.end if self.listed is None else self.listed)

    def bounds(self, partitions: list[Partition]) -> dict[Partition, LogBounds]:
        """Return the true ends."""
        self.asked.append("bounds")
        return dict.fromkeys(partitions, LogBounds(0, self.end, self.end))

    def topic(self, name: str) -> Topic:
        """Return the topic."""
        self.asked.append(name)
        return TOPIC


class FakeTable:
    """Where heartbeats go."""

    def __init__(self) -> None:
        self.rows, self.is_away = list[dict[str, object]](), False

    def write(self, rows: list[dict[str, object]]) -> None:
        """Take rows, unless it is away."""
        if self.is_away:
            raise Transient("away")
        self.rows += rows


def test_a_table_that_is_away_costs_the_beats_of_that_time_and_no_claim() -> None:
    """The next beat that arrives claims what was seen meanwhile."""
    monitor, log, table = HealthMonitor(60, lambda: 0.0), FakeLog(), FakeTable()
    monitor.progress = at(7)
    now_ms = iter([100_000, 110_000, 120_000, 130_000])
    tally = Tally()
    heart = Heart(log, monitor, Completeness(ARRIVAL_S), table.write, lambda: next(now_ms), tally)  # type: ignore[arg-type]  # fakes
    heart.beat()
    table.is_away = True
    for _ in range(2):
        try:
            heart.beat()
        except Transient:
            continue
    table.is_away = False
    heart.beat()

    assert tally.levels == {"topic_partitions/events": 2}
    assert [row["complete_ms"] for row in table.rows] == [0, 115_000]
    assert table.rows[1] == {
        "topic": "events",
        "partition": 0,
        "topic_id": "id-1",
        "partitions": 2,
        "counted_ms": 115_000,
        "position": 7,
        "log_end": 7,
        "complete_ms": 115_000,
        "halted": "",
    }


def test_a_broker_that_lists_too_small_an_end_is_asked_by_a_fetch() -> None:
    """The embedded one: else complete_until would stand still. Only a fetch is believed from then on."""
    monitor, log, table = HealthMonitor(60, lambda: 0.0), FakeLog(), FakeTable()
    monitor.progress = at(7)
    log.listed = 1
    now_ms = itertools.count(100_000, 10_000)
    heart = Heart(log, monitor, Completeness(ARRIVAL_S), table.write, lambda: next(now_ms), Tally())  # type: ignore[arg-type]  # fakes
    for _ in range(3):
        heart.beat()
    log.end, log.listed = 20, 8  # a batch came, and a part of it is done
    monitor.progress = at(12)
    for _ in range(2):
        heart.beat()
    monitor.progress = at(20)
    heart.beat()

    assert [row["complete_ms"] for row in table.rows] == [0, 0, 105_000, 115_000, 115_000, 135_000]
    assert log.asked.count("ends") == 1


def test_a_log_that_was_cut_is_asked_by_a_fetch_and_claims_nothing() -> None:
    """The fetch tells the same end; once the partition is halted there is nothing to ask."""
    monitor, log, table = HealthMonitor(60, lambda: 0.0), FakeLog(), FakeTable()
    monitor.progress = at(9)
    now_ms = itertools.count(100_000, 10_000)
    heart = Heart(log, monitor, Completeness(ARRIVAL_S), table.write, lambda: next(now_ms), Tally())  # type: ignore[arg-type]  # fakes
    for _ in range(3):
        heart.beat()
    monitor.progress = at(9, is_halted=True)
    heart.beat()

    assert [row["complete_ms"] for row in table.rows] == [0] * 4
    assert log.asked == [*["ends", "bounds", "events"] * 3, "ends", "events"]


def test_a_worker_without_partitions_asks_and_writes_nothing() -> None:
    """It knows of nothing."""
    log, table = FakeLog(), FakeTable()
    heart = Heart(log, HealthMonitor(60, lambda: 0.0), Completeness(ARRIVAL_S), table.write, lambda: 0, Tally())  # type: ignore[arg-type]  # fakes

    assert heart.beat() == []
    assert (log.asked, table.rows) == ([], [])


class FakeServer:
    """ClickHouse's clock, and a worker's that differs from it."""

    def __init__(self, ahead_s: float) -> None:
        self.now_s, self.ahead_s, self.is_away = 1000.0, ahead_s, False
        self.clock = CarefulClock(self._server_ms, lambda: self.now_s + self.ahead_s)

    def _server_ms(self) -> int:
        if self.is_away:
            raise Transient("away")
        return int(self.now_s * 1000)


def test_a_worker_whose_clock_is_ahead_claims_nothing_that_came_after_its_look() -> None:
    """It was an hour behind when it reached that end: the claim is of the look, not of the hour that followed."""
    monitor, log, table, server = HealthMonitor(60, lambda: 0.0), FakeLog(), FakeTable(), FakeServer(ahead_s=3600)
    heart = Heart(log, monitor, Completeness(ARRIVAL_S), table.write, server.clock.now_ms, Tally())  # type: ignore[arg-type]  # fakes
    monitor.progress = at(3)
    heart.beat()
    server.now_s, log.end, monitor.progress = 4600.0, 99, at(7)
    (beat,) = heart.beat()

    assert beat.complete_ms == 995_000


def test_the_clock_that_is_behind_counts_also_while_the_server_is_away() -> None:
    """A worker that has never heard of the server's clock does not know its own."""
    behind, ahead = FakeServer(ahead_s=-5), FakeServer(ahead_s=60)
    assert (behind.clock.now_ms(), ahead.clock.now_ms()) == (995_000, 1_000_000)
    ahead.now_s, ahead.is_away = 1010.0, True
    assert ahead.clock.now_ms() == 1_010_000

    unheard = FakeServer(ahead_s=60)
    unheard.is_away = True
    with pytest.raises(Transient):
        unheard.clock.now_ms()
