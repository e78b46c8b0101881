"""The counters: every event ends somewhere, and the sums show it."""

import threading

import pytest

from ingest.counters import EventCounters, Outcome


def test_a_request_that_is_taken_balances() -> None:
    """Received, accepted and delivered are the same three events."""
    ledger = EventCounters()

    with ledger.open() as account:
        account.set_total(3)
        ledger.count(Outcome.DELIVERED, 3)
        account.accept(3)

    figures = ledger.figures()
    assert (figures["received"], figures["accepted"], figures["delivered"]) == (3, 3, 3)
    assert (figures["refused"], figures["in_flight"], figures["balanced"]) == (0, 0, True)


def test_events_are_in_flight_until_the_answer() -> None:
    """Between the body and the answer, the events are neither accepted nor refused, and the counters still balance."""
    ledger = EventCounters()

    with ledger.open() as account:
        account.set_total(5)

        assert ledger.figures()["in_flight"] == 5
        assert ledger.figures()["balanced"] is True
    assert ledger.figures()["in_flight"] == 0


@pytest.mark.parametrize("rest", [Outcome.REFUSED, Outcome.LIMITED, Outcome.SHED])
def test_a_request_that_is_never_read_counts_as_one(rest: Outcome) -> None:
    """Whatever turned it away, a request whose events nobody counted is one event of that outcome."""
    ledger = EventCounters()

    with ledger.open() as account:
        account.rest = rest

    figures = ledger.figures()
    assert (figures["received"], figures[rest], figures["balanced"]) == (1, 1, True)


def test_a_lenient_request_is_split() -> None:
    """What is not accepted is refused."""
    ledger = EventCounters()

    with ledger.open() as account:
        account.set_total(5)
        ledger.count(Outcome.SPOOLED, 2)
        account.accept(2)

    figures = ledger.figures()
    assert (figures["accepted"], figures["refused"], figures["spooled"]) == (2, 3, 2)
    assert figures["balanced"] is True


def test_a_request_that_dies_is_refused() -> None:
    """A defect on the way leaves no event without an outcome."""
    ledger = EventCounters()

    with pytest.raises(ZeroDivisionError), ledger.open() as account:  # noqa: PT012  (the block is what is tested)
        account.set_total(4)
        raise ZeroDivisionError

    assert ledger.figures()["refused"] == 4
    assert ledger.figures()["balanced"] is True


@pytest.mark.parametrize("outcome", [Outcome.DELIVERED, Outcome.SPOOLED, Outcome.RECEIVED, Outcome.ACCEPTED])
def test_an_event_too_many_is_noticed(outcome: Outcome) -> None:
    """Books that do not add up say so."""
    ledger = EventCounters()

    ledger.count(outcome, 1)

    assert ledger.figures()["balanced"] is False


def test_an_orphan_does_not_disturb_the_sums() -> None:
    """An event that arrived although its request was answered 503 stands beside the sums."""
    ledger = EventCounters()

    ledger.count(Outcome.ORPHANED, 1)

    assert ledger.figures()["balanced"] is True


def test_threads_share_the_books() -> None:
    """Requests of many threads at once lose no event."""
    ledger = EventCounters()

    def serve() -> None:
        for _ in range(200):
            with ledger.open() as account:
                account.set_total(2)
                ledger.count(Outcome.DELIVERED, 1)
                account.accept(1)

    threads = [threading.Thread(target=serve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    figures = ledger.figures()
    assert (figures["received"], figures["accepted"], figures["refused"]) == (3200, 1600, 1600)
    assert (figures["in_flight"], figures["balanced"]) == (0, True)
