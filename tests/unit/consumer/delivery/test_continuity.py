"""Whether a log is still the one that was read: what is taken, what is read once more, and where another log begins."""

import pytest

from consumer.delivery.continuity import Continuity
from consumer.delivery.intent import Intent
from consumer.delivery.ports import Partition, Position, Record

PLACE = Partition("events", 0)


def record(offset: int, epoch: int) -> Record:
    """Return a record of a leader epoch."""
    return Record(PLACE, offset, 0, b"", b"", (), epoch)


def opened(offset: int = 30, epoch: int = 4, *, low: int = 0, promised: Intent | None = None) -> Continuity:
    """Return what is known of a partition that is opened at an offset."""
    return Continuity.at(Position(offset, epoch), low, promised)


def taken(log: Continuity, *records: Record) -> list[int]:
    """Return the offsets of the records that are taken of those that come."""
    offsets = []
    for item in records:
        if log.is_plain(item) or log.admits(item):
            log.read(item)
            offsets.append(item.offset)
    return offsets


def test_the_last_record_is_read_once_more_before_anything_is_taken() -> None:
    """It is the same: what follows it is taken, and it is not."""
    log = opened()

    assert (log.is_proving, log.last_offset) == (True, 29)
    assert taken(log, record(28, 2), record(29, 4), record(30, 4), record(31, 4)) == [30, 31]
    assert log.broken_at is None


@pytest.mark.parametrize("epoch", [2, 6])
def test_another_record_in_its_place_is_another_log(epoch: int) -> None:
    """Cut and grown again, or a replica with its own tail: nothing is taken, however it goes on."""
    log = opened()

    assert taken(log, record(29, epoch), record(30, 4), record(31, 6)) == []
    assert log.broken_at == 29


def test_a_last_record_that_is_gone_proves_nothing() -> None:
    """Retention and compaction take records, and the marker of a transaction is none: reading goes on."""
    assert taken(opened(), record(30, 4), record(31, 4)) == [30, 31]
    assert taken(opened(low=30), record(30, 4)) == [30]
    behind_a_marker = opened()
    behind_a_marker.reached_end(29)
    assert behind_a_marker.is_waiting
    behind_a_marker.reached_end(30)
    assert not behind_a_marker.is_waiting
    assert taken(behind_a_marker, record(30, 4)) == [30]


def test_where_no_epoch_is_known_nothing_is_compared() -> None:
    """The embedded broker keeps none, nor do marks that a tool has set, nor those of the release before."""
    unknown = opened(epoch=-1)

    assert not unknown.is_proving
    assert taken(unknown, record(30, 0), record(31, -1), record(32, 5), record(33, -1), record(34, 0)) == [
        *range(30, 35)
    ]
    assert (unknown.broken_at, unknown.seek_to) == (None, None)
    assert taken(opened(), record(29, -1), record(30, -1)) == [30]


def test_a_new_leader_is_believed_once_the_last_record_was_read_from_it() -> None:
    """What comes before that is dropped, since it comes again."""
    log = opened()
    assert taken(log, record(29, 4), record(30, 4)) == [30]

    assert taken(log, record(31, 6), record(32, 6)) == []
    assert log.seek_to == Position(30, 4)
    log.sought()
    assert taken(log, record(30, 4), record(31, 6), record(32, 6)) == [31, 32]
    assert log.broken_at is None


def test_a_new_leader_with_another_last_record_is_not_believed() -> None:
    """Its log is as long as the one that was read, so that comparing lengths finds nothing."""
    log = opened()
    assert taken(log, record(29, 4), record(30, 4), record(31, 6)) == [30]
    log.sought()

    assert taken(log, record(30, 2), record(31, 6)) == []
    assert log.broken_at == 30


def test_a_third_leader_is_proven_by_itself() -> None:
    """A proof is of one epoch alone: between two looks the log may have become another."""
    log = opened()
    assert taken(log, record(29, 4), record(30, 6)) == []
    log.sought()

    assert taken(log, record(29, 4), record(30, 8)) == []
    assert log.seek_to == Position(29, 4)


def test_an_older_leader_behind_a_newer_one_is_another_log() -> None:
    """Epochs only ever rise along a log."""
    log = opened()

    assert taken(log, record(29, 4), record(30, 4), record(31, 2)) == [30]
    assert log.broken_at == 31


def test_a_range_that_was_promised_is_of_its_epoch() -> None:
    """The intent says which records were to be inserted: others under their offsets are not."""
    promised = Intent("id", 30, 33, leader_epoch=6)

    assert taken(opened(promised=promised), record(29, 4), record(30, 6), record(32, 6), record(33, 6)) == [30, 32, 33]
    for epoch in (4, 8):
        log = opened(promised=promised)
        assert taken(log, record(29, 4), record(30, 6), record(31, epoch), record(32, 6)) == [30]
        assert log.broken_at == 31


def test_a_range_of_the_release_before_is_of_any_epoch() -> None:
    """It did not say; the range may have several."""
    promised = Intent("id", 30, 33, version=1)

    assert taken(opened(epoch=-1, promised=promised), record(30, 4), record(31, 6), record(33, 6)) == [30, 31, 33]
