"""A call in the background is made again and again, whatever happens to one of them, until the block is left."""

import logging
import threading

import pytest

from consumer.errors import Transient
from consumer.operations.background import in_background


def test_a_call_that_fails_is_made_again(caplog: pytest.LogCaptureFixture) -> None:
    """A server that is away postpones it; an error that nobody foresaw is in the log with a trace."""
    calls, done = iter([Transient("away"), KeyError("unforeseen"), None]), threading.Event()

    def call() -> None:
        error = next(calls)
        if error is not None:
            raise error
        done.set()

    with caplog.at_level(logging.WARNING), in_background("heartbeat", call, 0.001):
        assert done.wait(60)

    assert [line.getMessage() for line in caplog.records][:2] == [
        "heartbeat postponed",
        "unforeseen error in the heartbeat",
    ]


def test_nothing_is_called_when_it_is_never_due() -> None:
    """0 seconds mean never."""
    with in_background("heartbeat", lambda: pytest.fail("called"), 0):
        assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]
