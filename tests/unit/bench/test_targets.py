"""The table of targets says of each whether it is met."""

import pytest

from bench.targets import Target


@pytest.mark.parametrize(
    ("measured", "is_least", "is_met"),
    [(14.0, False, True), (14.1, False, False), (14.0, True, True), (13.9, True, False)],
)
def test_a_target_is_met_up_to_its_bound(measured: float, is_least: bool, is_met: bool) -> None:  # noqa: FBT001  (a row)
    """Some figures shall be at most the bound, others at least, and the row shows it."""
    target = Target("cost", measured, 14, is_least=is_least)

    assert target.is_met is is_met
    assert ("**no**" in target.line()) is not is_met
