"""The documents say what was kept; `make docs` writes them."""

import pytest

from bench.answers import PAGE
from bench.pages import PERFORMANCE, SCALE, charts, rendered, stages_of
from bench.queue import outage, simulate
from bench.scale import RATES, Assumptions, Costs, plan
from bench.scaled import PAGE as SCALED
from docs.tables import ROOT

COSTS = Costs(20, 5, 5, 10, 50_000, 600, 300, 100)  # the outcome does not depend on them


@pytest.mark.parametrize("path", [PERFORMANCE, SCALE, PAGE, SCALED])
def test_a_document_shows_what_was_kept(path: str) -> None:
    """Its tables are those that the kept figures, the plans and the simulation give."""
    assert rendered(path) == (ROOT / path).read_text("utf-8")


def test_the_charts_show_what_was_kept() -> None:
    """Each of them, and no other."""
    made = charts()

    assert {file.name: file.read_text("utf-8") for file in (ROOT / "docs" / "charts").glob("*.svg")} == made


@pytest.mark.parametrize("of_brokers", [False, True])
def test_each_plan_survives_an_hour_without_servers(*, of_brokers: bool) -> None:
    """As its document says: nothing refused, nothing lost, fresh again within two hours of the beginning."""
    for one in (plan(rate, COSTS, Assumptions()) for rate in RATES):
        seen = simulate(stages_of(one), outage(one.rate, of_brokers=of_brokers))
        assert (seen.refused, round(seen.lost)) == (0, 0)
        assert seen.recovered_s <= 2 * 3600 + 1
