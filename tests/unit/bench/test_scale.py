"""What a rate of events needs, and how its queues behave."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.queue import Stages, Trouble, flash_crowd, outage, simulate
from bench.scale import Assumptions, Costs, amount, plan

COSTS = Costs(20, 5, 5, 10, 50_000, 600, 300, 100)
GIVEN = Assumptions(busy=0.5, engine_busy=0.5, copies=3, log_days=1, table_days=10, broker_bytes_per_s=100e6)


def test_a_plan_multiplies_costs_by_the_rate() -> None:
    """By hand, for a million events a second."""
    made = plan(1e6, COSTS, GIVEN)

    assert made.ingress_cores == 40
    assert made.workers == 40
    assert made.partitions == 160
    assert made.brokers == 9  # 900 MB/s of writes, and 30 cores
    assert made.engine_cores == 40
    assert made.log_bytes == pytest.approx(1e6 * 300 * 86_400 * 3)
    assert made.table_bytes == pytest.approx(1e6 * 100 * 864_000 * 2)
    assert made.shards == 6  # by disk: 86.4 TB a replica


def test_money_is_cores_disks_and_transfer() -> None:
    """Each has its price, and without prices nothing costs anything."""
    free = replace(GIVEN, core_hour=0, disk_gb_month=0, transfer_gb=0)
    one = plan(1e6, COSTS, replace(free, disk_gb_month=1))

    assert plan(1e6, COSTS, free).month_usd == 0
    assert one.month_usd == pytest.approx((one.log_bytes + one.table_bytes) / 1e9)


def test_a_small_rate_still_has_two_of_each() -> None:
    """For availability; and the copies of the log need as many brokers."""
    made = plan(1, COSTS, GIVEN)

    assert (made.ingress_cores, made.workers, made.brokers, made.partitions, made.shards) == (2, 2, 3, 12, 1)


@pytest.mark.parametrize(
    ("number", "text"),
    [(12, "12 B"), (1500, "1.5 kB"), (1e6, "1 MB"), (25e9, "25 GB"), (3.4e12, "3.4 TB"), (1.2e16, "12 PB")],
)
def test_amounts_have_two_digits(number: float, text: str) -> None:
    """More would look measured."""
    assert amount(number, "B") == text


def test_an_outage_of_the_table_is_caught_up_at_twice_the_rate_in_as_much_time() -> None:
    """An hour's backlog, and the rate goes on."""
    seen = simulate(Stages(2000, 1000, 2000), outage(1000))

    assert (seen.refused, seen.spool_max, seen.lost) == (0, 0, 0)
    assert seen.lag_max == pytest.approx(3600 * 1000, rel=0.01)
    assert seen.recovered_s == pytest.approx(7200, abs=2)
    assert seen.age_s_max == pytest.approx(3601)


def test_an_outage_of_the_brokers_fills_the_spools() -> None:
    """They are drained beside what comes in."""
    seen = simulate(Stages(2000, 500, 2000), outage(1000, of_brokers=True))

    assert seen.spool_max == 3600 * 1000
    assert seen.recovered_s == pytest.approx(3600 + 7200, abs=2)


def test_a_crowd_beyond_the_ingress_is_refused() -> None:
    """What it can take is taken, and the log takes it all."""
    assert simulate(Stages(10_000, 1000, 10_000), flash_crowd(1000)).refused == 0
    seen = simulate(Stages(2000, 1000, 2000), flash_crowd(1000, ramp_s=1, lasts_s=600))

    assert seen.refused == pytest.approx(0.8, abs=0.01)
    assert seen.lag_max <= 2000


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=50), st.floats(1, 1e4), st.integers(0, 60), st.integers(0, 60))
def test_nothing_that_was_accepted_is_lost(
    arrivals: list[float], workers: float, broker_back_s: int, table_back_s: int
) -> None:
    """Whatever comes, and whatever is away."""
    trouble = Trouble(lambda second: arrivals[second] if second < len(arrivals) else 0.0, broker_back_s, table_back_s)

    assert simulate(Stages(5000, 1000, workers), trouble).lost == pytest.approx(0, abs=1e-3)
