"""Medians, ratios, and when one is worse."""

import pytest

from bench.charts import bars
from bench.kept import table
from bench.processes import Figures
from bench.quick import worse


@pytest.mark.parametrize(
    ("values", "text"),
    [((1234.5, 1000, 2000), "1,234 (1,000-2,000)"), ((12.34,), "12.3 (12.3-12.3)"), ((1, 2, 4), "2.00 (1.00-4.00)")],
)
def test_a_figure_is_a_median_with_its_spread(values: tuple[float, ...], text: str) -> None:
    """Three digits are what several runs support."""
    assert str(Figures.of(values)) == text


def test_a_table_has_a_row_for_each_side() -> None:
    """Sides that did not run have none."""
    made = table({"a": [{"x": 1.0}, {"x": 3.0}], "b": []}, {"x": "x us"})

    assert made.splitlines() == ["| side | x us |", "|---|---|", "| a | 2.00 (1.00-3.00) |"]


def test_a_ratio_is_worse_beyond_the_tolerance_in_its_own_direction() -> None:
    """Less processor time is better, fewer rows are not."""
    names = {"sink CPU: headrace / naive": 0.5, "sink rows/s: headrace / naive": 2.0}
    kept = (
        dict.fromkeys(
            (
                "ingress CPU, 1 a request: headrace / naive",
                "ingress CPU, 100 a request: headrace / naive",
                "ingress CPU, 1 a request: headrace / empty coroutine",
            ),
            1.0,
        )
        | names
    )

    assert worse(kept, kept) == []
    assert worse(kept | {"sink CPU: headrace / naive": 0.7}, kept, 0.35) == ["sink CPU: headrace / naive"]
    assert worse(kept | {"sink rows/s: headrace / naive": 1.4}, kept, 0.35) == ["sink rows/s: headrace / naive"]
    assert worse(kept | {"sink CPU: headrace / naive": 0.1, "sink rows/s: headrace / naive": 9}, kept) == []


def test_a_bar_is_as_long_as_its_median() -> None:
    """The line over it goes from the least to the largest."""
    made = bars("t", [("a", Figures.of((1, 2, 4))), ("b", Figures.of((4,)))])

    assert "width='170.0'" in made
    assert "width='340.0'" in made
    assert "x1='275.0' x2='530.0'" in made
