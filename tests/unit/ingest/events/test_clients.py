"""Events by client and type: counted once, under names that no sender can make many of."""

import pytest

from ingest.events.clients import OTHER, ClientCounters
from tests.support.consumer_fakes import Tally


class Counted(Tally):
    """What is counted, by client and type; it also makes adders."""

    def adder(self, name: str, **labels: str) -> "Adder":
        """Return what adds to one counter."""
        return Adder(self, name, labels)

    def move(self, name: str, amount: float, **labels: str) -> None:
        """Add to a gauge."""
        raise NotImplementedError


class Adder:
    """Adds to one counter."""

    def __init__(self, tally: Tally, name: str, labels: dict[str, str]) -> None:
        self._tally, self._name, self._labels = tally, name, labels

    def __call__(self, amount: float) -> None:
        """Add."""
        self._tally.count(self._name, amount, **self._labels)


def test_events_are_counted_under_client_and_type() -> None:
    """Each request adds its events."""
    tally = Counted()
    counters = ClientCounters(tally)

    counters.count({("web", "VIEW"): 2, ("web", "PING"): 1})
    counters.count({("web", "VIEW"): 3, ("app", "VIEW"): 1})

    assert tally.counts == {
        "events_by_client_total/web/VIEW": 5,
        "events_by_client_total/web/PING": 1,
        "events_by_client_total/app/VIEW": 1,
    }


def test_clients_beyond_the_bound_are_counted_together() -> None:
    """However many names come in, as many have one as may; and those keep it."""
    tally = Counted()
    counters = ClientCounters(tally, clients_max=2)

    for number in range(1000):
        counters.count({(f"client-{number}", "VIEW"): 1})
    counters.count({("client-1", "CLICK"): 1, ("client-2", "CLICK"): 1})

    assert tally.counts == {
        "events_by_client_total/client-0/VIEW": 1,
        "events_by_client_total/client-1/VIEW": 1,
        f"events_by_client_total/{OTHER}/VIEW": 998,
        "events_by_client_total/client-1/CLICK": 1,
        f"events_by_client_total/{OTHER}/CLICK": 1,
    }


@pytest.mark.parametrize("client", ["", "a" * 65, "a b", "a\n", 'a"} 1\nforged{x="', "ä", "\x00"])
def test_what_does_not_look_like_a_name_gets_none(client: str) -> None:
    """Nor does it use up a name."""
    tally = Counted()
    counters = ClientCounters(tally, clients_max=1)

    counters.count({(client, "VIEW"): 1})
    counters.count({("web", "VIEW"): 1})

    assert tally.counts == {f"events_by_client_total/{OTHER}/VIEW": 1, "events_by_client_total/web/VIEW": 1}
