"""Two or three ClickHouse servers that know each other as shards of clusters, and a balancer before them."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from consumer.clickhouse.client import Connection
from consumer.clickhouse.distributed import make_distributed
from consumer.clickhouse.layout import Layout
from consumer.clickhouse.migrations import create_database, migrate, migrations, tables
from consumer.clickhouse.products import make_products
from tests.support import migrated
from tests.support.clickhouse import PASSWORD, USER, EmbeddedClickHouse
from tests.support.fleet import Fleet
from tests.support.proxy import FaultProxy
from tests.support.proxy_http import HttpLink
from tests.support.proxy_http_wire import Head
from tests.support.proxy_side import Side

_CONFIG: Final = Path(__file__).resolve().parents[2] / "deploy" / "embedded" / "clickhouse_server"
_NAME: Final = "<display_name>headrace</display_name>"
_ASK_S: Final = 0.2
_HOST: Final = "127.0.0.1"
CLUSTERS: Final = {
    "two": ((0,), (1,)),
    "one": ((0,),),
    "copies": ((0, 1),),
    "three": ((0,), (1,), (2,)),
}
"""Each cluster's shards, and their replicas, as numbers of servers. To each server `apart` begins with itself."""


class Node(EmbeddedClickHouse):
    """One of the servers; its configuration names the clusters."""

    def __init__(self, name: str, config: Path) -> None:
        super().__init__()
        self.config, self.display_name = config, name
        self.program = ("tests.support.clickhouse_node", str(config))

    def configure(self, nodes: Sequence["Node"]) -> None:
        """Write the configuration; the ports of all are known."""
        self.config.mkdir()
        shutil.copy(_CONFIG / "users.xml", self.config)
        own_first = tuple((number,) for number in sorted(range(len(nodes)), key=lambda n: nodes[n] is not self))
        shards = {
            name: "".join(f"<shard>{''.join(_replica(nodes[n]) for n in shard)}</shard>" for shard in cluster)
            for name, cluster in {**CLUSTERS, "apart": own_first}.items()
            if all(number < len(nodes) for shard in cluster for number in shard)
        }
        known = "".join(f"<{name}>{text}</{name}>" for name, text in shards.items())
        own = f"<display_name>{self.display_name}</display_name><remote_servers>{known}</remote_servers>"
        macros = f"<macros><shard>1</shard><replica>{self.display_name}</replica></macros>"
        text = (_CONFIG / "config.xml").read_text("utf-8")
        (self.config / "config.xml").write_text(text.replace(_NAME, own + macros), "utf-8")


def _replica(node: Node) -> str:
    place = f"<host>{_HOST}</host><port>{node.native_port}</port>"
    return f"<replica>{place}<user>{USER}</user><password>{PASSWORD}</password></replica>"


class TwoServers:
    """Two servers, or more; a context manager."""

    def __init__(self, count: int = 2) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="clickhouse-shards-"))
        self.nodes = tuple(
            Node(f"node-{number}", self._directory / f"config-{number}") for number in range(1, count + 1)
        )
        for node in self.nodes:
            node.configure(self.nodes)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for node in self.nodes:
            self._stack.enter_context(node)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        shutil.rmtree(self._directory)

    @property
    def url(self) -> str:
        """Both addresses."""
        return ",".join(node.url for node in self.nodes)

    def connect(self, database: str, cluster: str = "", url: str = "", timeout_s: float = 30) -> Connection:
        """Return a connection to both, or to a URL; with plain tables, over a cluster's shards if one is named."""
        layout = Layout(cluster, tables=tables())
        return Connection(url or self.url, USER, PASSWORD, database, timeout_s, layout=layout)

    def each(self, database: str, cluster: str = "") -> list[Connection]:
        """Return a connection to each server by itself."""
        return [self.connect(database, cluster, node.url) for node in self.nodes]

    @contextmanager
    def database(self, cluster: str, *, is_empty: bool = False) -> Iterator[str]:
        """Make a database on both with the tables of a cluster's shards, and drop it afterwards."""
        name = f"shards_{uuid.uuid4().hex[:12]}"
        if not is_empty:
            for one in self.each(name, cluster):
                make_tables(one, is_new=True)
        yield name
        for one in self.each(""):
            one.command(f"DROP DATABASE IF EXISTS {name}")


def make_tables(one: Connection, *, is_new: bool = False) -> None:
    """Make on one server what `migrate` makes there; in a new database, by what an earlier migration has left."""
    first = one.beside("", one.layout)
    create_database(first, one.database, lambda _: None)
    if is_new:
        migrated.make_tables(one)
    else:
        migrate(one, migrations(), lambda _: None)
    make_distributed(one, lambda _: None)
    make_products(one, "UTC", lambda _: None)


class ShardedFleet(Fleet):
    """Workers whose tables lie on the shards of a cluster."""

    def __init__(self, directory: Path, bootstrap_servers: str, topic: str, servers: TwoServers, cluster: str) -> None:
        self.servers, self.cluster = servers, cluster
        super().__init__(directory, bootstrap_servers, topic, servers.url)
        self.settings |= {"clickhouse_cluster": cluster, "clickhouse_replicated": "false"}

    def make_database(self, url: str) -> Connection:
        """Make it on all servers, and return a connection to all."""
        for one in self.servers.each(self.database, self.cluster):
            make_tables(one)
            one.command("SYSTEM STOP MERGES events")
        return self.servers.connect(self.database, self.cluster, url, 60)

    def grow(self, cluster: str) -> None:
        """Lay the tables over another cluster, which has more shards; workers that start now know it."""
        self.cluster = self.settings["clickhouse_cluster"] = cluster
        self.connection.close()
        self.connection = self.make_database(self.servers.url)

    def drop_database(self) -> None:
        """Drop it on all."""
        for one in self.servers.each(""):
            one.command(f"DROP DATABASE {self.database}")

    def partitions(self) -> list[set[int]]:
        """Return which partitions of the events each server has rows of."""
        query = "SELECT DISTINCT _partition AS p FROM events"
        return [{row["p"] for row in one.query(query)} for one in self.servers.each(self.database)]


class Balancer(FaultProxy):
    """A proxy that sends each request, or each connection, to the next server."""

    def __init__(self, ports: Sequence[int], *, by_request: bool = True) -> None:
        self.ports, self.by_request = ports, by_request
        self._turn = 0
        super().__init__(_HOST, ports[0])

    def next_port(self) -> int:
        """Return the port of the server whose turn it is."""
        self._turn += 1
        return self.ports[self._turn % len(self.ports)]

    def _link(self, client: Side) -> HttpLink:
        return _SpreadLink(client, self)


class _SpreadLink(HttpLink):
    """A client's connection, whose requests go to several servers."""

    def __init__(self, client: Side, balancer: Balancer) -> None:
        super().__init__(client, balancer._dial, balancer._take, balancer._note, "")  # noqa: SLF001  (its own proxy)
        self._balancer = balancer

    async def _ready(self, request: Head) -> Head:
        if self._upstream is None or self._balancer.by_request:
            if self._upstream is not None:
                await self._upstream.close()
                self._upstream = None
            port = self._balancer.next_port()
            self._host = f"{_HOST}:{port}"
            self._balancer.upstream = (_HOST, port)
            self._upstream = await self._dial()
        return await super()._ready(request)
