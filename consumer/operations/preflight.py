"""Checks before the first poll what exactly-once depends on; each fault is one sentence that says what to do.

ClickHouse: every column that the insert fills or the table computes is stored; the table `offsets` and its view exist;
every migration of this release was applied to its end; each table, and each target of a view on it, has a deduplication
window that is large enough; no profile forbids one of our settings; a repeated token is really dropped; and the table
accepts an insert.

Kafka: the topics exist, and an intent fits a commit's metadata. Whether the broker keeps that metadata is only logged:
without it a clean stop is still exact, and the log says what is not.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from consumer.advice import Sentence
from consumer.clickhouse.client import Connection, Target
from consumer.clickhouse.cluster_check import ClusterCheck
from consumer.clickhouse.insert_pace import InsertPace
from consumer.clickhouse.migrations import applied, migrations
from consumer.clickhouse.table_check import TableCheck, check_tokens
from consumer.delivery.intent import METADATA_BYTES_MAX
from consumer.errors import Fatal, Rejected
from consumer.kafka.admin import Cluster, Topic

_METADATA_DEFAULT: Final = 4096
LETTER_HEADERS_BYTES: Final = 64 * 1024
"""Room in a dead letter for its headers beside the record."""
_MESSAGE_BYTES: Final = "max.message.bytes"
_METADATA: Final = "offset.metadata.max.bytes"


def check_tables(connection: Connection, checks: Iterable[tuple[Target, InsertPace]]) -> None:
    """Check every table, and that every migration of this release was applied to its end.

    Raises:
        Fatal, Transient: as TableCheck.run.
    """
    try:
        for target, pace in checks:
            TableCheck(connection, target, pace).run()
        check_tokens(connection)
    except Rejected as error:
        raise Fatal(f"preflight: {error}") from error
    done = applied(connection)
    if pending := [migration.name for migration in migrations() if migration.name not in done]:
        raise Fatal(Sentence.NOT_MIGRATED.format(files=", ".join(pending)))


def check_windows(connection: Connection, checks: Iterable[tuple[Target, InsertPace]]) -> None:
    """Check how many blocks every table remembers.

    Raises:
        Fatal, Transient: as TableCheck.run.
    """
    for target, pace in checks:
        TableCheck(connection, target, pace).check_windows()


def check_servers(connection: Connection) -> int:
    """Check that the servers belong together; return how many shards there are, 0 without a cluster.

    Raises:
        Fatal, Transient: as ClusterCheck.run.
    """
    try:
        return ClusterCheck(connection).run()
    except Rejected as error:
        raise Fatal(f"preflight: {error}") from error


def find_topics(cluster: Cluster, names: Sequence[str]) -> dict[str, Topic]:
    """Return the topics.

    Raises:
        Fatal: a topic does not exist.
        Transient: no broker answers.
    """
    topics = {name: cluster.topic(name) for name in names}
    for name, topic in topics.items():
        if topic is None:
            raise Fatal(Sentence.NO_TOPIC.format(topic=name, servers=cluster.servers))
    return {name: topic for name, topic in topics.items() if topic is not None}


def check_metadata(cluster: Cluster, topic: str) -> bool | None:
    """Check that an intent fits a commit, and tell whether the broker keeps it; None when that could not be tried.

    Raises:
        Fatal: it does not fit.
    """
    allowed = int(cluster.broker_setting(_METADATA) or _METADATA_DEFAULT)
    if allowed < METADATA_BYTES_MAX:
        needs = {"allowed": allowed, "needed": METADATA_BYTES_MAX, "advised": _METADATA_DEFAULT}
        raise Fatal(Sentence.SMALL_METADATA.format(**needs))
    return cluster.keeps_metadata(topic)


def size_warnings(cluster: Cluster, events: str, dead: str, batch_bytes_max: int) -> list[str]:
    """Compare the size limits of both topics with each other and with a batch; return a sentence for each mismatch.

    A topic whose limit this client may not read is skipped.
    """
    limits = [cluster.topic_setting(topic, _MESSAGE_BYTES) for topic in (events, dead)]
    taken, kept = (int(limit) if limit is not None else None for limit in limits)
    names = {"events": events, "dead": dead, "servers": cluster.servers, "taken": taken, "kept": kept}
    told: list[str] = []
    if taken is not None and kept is not None and kept < taken + LETTER_HEADERS_BYTES:
        told.append(Sentence.CUT_LETTERS.format(**names, needed=taken + LETTER_HEADERS_BYTES))
    if taken is not None and taken > batch_bytes_max:
        told.append(Sentence.LARGE_RECORDS.format(**names, needed=batch_bytes_max))
    return told


def guarantee(*, keeps_metadata: bool) -> str:
    """Return the sentence that the log states at the start."""
    if keeps_metadata:
        return "every record becomes one row or one dead letter, through crashes, rebalances and lost answers"
    return (
        "this broker keeps no commit metadata: every record becomes a row or a dead letter at least once; a clean stop"
        " is exact, a crash between an insert and its commit may double one batch"
    )
