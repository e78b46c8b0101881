"""Events by client and type: counted once, under names that no sender can make many of."""

import pytest

from ingest.events.client_counters import CLIENTS_MAX, OTHER, ClientCounters
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
    counters = ClientCounters(tally, clients_max=4)

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


@pytest.mark.parametrize("junk", [1, 400, 2_000])
def test_a_real_client_gets_a_name_beside_made_up_ones(junk: int) -> None:
    """New ids in each flush use up half of the names at most, and a client that keeps coming is told apart."""
    tally = Metered()
    counters = ClientCounters(tally)

    for flush in range(60):
        counters.count([(f"junk-{flush}-{number}", "VIEW") for number in range(junk // 2)])
        counters.count([("web", "VIEW"), ("web", "CLICK")] if flush > 50 else [])
        counters.count([(f"junk-{flush}-{number}", "VIEW") for number in range(junk // 2, junk)])
        counters.flush()
        assert len(counters._flushes) <= 1000  # noqa: SLF001  (its memory has no other sign)

    names = {key.split("/")[1] for key in tally.counts} - {OTHER}
    assert tally.counts["events_by_client_total/web/VIEW"] == 7
    assert len(names - {"web"}) == CLIENTS_MAX // 2


def test_a_client_that_comes_now_and_then_gets_a_name_too() -> None:
    """Its flushes need not follow each other; other types in one flush are no other flush."""
    tally = Metered()
    counters = ClientCounters(tally, clients_max=2)
    counters.count([("first", "VIEW")])
    for _ in range(3):
        counters.count([("rare", "VIEW"), ("rare", "CLICK"), ("rare", "PING")])
        for _ in range(3):
            counters.flush()

    assert tally.counts["events_by_client_total/rare/VIEW"] == 1


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
