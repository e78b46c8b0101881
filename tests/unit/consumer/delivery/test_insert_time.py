"""The time that an insert is given, with a server that gives up when it was told to."""

import pytest

from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.layout import SINGLE
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import GROWTH_MAX, ClickHouseTable
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
        self.layout = SINGLE

    def command(  # type: ignore[override]  # what the table calls
        self,
        statement: str,  # noqa: ARG002  (as above)
        parameters: object = None,  # noqa: ARG002  (as above)
        data: object = None,  # noqa: ARG002  (as above)
        settings: object = None,
    ) -> None:
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


def table_of(server: Connection, timeout_s: float) -> ClickHouseTable:
    """Return a table of a server's."""
    return ClickHouseTable(
        server, Target("events", "event", "events", timeout_s), EventRows(LocalSchemas()), None, Tally()
    )


def block_of(token: str) -> Block:
    """Return a block under a token."""
    return Block(1, Origin("id"), token, (0,), b"")


@pytest.mark.parametrize("timeout_s", [1.0, 5.0, 15.0, 25.0, 45.0, 60.0])
def test_the_time_grows_whatever_it_begins_with(timeout_s: float, clock: Clock) -> None:
    """The server's limit is in whole seconds: the try counts when that was reached. It grows no further than it may."""
    server = Busy(clock)
    table, block = table_of(server, timeout_s), block_of("token")
    for _ in range(5):
        with pytest.raises(Transient):
            table.insert(block)

    assert server.limits_s[-1] >= 7 * server.limits_s[0]
    assert server.limits_s == sorted(server.limits_s)
    assert server.limits_s[-1] <= GROWTH_MAX * timeout_s


def test_what_was_never_repeated_is_forgotten(clock: Clock) -> None:
    """A batch that was given up leaves nothing behind for ever; one that is tried now keeps its time."""
    server = Busy(clock)
    table = table_of(server, 1.0)
    for number in range(3000):
        for token in (f"token-{number}", "now"):
            with pytest.raises(Transient):
                table.insert(block_of(token))

    assert len(table._timeouts) <= 1000  # noqa: SLF001  (nothing shows it from outside)
    assert server.limits_s[-1] == max(server.limits_s)


def test_the_window_covers_the_longest_insert(clock: Clock) -> None:
    """Tokens are remembered while blocks come at full pace: a session, a queue, and the longest time of an insert."""
    server = Busy(clock)
    table, block = table_of(server, 60.0), block_of("token")
    for _ in range(9):
        with pytest.raises(Transient):
            table.insert(block)

    assert InsertPace(1, 1.0, 60.0, 30.0).window >= 2 * (30 + 60 + max(server.limits_s))
