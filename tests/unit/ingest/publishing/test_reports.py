"""Delivery reports become statuses, in compiled code as in Python."""

import gc
import threading
import weakref
from typing import Any, Protocol

import pytest

from ingest.publishing import delivery_reports, reports
from ingest.publishing.ports import DeliveryStatus

DELIVERED, FAILED, REFUSED, UNKNOWN = (
    DeliveryStatus.DELIVERED,
    DeliveryStatus.FAILED,
    DeliveryStatus.REFUSED,
    DeliveryStatus.UNKNOWN,
)


class Message:
    """What a report has: its offset."""

    def __init__(self, offset: int | None = 0) -> None:
        self._offset = offset

    def offset(self) -> int | None:
        """Return it."""
        return self._offset


class Made(Protocol):
    """Reports that count what they call."""

    ends: int
    missing: int

    def statuses(self) -> list[DeliveryStatus]:
        """As `Reports`."""

    def takers(self, indexes: Any) -> Any:
        """As `Reports`."""

    def give_up(self, status: DeliveryStatus = ..., first: int = ...) -> None:
        """As `Reports`."""


@pytest.fixture(params=["compiled", "in Python"])
def made(request: pytest.FixtureRequest) -> Made:
    """Return the reports of three records; a string for an error is a refusal."""
    base: Any = {"compiled": delivery_reports.Reports, "in Python": reports.ReportsInPython}[request.param]

    class Counted(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self.ends = self.missing = 0
            super().__init__(3, lambda error: REFUSED if error == "refused" else FAILED, self.miss)

        def ended(self) -> None:
            assert UNKNOWN not in self.statuses()
            self.ends += 1

        def miss(self) -> None:
            self.missing += 1

    return Counted()


def test_each_record_has_its_status(made: Made) -> None:
    """In whatever order the reports come; the last one ends it, once."""
    first, second, third = made.takers(range(3))
    assert made.statuses() == [UNKNOWN] * 3

    third("refused", Message(None))
    first(None, Message(7))
    assert (made.statuses(), made.ends) == ([DELIVERED, UNKNOWN, REFUSED], 0)
    second("away", Message())

    assert (made.statuses(), made.ends, made.missing) == ([DELIVERED, FAILED, REFUSED], 1, 0)


def test_success_without_an_offset_is_none(made: Made) -> None:
    """Librdkafka only concludes it; 0 is an offset."""
    takers = list(made.takers(range(3)))
    takers[0](None, Message(None))
    takers[1](None, Message(0))

    assert (made.statuses(), made.missing) == ([FAILED, DELIVERED, UNKNOWN], 1)


def test_the_first_report_counts(made: Made) -> None:
    """A record that was given up may be reported afterwards, and more than once."""
    takers = list(made.takers(range(3)))
    takers[1](None, Message())
    takers[1]("refused", Message())
    made.give_up()
    for taker in takers:
        taker(None, Message())
    made.give_up(REFUSED)

    assert (made.statuses(), made.ends) == ([FAILED, DELIVERED, FAILED], 1)


@pytest.mark.parametrize(
    ("first", "fates"),
    [(0, [REFUSED] * 3), (1, [UNKNOWN, REFUSED, REFUSED]), (2, [UNKNOWN, UNKNOWN, REFUSED]), (3, [UNKNOWN] * 3)],
)
def test_records_are_given_up_from_one_on(made: Made, first: int, fates: list[DeliveryStatus]) -> None:
    """Those before it wait for their reports; the last of these ends it."""
    made.give_up(REFUSED, first=first)
    assert (made.statuses(), made.ends) == (fates, int(first == 0))

    for taker in made.takers(range(3)):
        taker(None, Message())
    assert made.ends == 1


def test_statuses_are_a_copy(made: Made) -> None:
    """A caller may change what it gets."""
    made.statuses().clear()

    assert made.statuses() == [UNKNOWN] * 3


def test_a_report_that_can_not_be_read_is_an_error(made: Made) -> None:
    """The caller gets it, and no status changes."""
    takers = list(made.takers(range(3)))
    with pytest.raises(AttributeError):
        takers[0](None, None)

    assert made.statuses() == [UNKNOWN] * 3


def test_threads_end_it_once(made: Made) -> None:
    """A replaced producer's reports come on another thread than the present one's, and a third one gives up."""
    for _ in range(200):
        again: Made = type(made)()
        takers = list(again.takers(range(3)))
        threads = [threading.Thread(target=taker, args=(None, Message())) for taker in takers]
        threads.append(threading.Thread(target=again.give_up))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert (again.ends, UNKNOWN in again.statuses()) == (1, False)


def test_nothing_is_kept(made: Made) -> None:
    """What takes a report keeps the reports, and nothing keeps what takes it."""
    again: Any = type(made)()  # pytest keeps the other
    takers: Any = list(again.takers(range(3)))
    kept = weakref.ref(again)
    del again
    takers[0](None, Message())
    assert kept() is not None
    del takers
    gc.collect()

    assert kept() is None
