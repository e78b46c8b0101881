"""Logs that are cut and grow again, on Apache Kafka: nothing is lost silently, and all that is new comes in the end."""

import os
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from consumer.__main__ import parser
from consumer.delivery.ports import CommittedOffset, Partition
from consumer.operations.group import StoppedGroup
from consumer.settings import load
from tests.conftest import SOAK_ONLY
from tests.fault.conftest import Oracle, new_topic_on
from tests.support.clickhouse import ClickHouse
from tests.support.cut_logs import allow_unclean_elections, await_leader, copy_log, put_back, replicas_of
from tests.support.fleet import Fleet, Member, until
from tests.support.kafka import KafkaCluster
from tests.support.one_partition import OnePartition, halt_lines, halts

_SCHEDULES: Final = 50
_SCHEDULE_S: Final = 600
_SEED: Final = int(os.environ.get("HEADRACE_SOAK_SEED", "1"))
_TURNS: Final = 4


@pytest.fixture
def restored(broker: KafkaCluster, clickhouse: ClickHouse, tmp_path: Path) -> Iterator[OnePartition]:
    """A partition on one node, whose directory may be put back."""
    topic = new_topic_on(broker, partitions=1)
    with Fleet(tmp_path, broker.bootstrap_servers, topic, clickhouse.url) as fleet:
        yield OnePartition(broker, fleet)


@pytest.fixture
def elected(kafka_cluster: KafkaCluster, clickhouse: ClickHouse, tmp_path: Path) -> Iterator[OnePartition]:
    """A partition on two of three nodes, either of which may lead with what it has."""
    topic = new_topic_on(kafka_cluster, partitions=1, replication_factor=2)
    allow_unclean_elections(kafka_cluster, topic)
    with Fleet(tmp_path, kafka_cluster.bootstrap_servers, topic, clickhouse.url) as fleet:
        yield OnePartition(kafka_cluster, fleet)


def assert_goes_on(story: OnePartition, new: range, kept: range) -> None:
    """Follow the advice of the halt exactly: what is new comes once, what was there stays as it is."""
    story.fleet.stop_all()
    before = story.rows()
    assert before.keys() == set(kept), "nothing new may come before somebody has decided"
    code, said, (line, *_) = story.command("resume")
    assert (code, "add --go" in said) == (0, True)
    assert story.rows() == before
    code, said, _ = story.command("resume", "--go")
    assert (code, "start the workers" in said) == (0, True), said
    story.fleet.start()
    story.await_rows(new)

    assert line["goes_on_at"] == min(row.offset for number in new for row in story.rows()[number])
    rows = story.rows()
    assert {number: rows[number] for number in kept} == before
    assert all(len(rows[number]) == 1 for number in rows)
    until(lambda: story.command("audit")[0] == 0, "a clean audit")


@pytest.mark.parametrize(
    "works",
    [pytest.param(False, id="while no worker runs", marks=SOAK_ONLY), pytest.param(True, id="under a working worker")],
)
def test_a_directory_that_is_put_back_to_an_older_copy(restored: OnePartition, tmp_path: Path, *, works: bool) -> None:
    """Thirty events were read; the log ends at twenty again, and fifteen come: all fifteen become rows."""
    topic, node = restored.fleet.topic, restored.cluster.nodes[0]
    restored.send(20)
    copy_log(node, topic, 0, tmp_path / "copy")
    restored.send(10)
    worker = restored.fleet.start()
    restored.await_rows(range(30))
    until(lambda: not restored.fleet.intents(), "the commit behind the rows")
    if not works:
        worker.stop()
    put_back(node, topic, 0, tmp_path / "copy")
    new = restored.send(15)
    if not works:
        worker = restored.fleet.start()

    sentence = restored.await_halt(worker)
    assert "the log was cut" in sentence
    assert "everything below offset 30 was inserted" in sentence
    assert "python -m consumer resume" in sentence
    assert_goes_on(restored, new, range(30))
    assert sorted(row.offset for number in new for row in restored.rows()[number]) == list(range(20, 35))


@SOAK_ONLY
def test_an_unclean_election(elected: OnePartition) -> None:
    """A replica that lacks ten records leads, and takes fifteen; the former leader follows it."""
    topic, cluster = elected.fleet.topic, elected.cluster
    leader, other = replicas_of(cluster, topic)
    elected.send(20)
    other.kill()
    elected.send(10)
    worker = elected.fleet.start()
    elected.await_rows(range(30))
    leader.kill()
    other.start()
    await_leader(topic, [other])
    new = elected.send(15)
    leader.start()

    sentence = elected.await_halt(worker)
    assert "the log was cut at or below offset 20" in sentence
    assert_goes_on(elected, new, range(30))
    assert {row.reading for number in new for row in elected.rows()[number]} == {1}


@SOAK_ONLY
def test_rows_stay_when_an_older_log_comes_back_before_they_are_deleted(
    restored: OnePartition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`reprocess --delete` was planned while the log had all thirty; ten of them are gone when it would delete."""
    topic, node = restored.fleet.topic, restored.cluster.nodes[0]
    restored.send(20)
    copy_log(node, topic, 0, tmp_path / "copy")
    restored.send(10)
    worker = restored.fleet.start()
    restored.await_rows(range(30))
    worker.stop()
    commit = StoppedGroup.commit

    def cut_behind(group: StoppedGroup, marks: Mapping[Partition, CommittedOffset]) -> None:
        commit(group, marks)
        put_back(node, topic, 0, tmp_path / "copy")
        await_leader(topic, [node])

    monkeypatch.setattr(StoppedGroup, "commit", cut_behind)
    settings = load({f"CONSUMER_{name.upper()}": str(value) for name, value in restored.fleet.settings.items()})
    words = ["reprocess", "--partition", f"{topic}/0", "--from-offset", "0", "--delete", "--go"]
    arguments = parser().parse_args(words)

    assert arguments.call(settings, arguments) == 1
    assert "can't give back" in capsys.readouterr().err
    assert restored.rows().keys() == set(range(30))


class Schedule:
    """Turns of faults at random on one partition, under load; what each brings about is as Kafka decides."""

    def __init__(self, story: OnePartition, seed: int, directory: Path) -> None:
        self.story = story
        self.random = random.Random(seed)
        self._directory = directory
        self.told: list[str] = []

    def run(self) -> None:
        """Run it; `told` has the faults that struck, and each call of an operator."""
        faults = self.faults()
        worker = self.story.fleet.start()
        for _ in range(_TURNS):
            self.send()
            fault = self.random.choice(faults)
            self.told.append(fault.__name__)
            fault()
            self.send()
            if halts(worker) or not worker.is_alive:
                worker = self.operate()
        self.settle()

    def faults(self) -> list[Callable[[], None]]:
        """Return what may strike."""
        return [self.elect_uncleanly, self.swap_leaders, self.restore, self.elect]

    def send(self) -> None:
        """Produce some events; whether the worker gets to them before the next fault is left to chance."""
        numbers = self.story.send(self.random.randint(1, 40))
        if self.random.random() < 0.7:
            self._try_rows(numbers)

    def elect_uncleanly(self) -> None:
        """A replica leads that lacks the last records."""
        leader, other = replicas_of(self.story.cluster, self.story.fleet.topic)
        other.kill()
        self.send()
        leader.kill()
        other.start()
        await_leader(self.story.fleet.topic, [other])
        self.send()
        leader.start()
        self.story.cluster.heal()

    def swap_leaders(self) -> None:
        """The same, and then the former leader comes back alone, with what it alone had."""
        leader, other = replicas_of(self.story.cluster, self.story.fleet.topic)
        other.kill()
        self.send()
        leader.kill()
        other.start()
        await_leader(self.story.fleet.topic, [other])
        self.send()
        other.kill()
        leader.start()
        await_leader(self.story.fleet.topic, [leader])
        self.send()
        other.start()
        self.story.cluster.heal()

    def restore(self) -> None:
        """A directory is put back to an older copy, and its node leads."""
        topic, cluster = self.story.fleet.topic, self.story.cluster
        leader, other = replicas_of(cluster, topic)
        copy = self._directory / f"copy-{len(self.told)}"
        copy_log(leader, topic, 0, copy)
        cluster.heal()
        self.send()
        leader, other = replicas_of(cluster, topic)
        other.kill()
        put_back(leader, topic, 0, copy)
        await_leader(topic, [leader])
        self.send()
        other.start()
        cluster.heal()

    def elect(self) -> None:
        """Another replica leads that has everything."""
        leader, _ = replicas_of(self.story.cluster, self.story.fleet.topic)
        leader.stop()
        leader.start()
        self.story.cluster.heal()

    def operate(self) -> Member:
        """Do what the halt says, which names what is wrong, where, and what to run."""
        self.told.append("resume")
        self.story.fleet.stop_all()
        for line in (line for member in self.story.fleet.members for line in halt_lines(member)):
            assert (line["topic"], line["partition"]) == (self.story.fleet.topic, 0), line
            assert isinstance(line["offset"], int), line
            assert line["code"] in ("truncated", "deleted", "already_read"), line
            assert "`python -m consumer resume --go`" in str(line["message"]), line
        code, said, _ = self.story.command("resume", "--go")
        assert code == 0, said
        return self.story.fleet.start()

    def settle(self) -> None:
        """Until nothing is missing: wait, and do what halts say; then each event of the log must be there once."""
        wanted = self.story.in_log()
        for _ in range(3):
            if self._try_rows(wanted, 60):
                break
            assert any(map(halts, self.story.fleet.members)), f"missing, and no halt: {self._missing(wanted)}"
            self.operate()
        assert not self._missing(wanted), f"{self._missing(wanted)} are nowhere after {self.told}"
        rows = self.story.rows()
        double = {number: rows[number] for number in rows if len(set(rows[number])) < len(rows[number])}
        assert not double, f"{double} are double after {self.told}"

    def _try_rows(self, numbers: range | set[int], timeout_s: float = 5.0) -> bool:
        try:
            self.story.await_rows(numbers, timeout_s)
        except TimeoutError:
            return False
        return True

    def _missing(self, wanted: set[int]) -> set[int]:
        return wanted - self.story.rows().keys()


class RestoredSchedule(Schedule):
    """The same on one node, whose directory is put back to older copies."""

    def faults(self) -> list[Callable[[], None]]:
        """Return what may strike."""
        return [self.put_back, self.put_back_twice, self.restart]

    def put_back(self) -> None:
        """The directory becomes an older copy."""
        node, topic = self.story.cluster.nodes[0], self.story.fleet.topic
        copy = self._directory / f"copy-{len(self.told)}"
        copy_log(node, topic, 0, copy)
        self.send()
        put_back(node, topic, 0, copy)

    def put_back_twice(self) -> None:
        """And again, with what came behind the same copy gone."""
        self.put_back()
        self.send()
        put_back(self.story.cluster.nodes[0], self.story.fleet.topic, 0, self._directory / f"copy-{len(self.told)}")

    def restart(self) -> None:
        """The node is killed, and comes back with everything."""
        node = self.story.cluster.nodes[0]
        node.kill()
        node.start()


def run_of(schedule: Schedule, seed: int, oracle: Oracle) -> None:
    """Run a schedule, and say its seed and what became of it."""
    outcome = "failed"
    try:
        schedule.run()
        outcome = "passed"
    finally:
        oracle.say(seed=seed, outcome=outcome, events=schedule.story.sent, turns=" ".join(schedule.told))


@SOAK_ONLY
@pytest.mark.timeout(_SCHEDULE_S)
@pytest.mark.parametrize("number", range(_SCHEDULES))
def test_a_schedule_of_elections_and_restored_directories(
    number: int, elected: OnePartition, tmp_path: Path, oracle: Oracle
) -> None:
    """Never a silent loss: what the log has is in the table once, or a halt has said so."""
    seed = _SEED * 1000 + number
    run_of(Schedule(elected, seed, tmp_path), seed, oracle)


@SOAK_ONLY
@pytest.mark.timeout(_SCHEDULE_S)
@pytest.mark.parametrize("number", range(_SCHEDULES))
def test_a_schedule_of_restored_directories(
    number: int, restored: OnePartition, tmp_path: Path, oracle: Oracle
) -> None:
    """The same promise on one node."""
    seed = _SEED * 1000 + number
    run_of(RestoredSchedule(restored, seed, tmp_path), seed, oracle)
