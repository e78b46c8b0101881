"""Worker processes of one group, from one topic into one database, and what must be there in the end."""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from confluent_kafka.admin import AdminClient

from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import SINGLE
from consumer.clickhouse.migrations import create_database
from consumer.delivery.intent import Intent, decode
from consumer.delivery.ports import Partition
from consumer.kafka.admin import Cluster
from tests.support.clickhouse import PASSWORD, USER, password_file
from tests.support.command import environ_of
from tests.support.feed import Feed, Place
from tests.support.member import ROOT, Member
from tests.support.migrated import make_tables
from tests.support.ports import free_port

__all__ = ["Fleet", "Member", "Settlement", "until"]

_ASK_S: Final = 0.25
_COUNT_S: Final = 0.5  # between two sums over the whole topic
_LOOK_S_MAX: Final = 4.0
_ASK_KAFKA_S: Final = 60.0
_PARTS_MAX: Final = 50
_PARTS: Final = (
    "SELECT count() AS n FROM system.parts WHERE database = currentDatabase() AND table = 'events' AND active"
)
_ROWS: Final = "SELECT count() AS n FROM {of_events:Identifier}"
_COUNTED: Final = """
SELECT sum(rows) AS n FROM {of_offsets:Identifier}
WHERE topic = {topic:String} AND {topic_id:String} IN ('', topic_id)
"""
_ENDS: Final = f"""
SELECT counted.n + (
    SELECT uniqExact(origin_partition, origin_offset) FROM {{of_dead_letters:Identifier}}
    WHERE origin_topic = {{topic:String}}
) AS n FROM ({_COUNTED}) AS counted
"""
_SAME_IDS: Final = "SELECT count() - uniqExact(event_id) AS n FROM events"


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of all records, per place in the topic.

    Attributes:
        rows: rows in the table.
        counted: rows that the summing view counted.
        letters: records that are dead letters.
        missing: neither a row nor a dead letter.
        doubled: more than one row, or a row and a dead letter.
        wrong: a row that should be a dead letter, a dead letter that should be a row, another reason, a stranger;
            and what is there instead.
    """

    rows: int
    counted: int
    letters: int
    missing: frozenset[Place]
    doubled: frozenset[Place]
    wrong: Mapping[Place, str]

    @property
    def is_under_way(self) -> bool:
        """Whether more may come: a record, or its count."""
        return bool(self.missing) or self.counted < self.rows

    def check(self) -> None:
        """Fail unless every record is exactly once where it belongs."""
        assert not self.wrong, f"{len(self.wrong)} wrong, such as {min(self.wrong.items())}"
        for name, places in (("missing", self.missing), ("doubled", self.doubled)):
            assert not places, f"{len(places)} {name}, such as partition {min(places)[0]}, offset {min(places)[1]}"
        assert self.counted == self.rows, f"the view counts {self.counted} of {self.rows} rows"


class Fleet:
    """Starts workers of one group; a context manager that kills what still runs and drops the database."""

    def __init__(self, directory: Path, bootstrap_servers: str, topic: str, clickhouse_url: str) -> None:
        """Make a database with headrace's tables; `<topic>.dead` must exist.

        `settings` are those of every worker, by name, and `root` is the tree of their code; a test may change them.
        """
        self.root = ROOT
        self.topic = topic
        self.database = f"fleet_{uuid.uuid4().hex[:8]}"
        self.members: list[Member] = []
        self.settings: dict[str, object] = {
            "bootstrap_servers": bootstrap_servers,
            "topic": topic,
            "dead_letter_topic": f"{topic}.dead",
            "group_id": self.database,
            "clickhouse_url": clickhouse_url,
            "clickhouse_user": USER,
            "clickhouse_password_file": password_file(),
            "clickhouse_database": self.database,
            "schema_cache_dir": directory / "schemas",
            "session_timeout_ms": 2000,  # how long a test waits for a dead worker's partitions
            "batch_age_s_max": 0.5,  # each insert takes ClickHouse some 70 ms, however few its rows
            "audit_every_s": 0,
        }
        self._directory = directory
        self.connection = self.make_database(clickhouse_url)

    def make_database(self, url: str) -> Connection:
        """Make the database and its tables, without merges, and return a connection."""
        self._first = Connection(url, USER, PASSWORD, "", 60)
        create_database(self._first, self.database, time.sleep)
        connection = Connection(url, USER, PASSWORD, self.database, 60)
        make_tables(connection)
        connection.command("SYSTEM STOP MERGES events")  # which would hide a double
        return connection

    def drop_database(self) -> None:
        """Drop it."""
        self._first.command(f"DROP DATABASE {self.database}")
        self._first.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            member.kill()
        self.connection.close()
        self.drop_database()

    def start(self, doom: str = "", **settings: object) -> Member:
        """Start a worker; `doom` is a step at which it strikes itself, the how manyth time, and how (see doomed.py)."""
        environ = environ_of("CONSUMER_", **{"http_port": free_port(), **self.settings, **settings})
        module = "tests.support.doomed" if doom else "consumer.__main__"
        log = self._directory / f"worker-{len(self.members)}.log"
        member = Member(module, environ | {"DOOM": doom or "none"}, log, self.root)
        self.members.append(member)
        return member

    def stop_all(self) -> None:
        """SIGTERM every worker that still runs: the next one owns all partitions."""
        for member in self.members:
            if member.is_alive:
                member.stop()

    def intents(self) -> dict[Partition, Intent]:
        """Return the ranges that the group's marks hold now, for the next owner to insert."""
        servers = str(self.settings["bootstrap_servers"])
        cluster = Cluster({"bootstrap.servers": servers}, str(self.settings["group_id"]))
        names = (self.topic, f"{self.topic}.dead")
        topics = {name: found for name in names if (found := cluster.topic(name))}
        places = [Partition(name, number) for name, topic in topics.items() for number in range(topic.partitions)]
        decoded = {place: decode(mark.metadata) for place, mark in cluster.committed(places).items()}
        return {place: intent for place, intent in decoded.items() if intent and intent.is_range}

    def left(self) -> dict[Partition, Intent]:
        """Return the ranges that dead or frozen workers have left, once the group has expelled them all.

        Their last commits may be under way until then: sent, and not yet taken by the broker.
        """
        until(lambda: not self.group(), "a group without members")
        return self.intents()

    def group(self) -> dict[str, list[tuple[str, int]]]:
        """Return the group's members by the ids that it gave them, and what each owns; a rebalance changes it."""
        admin = AdminClient({"bootstrap.servers": str(self.settings["bootstrap_servers"])})
        group_id = str(self.settings["group_id"])
        found = admin.describe_consumer_groups([group_id], request_timeout=_ASK_KAFKA_S)[group_id].result()
        owned = {member.member_id: member.assignment.topic_partitions for member in found.members}
        return {name: sorted((item.topic, item.partition) for item in items) for name, items in owned.items()}

    def settle(self, feed: Feed, timeout_s: float = 120.0, topic_id: str = "") -> Settlement:
        """Wait until nothing is missing, or the time is over, and return what is there then.

        An insert shows its rows a moment before the view has counted them.
        """
        deadline_s, pause_s = time.monotonic() + timeout_s, _ASK_S
        while (found := self.look(feed, topic_id)).is_under_way and time.monotonic() < deadline_s:
            self._await_counted(found.rows + found.letters + len(found.missing), topic_id, pause_s)
            pause_s = min(2 * pause_s, _LOOK_S_MAX)
        if not (found.missing or found.doubled or found.wrong):
            self._merge()
        return found

    def _merge(self) -> None:
        """Merge what has become many parts, unless rows share an id: each part costs every query a millisecond."""
        if self.connection.layout != SINGLE or self._sum(_PARTS) < _PARTS_MAX or self._sum(_SAME_IDS):
            return
        before = self._sum(_ROWS)
        try:
            self.connection.command("SYSTEM START MERGES events")
            self.connection.command("OPTIMIZE TABLE events FINAL")
        finally:
            self.connection.command("SYSTEM STOP MERGES events")
        after = self._sum(_ROWS)
        assert after >= before, f"{before - after} rows were doubles that came after all were settled"

    def _sum(self, query: str, topic_id: str = "") -> int:
        return int(self.connection.query(query, self._names | {"topic_id": topic_id})[0]["n"])

    def rows(self) -> int:
        """Count the rows that are there now, doubles too: for who waits, as it costs a tenth of `look`."""
        return self._sum(_ROWS)

    def _await_counted(self, records: int, topic_id: str, timeout_s: float) -> None:
        """Wait until so many are counted, or the time is over: a sum costs a tenth of looking at each record."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            time.sleep(_COUNT_S)
            if self._sum(_ENDS, topic_id) >= records:
                return

    def look(self, feed: Feed, topic_id: str = "") -> Settlement:
        """Return what is there now; of one topic ID, if it is given (dead letters have none)."""
        rows = self._places(
            "SELECT _partition AS p, _offset AS o FROM {of_events:Identifier}"
            " WHERE _topic = {topic:String} AND {topic_id:String} IN ('', _topic_id)",
            topic_id,
        )
        letters = self._letters()
        good, poison = set(feed.good), dict(feed.poison)
        return Settlement(
            rows=rows.total(),
            counted=self._sum(_COUNTED, topic_id),
            letters=len(letters),
            missing=frozenset((good | poison.keys()) - rows.keys() - letters.keys()),
            doubled=frozenset(place for place, count in rows.items() if count > 1) | (rows.keys() & letters.keys()),
            wrong=dict.fromkeys(rows.keys() - good, "a row")
            | {
                at: f"a dead letter for {sorted(reasons)}, not {poison.get(at)}"
                for at, reasons in letters.items()
                if reasons != {str(poison.get(at))}
            },
        )

    def census(self) -> Counter[str]:
        """Count the event ids that analysts see now."""
        rows = self.connection.query("SELECT toString(event_id) AS id, count() AS n FROM events_unique GROUP BY id")
        return Counter({row["id"]: int(row["n"]) for row in rows})

    @property
    def _names(self) -> dict[str, str]:
        return self.connection.layout.names("events", "offsets", "dead_letters") | {"topic": self.topic}

    def _letters(self) -> dict[Place, set[str]]:
        query = """
        SELECT origin_partition AS p, origin_offset AS o, groupUniqArray(reason) AS reasons
        FROM {of_dead_letters:Identifier}
        WHERE origin_topic = {topic:String} GROUP BY p, o
        """
        found = self.connection.query(query, self._names)
        return {(row["p"], row["o"]): set(row["reasons"]) for row in found}

    def _places(self, query: str, topic_id: str) -> Counter[Place]:
        found = self.connection.query(query, self._names | {"topic_id": topic_id})
        return Counter((row["p"], row["o"]) for row in found)


def until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Ask until a condition holds, less often each time.

    Raises:
        TimeoutError: it does not; the message says what was waited for.
    """
    deadline_s, pause_s = time.monotonic() + timeout_s, _ASK_S / 10
    while not condition():
        if time.monotonic() >= deadline_s:
            raise TimeoutError(f"after {timeout_s:.0f} s still not: {what}")
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, _ASK_S)
