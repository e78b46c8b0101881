"""Backoff: waits that grow to a bound, with jitter, and never sleep."""

from hypothesis import given
from hypothesis import strategies as st

from consumer.delivery.backoff import Backoff


def test_waits_double_up_to_the_bound() -> None:
    """Without luck a wait is half of its step."""
    backoff = Backoff(first_s=0.2, step_s_max=1.5, chance=lambda: 0.0)

    assert [backoff.delay_s(attempt) for attempt in (1, 2, 3, 4, 5, 1000)] == [0.1, 0.2, 0.4, 0.75, 0.75, 0.75]


@given(st.integers(1, 10**6))
def test_a_wait_lies_between_half_of_its_step_and_all_of_it(attempt: int) -> None:
    """Jitter spreads workers that failed together."""
    least, most = Backoff(chance=lambda: 0.0), Backoff(chance=lambda: 0.999999)

    assert least.delay_s(attempt) <= Backoff().delay_s(attempt) <= most.delay_s(attempt) <= 15
    assert least.delay_s(attempt) * 2 >= most.delay_s(attempt)
