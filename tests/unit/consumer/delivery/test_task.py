"""When a batch's task may be prepared."""

from concurrent.futures import Future

from consumer.delivery.task import Outcome
from tests.support.states import feed, opened, sealed


def test_a_failed_preparation_is_repeated_only_when_its_time_has_come() -> None:
    """A registry that is away is not asked again in each turn."""
    state = opened()
    feed(state, 0, 1, 2)
    task = sealed(state)
    assert task.is_due(10.0)
    job: Future[Outcome] = Future()
    task.preparing(job)
    assert not task.is_due(10.0)

    task.postpone(12.0)

    assert not task.is_due(11.9)
    assert task.is_due(12.0)
