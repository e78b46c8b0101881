"""Events by client and type: counted once, under names that no sender can make many of."""

import pytest

from ingest.events.clients import CLIENTS_MAX, OTHER, ClientCounters
from ingest.metric_table import LABEL_SETS_MAX
from schemas.event import read_catalogue
from tests.unit.ingest.test_process_metrics import Metered


def test_events_are_counted_under_client_and_type() -> None:
    """Each request adds its events; a flush writes them once."""
    tally = Metered()
    counters = ClientCounters(tally)

    counters.count([("web", "VIEW"), ("web", "PING"), ("web", "VIEW")])
    counters.flush()
    counters.count([("web", "VIEW"), ("app", "VIEW")])
    for _ in range(3):
        counters.flush()

    assert tally.counts == {
        "events_by_client_total/web/VIEW": 3,
        "events_by_client_total/web/PING": 1,
        "events_by_client_total/app/VIEW": 1,
    }


def test_clients_beyond_the_bound_are_counted_together() -> None:
    """However many names come in, as many have one as may; those keep it, and nothing waits without a bound."""
    tally = Metered()
    counters = ClientCounters(tally, clients_max=2)

    for number in range(50_000):
        counters.count([(f"client-{number}", "VIEW")])
    unflushed = 50_000 - sum(tally.counts.values())
    counters.count([("client-1", "CLICK"), ("client-2", "CLICK")])
    counters.flush()

    assert unflushed <= 20_000
    assert tally.counts == {
        "events_by_client_total/client-0/VIEW": 1,
        "events_by_client_total/client-1/VIEW": 1,
        f"events_by_client_total/{OTHER}/VIEW": 49_998,
        "events_by_client_total/client-1/CLICK": 1,
        f"events_by_client_total/{OTHER}/CLICK": 1,
    }


@pytest.mark.parametrize("client", ["", "a" * 65, "a b", "a\n", 'a"} 1\nforged{x="', "ä", "\x00"])
def test_what_does_not_look_like_a_name_gets_none(client: str) -> None:
    """Nor does it use up a name."""
    tally = Metered()
    counters = ClientCounters(tally, clients_max=1)

    counters.count([(client, "VIEW"), ("web", "VIEW")])
    counters.flush()

    assert tally.counts == {f"events_by_client_total/{OTHER}/VIEW": 1, "events_by_client_total/web/VIEW": 1}


def test_all_names_with_all_types_fit_the_metric() -> None:
    """No type of the catalogue is merged with others because clients have many names."""
    assert (CLIENTS_MAX + 1) * len(read_catalogue().types) <= LABEL_SETS_MAX
