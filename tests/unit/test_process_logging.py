"""What a test does to the process's loggers ends with it: later tests wait for lines."""

import logging
from collections.abc import Callable
from typing import Final

import pytest

from tests.conftest import LoggerState

_CHANGES: Final[dict[str, Callable[[logging.Logger], object]]] = {
    "level": lambda logger: logger.setLevel(logging.CRITICAL),
    "filter": lambda logger: logger.addFilter(lambda _: False),
    "handler": lambda logger: logger.addHandler(logging.NullHandler()),
    "propagation": lambda logger: setattr(logger, "propagate", False),
    "switched off": lambda logger: setattr(logger, "disabled", True),
}


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES)
def test_a_logger_is_given_back_as_it_was(change: Callable[[logging.Logger], object]) -> None:
    """Whatever code under test has set."""
    logger = logging.getLogger("headrace.tests.other")
    before = LoggerState.of(logger)
    change(logger)
    assert LoggerState.of(logger) != before

    before.give_back(logger)

    assert LoggerState.of(logger) == before


@pytest.mark.parametrize("time", ["first", "again"])
def test_no_test_meets_what_another_has_set(time: str) -> None:
    """The second would find the first's level."""
    logger = logging.getLogger("headrace.tests.some")
    assert logger.level == logging.NOTSET, time
    logger.setLevel(logging.CRITICAL)
