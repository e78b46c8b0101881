"""The drainer: everything once and in order when the broker is well, nothing lost when it is not."""

from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from ingest.ports import NoMetrics
from ingest.publishing.ports import DeliveryStatus, Record
from ingest.spool.backlog import Backlog
from ingest.spool.directory import SpoolBounds, SpoolDirectory
from ingest.spool.drainer import Drainer, DrainPace
from ingest.spool.file import SpoolFile
from tests.support.fake_broker import FakeBroker, event


class Scene:
    """A spool directory with one file in use, a broker, and a drainer between them."""

    def __init__(self, path: Path) -> None:
        """Put them together."""
        self.directory = SpoolDirectory(path, SpoolBounds(2**30, 0))
        self.file: SpoolFile
        self.file, self._lock = self.directory.new_file()
        self.broker = FakeBroker()
        self.notes: list[bool] = []
        self.backlog = Backlog(self.directory, lambda _: None, NoMetrics())
        pace = DrainPace(events_per_s=1000, deadline_s=5, slow_s=1, batch_events=8)
        self.drainer = Drainer(self.backlog, self.broker, pace, self._note, NoMetrics())

    def _note(self, *, is_well: bool) -> None:
        self.notes.append(is_well)

    def put(self, *numbers: int) -> None:
        """Spool events."""
        self.file.append([event(number) for number in numbers], 1)

    def steps(self, count: int) -> list[float]:
        """Take steps and return the pauses between them."""
        return [self.drainer.step() for _ in range(count)]

    @property
    def arrived(self) -> list[int]:
        """The events that the broker has, in its order."""
        return [int(record.value) for record in self.broker.log]

    @property
    def left(self) -> list[int]:
        """The events in the spool."""
        return [int(spooled.record.value) for spooled in self.file.first(10_000, 2**40)]

    def close(self) -> None:
        """End."""
        self.backlog.release()
        self.file.close()
        self._lock.release()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """An empty spool before a broker that is well."""
    made = Scene(tmp_path)
    yield made
    made.close()


def test_everything_arrives_once_and_in_order(scene: Scene) -> None:
    """In batches that grow while all is well; then the spool is empty."""
    scene.put(*range(30))

    scene.steps(10)

    assert scene.arrived == list(range(30))
    assert scene.left == []
    assert scene.broker.batches == [1, 2, 4, 8, 8, 7]


def test_what_travels_is_the_record_as_it_was(scene: Scene) -> None:
    """Key, headers and kind too."""
    records = [event(1), Record(b"ingest/1", b"{", (("reason", b"bad"),), dead=True)]
    scene.file.append(records, 1)

    scene.steps(3)

    assert scene.broker.log == records


def test_the_pace_is_kept(scene: Scene) -> None:
    """After a batch it pauses as long as so many events may take."""
    scene.put(*range(30))
    scene.steps(4)
    began_s = monotonic()

    pause_s = scene.drainer.step()

    assert pause_s <= 0.008
    assert monotonic() - began_s + pause_s >= 0.008


def test_an_empty_spool_is_looked_at_now_and_then(scene: Scene) -> None:
    """Idle, it asks the disk twice a second, and the broker not at all."""
    assert scene.steps(2) == [0.5, 0.5]
    assert scene.broker.batches == []


def test_a_broker_that_is_away_is_asked_with_one_record_less_and_less_often(scene: Scene) -> None:
    """What an ambiguous timeout may double is one event; the pauses grow and are jittered."""
    scene.put(*range(20))
    scene.steps(3)
    scene.broker.judge = lambda _: DeliveryStatus.FAILED

    pauses = scene.steps(9)

    assert scene.broker.batches[3:] == [8, *[1] * 8]
    assert 0.25 <= pauses[0] <= 0.5
    assert all(2 ** (n - 2) <= pauses[n] <= 2 ** (n - 1) for n in range(1, 5))
    assert max(pauses) <= 15
    assert scene.notes == [True, True, True, *[False] * 9]
    assert scene.left == list(range(7, 20))


def test_a_full_queue_says_nothing_of_the_broker(scene: Scene) -> None:
    """Live requests have it; the spool waits a moment and goes on as before."""
    scene.put(*range(20))
    scene.steps(3)
    scene.broker.judge = lambda _: DeliveryStatus.NO_ROOM

    pauses = scene.steps(5)
    scene.broker.judge = lambda _: DeliveryStatus.DELIVERED
    scene.steps(3)

    assert pauses == [0.5] * 5
    assert scene.notes == [True] * 5
    assert scene.broker.batches[3:] == [*[8] * 6, 5]
    assert scene.left == []


def test_a_broker_that_is_back_gets_the_rest(scene: Scene) -> None:
    """Nothing of the outage is missing, and nothing is doubled that had not arrived."""
    scene.put(*range(20))
    scene.broker.judge = lambda _: DeliveryStatus.FAILED
    scene.steps(3)
    scene.broker.judge = lambda _: DeliveryStatus.DELIVERED

    scene.steps(10)

    assert scene.arrived == list(range(20))
    assert scene.left == []


def test_silence_is_waited_for_until_the_deadline_and_sent_again(scene: Scene) -> None:
    """A record without a report may have arrived; it stays in the spool."""
    scene.put(1)
    scene.broker.after_s = 60
    began_s = scene.broker.clock.now_s

    scene.steps(1)

    assert scene.broker.clock.now_s - began_s == pytest.approx(5)
    assert scene.left == [1]
    assert scene.notes == [False]


def test_a_slow_acknowledgement_counts_as_arrived_but_not_as_well(scene: Scene) -> None:
    """What has arrived is deleted; live requests are not sent to a broker this slow."""
    scene.put(1, 2)
    scene.broker.after_s = 2

    scene.steps(1)

    assert scene.left == [2]
    assert scene.notes == [False]


def test_part_of_a_batch_that_arrived_is_not_sent_again(scene: Scene) -> None:
    """Only what failed stays."""
    scene.put(*range(8))
    scene.steps(2)
    scene.broker.judge = lambda record: DeliveryStatus.FAILED if record.value == b"5" else DeliveryStatus.DELIVERED
    scene.steps(1)
    assert scene.left == [5, 7]
    scene.broker.judge = lambda _: DeliveryStatus.DELIVERED

    scene.steps(4)

    assert sorted(scene.arrived) == list(range(8))


def test_while_one_partition_is_away_the_others_get_theirs(scene: Scene) -> None:
    """What fails stays at the head, in its order, and does not make the batches small."""
    scene.put(*range(40))
    scene.steps(3)
    scene.broker.judge = lambda record: (
        DeliveryStatus.FAILED if record.value in {b"9", b"12"} else DeliveryStatus.DELIVERED
    )

    pauses = scene.steps(6)

    assert scene.left == [9, 12]
    assert max(pauses[:5]) <= 0.5
    scene.broker.judge = lambda _: DeliveryStatus.DELIVERED
    scene.steps(2)
    assert scene.arrived[-2:] == [9, 12]


def test_a_record_that_the_broker_refuses_is_parked_and_the_others_go_on(scene: Scene) -> None:
    """Refused in a batch, everything is tried singly, for a broker refuses a whole batch for one of it."""
    scene.put(*range(8))
    scene.steps(2)
    scene.broker.judge_all = lambda records: (
        [DeliveryStatus.REFUSED if any(record.value == b"5" for record in records) else DeliveryStatus.DELIVERED]
        * len(records)
    )

    scene.steps(12)

    assert scene.left == []
    assert scene.file.extent().parked == 1
    assert sorted(scene.arrived) == [0, 1, 2, 3, 4, 6, 7]


def test_a_damaged_record_is_parked_and_never_sent(scene: Scene) -> None:
    """Garbage under an event's key would be an event of somebody's."""
    scene.put(1, 2)
    scene.file._connection.execute("UPDATE records SET value = x'39' WHERE seq = 1")  # noqa: SLF001  (a flipped bit)

    scene.steps(3)

    assert scene.arrived == [2]
    assert scene.file.extent().parked == 1


def test_only_one_of_two_drains(tmp_path: Path, scene: Scene) -> None:
    """The second one waits until the first has let go."""
    other = Backlog(SpoolDirectory(tmp_path, SpoolBounds(2**30, 0)), lambda _: None, NoMetrics())
    waiting = Drainer(other, scene.broker, DrainPace(1000, 5, 1), scene._note, NoMetrics())  # noqa: SLF001  (the scene's own)
    scene.put(1, 2)
    scene.steps(1)

    assert waiting.step() == 2.0
    scene.backlog.release()
    waiting.step()
    assert scene.arrived == [1, 2]
    other.release()


def test_the_thread_drains_and_lets_go_at_the_end(tmp_path: Path, scene: Scene) -> None:
    """After `stop` another process may drain."""
    scene.drainer.start()
    scene.drainer.stop(10)

    lock = SpoolDirectory(tmp_path, SpoolBounds(2**30, 0)).lock_for_draining()
    assert lock is not None
    lock.release()
