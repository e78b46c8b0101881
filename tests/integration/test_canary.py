"""The canary's looks into a real table: many rows that waited through an outage, and a ClickHouse that comes back."""

from collections.abc import Collection, Mapping
from typing import Final

import pytest

from consumer.canary import finder
from consumer.clickhouse.client import Connection
from consumer.metrics import PrometheusMetrics
from consumer.operations.canary import METRICS, PREFIX, Canary, Outcome
from tests.support.clickhouse import USER, ClickHouse, password_file
from tests.support.fixtures_consumer import encoded
from tests.support.kafka_clients import deliver
from tests.support.operator import Operator
from tests.support.ports import free_port
from tests.support.proxy import FaultProxy
from tests.support.proxy_modes import Answer

_EVENTS: Final = 3000
_INSERT: Final = """
INSERT INTO events (event_id, _topic, _topic_id)
SELECT arrayJoin({ids:Array(UUID)}), 'events', 'id'
"""


class Waiting:
    """A canary whose events a collector has accepted."""

    def __init__(self, connection: Connection, count: int) -> None:
        self.ids: list[str] = []
        self.metrics = PrometheusMetrics(METRICS, PREFIX)
        self._now_s = 0.0
        self.connection = connection
        self.canary = Canary(self._post, self._find, self.metrics, 300, self._tick)
        for _ in range(count):
            self.canary.send()

    def _post(self, event: Mapping[str, str]) -> Outcome:
        self.ids.append(event["eventId"])
        return Outcome.ACCEPTED

    def _find(self, event_ids: Collection[str]) -> set[str]:
        return finder(self.connection)(event_ids)

    def _tick(self) -> float:
        self._now_s += 0.001
        return self._now_s

    def figure(self, name: str) -> float:
        """Return a sample by name and labels, as it is written on the page."""
        lines = self.metrics.page().decode().splitlines()
        (found,) = [line for line in lines if line.startswith(f"{PREFIX}{name} ")]
        return float(found.rpartition(" ")[2])


@pytest.fixture
def waiting(database: Connection) -> Waiting:
    """A canary that waits for as many rows as come after an outage of hours."""
    return Waiting(database, _EVENTS)


def test_all_rows_are_found_after_an_outage(waiting: Waiting) -> None:
    """By some hundred ids at once, in one look; while ClickHouse is away none of them is late."""
    table = waiting.connection
    for some in range(0, _EVENTS, 500):
        table.command(_INSERT, {"ids": waiting.ids[some : some + 500]})
    waiting.connection = Connection(f"http://127.0.0.1:{free_port()}", "default", "", "default", 1.0)
    waiting.canary.look()
    assert (waiting.figure('rows_total{outcome="found"}'), waiting.figure('rows_total{outcome="late"}')) == (0, 0)
    assert waiting.figure('lookups_total{outcome="failed"}') == 1

    waiting.connection = table
    waiting.canary.look()

    assert waiting.figure('rows_total{outcome="found"}') == _EVENTS
    assert waiting.figure('rows_total{outcome="late"}') == 0
    assert waiting.figure("oldest_waiting_seconds") == 0


@pytest.mark.kafka
def test_rows_of_a_worker_are_found_however_many_came_while_nobody_looked(
    operator: Operator, clickhouse: ClickHouse
) -> None:
    """By a hundred ids at once, which fit a proxy's line of 8 KiB; ClickHouse would refuse all in one query."""
    operator.make_tables()
    waiting = Waiting(operator.database, 4000)
    values = [encoded(number, eventId=event_id) for number, event_id in enumerate(waiting.ids)]
    deliver(operator.broker.bootstrap_servers, operator.topic, values, 0)
    operator.work()
    operator.await_rows(4000)
    host, _, port = clickhouse.url.removeprefix("http://").partition(":")
    with FaultProxy(host, int(port)) as proxy:
        proxy.set(Answer(414), only="^.{8193}")
        password = password_file().read_text().strip()
        waiting.connection = Connection(proxy.url, USER, password, operator.database.database, 30.0)
        waiting.canary.look()
        waiting.connection.close()

    assert waiting.figure('rows_total{outcome="found"}') == 4000
    assert waiting.figure('rows_total{outcome="late"}') == 0
    assert waiting.figure('lookups_total{outcome="answered"}') == 4000 / 100
    assert proxy.count(Answer) == 0
