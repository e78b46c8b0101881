"""The time that an insert is given, with a server that gives up when it was told to."""

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block
from consumer.errors import Cause, Transient
from schemas.registry import LocalSchemas
from tests.support.consumer_fakes import Tally


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the moment."""
        return self.now_s


class Busy(Connection):
    """A server that ends no insert, and says so a moment after its limit."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.limits_s: list[int] = []

    def command(self, statement: str, parameters: object = None, data: object = None, settings: object = None) -> None:  # noqa: ARG002  (what the table calls)
        """Give up."""
        assert isinstance(settings, dict)
        self.limits_s.append(settings["max_execution_time"])
        self.clock.now_s += self.limits_s[-1] + 0.2
        raise Transient("timeout exceeded", Cause.UNKNOWN)

    def patient(self, timeout_s: float) -> "Busy":  # noqa: ARG002  (as above)
        """Return what has more time."""
        return self

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The table's."""
    clock = Clock()
    monkeypatch.setattr("consumer.clickhouse.table.monotonic", clock)
    return clock


@pytest.mark.parametrize("timeout_s", [1.0, 5.0, 15.0, 25.0, 45.0, 60.0])
def test_the_time_grows_whatever_it_begins_with(timeout_s: float, clock: Clock) -> None:
    """The server's limit is in whole seconds: the try counts when that was reached."""
    schemas, server = LocalSchemas(), Busy(clock)
    table = ClickHouseTable(server, Target("events", "event", "events", timeout_s), EventRows(schemas), None, Tally())
    block = Block(1, Origin("id"), "token", (0,), b"")
    for _ in range(5):
        with pytest.raises(Transient):
            table.insert(block)

    assert server.limits_s[-1] >= 7 * server.limits_s[0]
    assert server.limits_s == sorted(server.limits_s)
