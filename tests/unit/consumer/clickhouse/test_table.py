"""The settings of an insert over all its tries."""

from collections.abc import Mapping
from typing import Any, Self, cast

import pytest

from consumer.clickhouse import table as module
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.layout import Layout
from consumer.clickhouse.rows import EventRows
from consumer.clickhouse.table import ClickHouseTable
from consumer.delivery.intent import Origin
from consumer.delivery.ports import Block
from consumer.errors import Cause, Transient
from schemas.registry import LocalSchemas
from tests.support.consumer_fakes import Tally

_TIMES: tuple[str, ...] = ("max_execution_time", "insert_quorum_timeout")


class Silent:
    """A server that lets each insert run out of time; the next one gets more."""

    layout = Layout("c", is_replicated=True, tables=frozenset({"events"}), quorum="2")

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def command(self, _: str, __: object, ___: bytes, settings: Mapping[str, Any]) -> None:
        """Note the settings, and give no answer."""
        self.sent.append(dict(settings))
        raise Transient("no answer", Cause.UNKNOWN)

    def patient(self, _: float) -> Self:
        """Wait longer."""
        return self

    def close(self) -> None:
        """End."""


def test_every_try_of_an_insert_has_the_same_quorum(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeat with a quorum that the first try lacked would succeed at once; only times differ, and they grow."""
    clock = iter(range(0, 10**6, 10**4))
    monkeypatch.setattr(module, "monotonic", lambda: next(clock))
    server, schemas = Silent(), LocalSchemas()
    target = Target("events", "event", "events", 30)
    table = ClickHouseTable(cast("Connection", server), target, EventRows(schemas), schemas.schema_of, Tally())
    for _ in range(5):
        with pytest.raises(Transient):
            table.insert(Block(1, Origin("id"), "token", (0,), b"", shard=2))

    assert [one["insert_quorum"] for one in server.sent] == ["2"] * 5
    same = [{name: value for name, value in one.items() if name not in _TIMES} for one in server.sent]
    assert all(one == same[0] for one in same)
    assert len({one["insert_quorum_timeout"] for one in server.sent}) > 1
    assert all(one["insert_quorum_timeout"] < 1000 * one["max_execution_time"] for one in server.sent)
