"""Where a partition begins, by what the group's mark says."""

import logging

import pytest

from consumer.intent import Intent
from consumer.opening import open_lane
from consumer.ports import Assigned, Mark, Partition

PLACE = Partition("events", 3)


def assigned(mark: Mark | None, low: int = 0) -> Assigned:
    """Return an assignment under the topic id "now"."""
    return Assigned(PLACE, "now", mark, low)


def test_without_a_mark_it_begins_at_the_oldest_record() -> None:
    """A new group reads everything that is there."""
    lane = open_lane(assigned(None, low=17))

    assert (lane.position, lane.read_to, lane.committed, lane.replay) == (17, 17, None, None)


def test_a_mark_is_where_it_goes_on() -> None:
    """Its metadata names the incarnation; without a range there is nothing to repeat."""
    mark = Mark(20, Intent("now", 20, 20).encode())
    lane = open_lane(assigned(mark, low=17))

    assert (lane.position, lane.read_to, lane.committed, lane.replay) == (20, 20, mark, None)


def test_an_intent_is_repeated() -> None:
    """Exactly its range, without what it leaves out."""
    intent = Intent("now", 20, 30, (25,))

    assert open_lane(assigned(Mark(20, intent.encode()))).replay == intent


def test_an_intent_at_another_offset_is_not() -> None:
    """A tool moved the offset and kept the text."""
    lane = open_lane(assigned(Mark(5, Intent("now", 20, 30).encode())))

    assert (lane.position, lane.replay) == (5, None)


def test_an_offset_without_metadata_is_believed() -> None:
    """Tools that move offsets write none."""
    assert open_lane(assigned(Mark(5, ""))).position == 5


def test_a_mark_of_another_incarnation_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The topic was made anew: it is read from its start, and the log says so."""
    lane = open_lane(assigned(Mark(20, Intent("before", 20, 30).encode()), low=2))

    assert (lane.position, lane.read_to, lane.committed, lane.replay, lane.is_halted) == (2, 2, None, None, False)
    assert "made anew" in caplog.text


@pytest.mark.parametrize(
    ("mark", "low", "why"),
    [
        (Mark(20, Intent("now", 20, 30).encode()), 21, "deleted before they were read"),
        (Mark(20, ""), 21, "deleted before they were read"),
        (Mark(20, "3|now|20|30|"), 0, "another program or a newer worker"),
        (Mark(20, "hello"), 0, "another program or a newer worker"),
    ],
)
def test_where_going_on_would_skip_or_repeat_it_halts(
    mark: Mark, low: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A halted lane takes nothing, commits nothing, and the log tells the operator why."""
    with caplog.at_level(logging.ERROR):
        lane = open_lane(assigned(mark, low))

    assert (lane.is_halted, lane.is_open) == (True, False)
    assert why in caplog.text
