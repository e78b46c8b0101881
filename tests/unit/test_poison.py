"""How much poison is believed: shares and runs, across batches."""

import pytest

from consumer.errors import Fatal
from consumer.poison import PoisonLimits, last_run, longest_run
from tests.support.fixtures_consumer import record

LIMITS = PoisonLimits(share_max=0.5, share_rows_min=10, run_max=8)


def test_a_few_bad_records_are_believed() -> None:
    """Half of a batch is still believed."""
    LIMITS.check([record(n, b"") for n in range(12)], {0, 2, 4, 6, 8, 10}, 0)


def test_more_than_the_share_stops_the_worker() -> None:
    """The message counts, and names an offset to look at; it quotes nothing."""
    with pytest.raises(Fatal, match=r"share of 0\.5: 7 of 12 records, the first at offset 100"):
        LIMITS.check([record(100 + n, b"secret") for n in range(12)], {100, 101, 102, 104, 106, 108, 110}, 0)


def test_a_small_batch_has_no_share() -> None:
    """One bad record alone in a quiet partition is no mistake of ours."""
    LIMITS.check([record(0, b"")], {0}, 0)


def test_a_run_counts_across_batches() -> None:
    """Small batches of poison alone stop the worker too, when they follow each other."""
    batch = [record(n, b"") for n in range(4)]
    LIMITS.check(batch, {0, 1, 2, 3}, 4)
    with pytest.raises(Fatal, match="in a row than 8"):
        LIMITS.check(batch, {0, 1, 2, 3}, 5)


def test_a_batch_without_poison_is_fine_whatever_came_before() -> None:
    """A run that is over stops nobody."""
    LIMITS.check([record(n, b"") for n in range(4)], set(), 8)


def test_runs_are_counted_in_records_not_in_offsets() -> None:
    """Gaps between offsets hold nothing, good or bad."""
    gapped = [record(n, b"") for n in (0, 5, 9, 20)]

    assert longest_run(gapped, {5, 9}, 0) == 2
    assert longest_run(gapped, {0, 9}, 3) == 4
    assert (last_run(gapped, {9, 20}, 7), last_run(gapped, {0}, 7), last_run(gapped, {0, 5, 9, 20}, 7)) == (2, 0, 11)
