"""Asks whether the account has the rights that replicas and clusters need: those of deploy/clickhouse/roles.sql.

Without this, a worker would learn it from the first repeat, or from an answer that names no right. ClickHouse tells of
a right from release 24.11 on; of an older one nothing is asked.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from consumer.advice import Sentence
from consumer.clickhouse.client import Connection
from consumer.clickhouse.layout import Layout
from consumer.clickhouse.streams import pieces
from consumer.clickhouse.table_check import quoted
from consumer.errors import Fatal, Halt, Rejected

OF_CLUSTER: Final = ("REMOTE ON *.*", "CREATE TEMPORARY TABLE ON *.*")
"""What a query of all servers needs."""
_PUT_BACK: Final = ("events", "dead_letters", "offsets")
_USER: Final = "SELECT currentUser() AS name"


def of_replicas(layout: Layout, database: str) -> tuple[str, ...]:
    """Return the rights for waiting for replicas, and for putting back rows that one has lost."""
    on_cluster = ("CLUSTER ON *.*",) if layout.is_replicated else ()
    attach = (f"ALTER DELETE ON {quoted(database)}.{table}" for table in _PUT_BACK)
    return (f"SYSTEM SYNC REPLICA ON {quoted(database)}.*", *on_cluster, *attach)


def check_grants(one: Connection, grants: Iterable[str]) -> None:
    """Check that the account has these rights on a server.

    Raises:
        Fatal: it lacks one; a sentence says how to give it.
        Transient: the server is away.
    """
    for grant in grants:
        if not _has(one, grant):
            (user,) = one.query(_USER)
            names = {"user": quoted(str(user["name"])), "host": one.address, "grant": grant}
            raise Fatal(Sentence.NO_GRANT.format(**names))


def _has(one: Connection, grant: str) -> bool:
    with suppress(Halt, Rejected):  # an older server does not know the question
        return b"".join(pieces(one, f"CHECK GRANT {grant}")).strip() != b"0"
    return True
