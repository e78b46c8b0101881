"""Rows of people go from every replica, also where no cluster's name leads to them."""

from argparse import Namespace
from collections.abc import Callable
from copy import copy
from typing import Any, Self, cast

import pytest

from consumer import people
from consumer.clickhouse.client import Connection, ExternalTable
from consumer.clickhouse.layout import SINGLE, Layout
from consumer.clickhouse.servers import each_replica
from consumer.errors import Fatal, Misconfigured, Transient
from consumer.operations.erasing_shard import ErasingShard
from consumer.operations.people import Kind, Person
from consumer.settings import Settings
from schemas.registry import LocalSchemas

PEOPLE = [Person(Kind.USER, "alice", 1)]


class Server:
    """A replica: its name, how many there are, and what its mutation does from look to look."""

    database, timeout_s = "d", 60.0

    def __init__(self, name: str = "r1", count: int = 1, layout: Layout = SINGLE) -> None:
        self.name, self.count, self.layout = name, count, layout
        self.address = f"{name}:8123"
        self.urls: tuple[Server, ...] = (self,)
        self.done: list[str] = []
        self.looks: list[tuple[int, int]] = []  # known mutations, and those that are not done
        self.left = 0
        self.is_away = False

    def to(self, url: "Server", name: str | None = None) -> "Server":
        """Return one of the servers."""
        del name
        return url

    def patient(self, timeout_s: float) -> Self:
        """Return itself."""
        del timeout_s
        return self

    def sticky(self) -> Self:
        """Return itself."""
        return self

    def whoami(self) -> str:
        """Return its name."""
        if self.is_away:
            raise Transient("away")
        return self.name

    def redial(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Note it."""
        self.done.append("closed")

    def command(self, statement: str, *_: object, rows: ExternalTable | None = None, **__: object) -> None:
        """Note the first words."""
        del rows
        self.done.append(" ".join(statement.split()[:3]))

    def query(self, query: str, parameters: dict[str, Any] | None = None, **_: object) -> list[dict[str, Any]]:
        """Answer what is asked of a replica."""
        if "system.replicas" in query:
            return [{"name": self.name, "n": self.count}] if self.count else []
        if "startsWith(engine" in query:
            return [{"name": name} for name in sorted((parameters or {})["tables"])]
        if "countIf(NOT is_done)" in query:
            known, n = self.looks.pop(0) if self.looks else (1, 0)
            self.done.append("asked")
            return [{"known": known, "n": n, "parts": n, "reason": ""}]
        return [{"n": self.left if "run = '" in query else 3}]


def connection(*servers: Server) -> Connection:
    """Return a connection to servers: the first is in use, and any that does not answer is met in the search only."""
    one = copy(servers[0])
    one.urls = servers
    return cast("Connection", one)


def erase(*servers: Server, wait: Callable[[float], object] = lambda _: None) -> int:
    """Erase over the first server, and wait for all of them."""
    replicas = [cast("Connection", server) for server in servers]
    return ErasingShard(replicas[0], lambda _: None, wait, replicas).erase("run", PEOPLE)


def test_every_replica_has_the_list_before_and_has_deleted_behind() -> None:
    """Each reads its own list; a replica that hears of the mutation late is waited for too."""
    first, second = Server("r1"), Server("r2")
    second.looks = [(0, 0), (0, 0), (1, 2), (1, 1), (1, 0)]

    assert erase(first, second) == 3
    sync = "SYSTEM SYNC REPLICA"
    assert first.done == ["INSERT INTO erased_rows", sync, "ALTER TABLE events", "asked"]
    assert second.done == [sync, *["asked"] * 5]


def test_replicas_catch_up_before_rows_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lags lacks rows: they would not be listed, and come with the next part."""
    first, second = Server("r1", 2), Server("r2", 2)
    done: list[list[str]] = []
    asked = Namespace(go=True, again=False, user_id=["alice"], anon_id=[], event_id=[])
    monkeypatch.setattr(people, "connect", lambda _: connection(first, second))
    monkeypatch.setattr(people, "find_schemas", lambda _: LocalSchemas())
    monkeypatch.setattr(people, "check_grants", lambda *_: None)
    monkeypatch.setattr(people, "_erase", lambda *_: done.extend([*one.done] for one in (first, second)))
    people.run_erase(cast("Settings", None), asked)

    waits = ["SYSTEM SYNC REPLICA"] * 4  # of rows and dead letters, and of what was erased before
    assert [[step for step in steps if step != "closed"] for steps in done] == [waits] * 2


def test_a_replica_that_keeps_rows_is_named() -> None:
    """Its mutation was killed, or never reached it: the command fails after a bound."""
    first, second = Server("r1"), Server("r2")
    second.looks, second.left = [(0, 0)] * 10_000, 2
    waited: list[float] = []

    with pytest.raises(Fatal, match=r"2 rows are still there, at r2:8123.*erase --again"):
        erase(first, second, wait=waited.append)
    assert 20 < sum(waited) < 60


def test_all_replicas_that_the_addresses_name_are_found_once() -> None:
    """Two addresses may lead to one server."""
    first, second = Server("r1", 2), Server("r2", 2)
    with each_replica(connection(first, first, second)) as found:
        assert [one.address for one in found] == ["r1:8123", "r2:8123"]
    assert "closed" in second.done


def test_replicas_that_are_not_named_are_missed() -> None:
    """The sentence says which setting, and both ways out."""
    says = r"^CONSUMER_CLICKHOUSE_URL: names 1 of 3 replicas of events: .*CONSUMER_CLICKHOUSE_CLUSTER.*DROP REPLICA"
    with pytest.raises(Misconfigured, match=says), each_replica(connection(Server("r1", 3))):
        pass


def test_a_replica_that_is_away_is_no_reason_to_begin() -> None:
    """Its rows would stay, and come back with it."""
    away = Server("r2", 2)
    away.is_away = True
    with pytest.raises(Transient), each_replica(connection(Server("r1", 2), away)):
        pass


@pytest.mark.parametrize("server", [Server(count=0), Server(layout=Layout("c", is_replicated=True))])
def test_plain_tables_and_clusters_need_no_names(server: Server) -> None:
    """The one has no replicas, the other's name leads to all."""
    with each_replica(connection(server)) as found:
        assert found == []
