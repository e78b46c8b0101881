"""What counts as getting on; the other verdicts are in test_consumer_telemetry.py, with the pages that show them."""

from consumer.delivery.buffer import BufferLimits
from consumer.delivery.partition import PartitionState
from consumer.delivery.ports import Poison
from consumer.errors import Reason
from consumer.health import HealthMonitor
from tests.support.consumer_fakes import Clock
from tests.support.states import PLACE, feed


def test_a_worker_that_finds_poison_is_healthy_though_its_position_stands() -> None:
    """A batch may take many searches; each that finds some is a step, and a restart would begin them again."""
    clock = Clock()
    watch = HealthMonitor(60, clock)
    lane = PartitionState(PLACE, "id", 7, None, read_to=7)
    feed(lane, *range(7, 57))
    work = lane.seal(BufferLimits(50, 10**6, 0.0, 10**6), 0.0)
    assert work is not None
    for offset in range(7, 17):
        work.batch = work.batch.without([Poison(offset, Reason.BAD_VALUE, "")])
        clock.now_s += 59
        watch.turned({PLACE: lane}, lambda _: 100)
    assert watch.verdict().name == "moving"
    for _ in range(3):
        clock.now_s += 30
        watch.turned({PLACE: lane}, lambda _: 100)

    assert watch.verdict().name == "stalled"
