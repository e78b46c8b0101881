"""Fills the table `networks`, and makes the dictionary over it that the views ask for an address's country.

The dictionary reads the table as an account without a password that may log in from the server itself only
(deploy/clickhouse/roles.sql). With an operator's password in its definition, every query for a country would fail once
that is changed.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import islice
from typing import Final
from uuid import uuid4

from consumer.clickhouse.client import Connection
from consumer.clickhouse.products import COUNTRIES
from consumer.errors import ConsumerError, Fatal

READER: Final = "headrace_countries"
"""The account that reads the table for the dictionary."""
_TABLE: Final = "networks"
_CHUNK: Final = 100_000
_INSERT: Final = "INSERT INTO {beside} (network, country) FORMAT TSV"
_REPLACE: Final = "ALTER TABLE networks REPLACE PARTITION tuple() FROM {beside}"
_NOW: Final = {"async_insert": 0, "wait_end_of_query": 1}
_COUNT: Final = "SELECT count() AS n FROM networks"
# ClickHouse loads it again by itself, for the other servers of a cluster.
_DICTIONARY: Final = f"""
CREATE DICTIONARY IF NOT EXISTS {COUNTRIES} (network String, country String) PRIMARY KEY network
SOURCE(CLICKHOUSE(HOST '127.0.0.1' USER '{READER}' DB '{{database}}' TABLE '{_TABLE}'))
LAYOUT(IP_TRIE()) LIFETIME(MIN 3600 MAX 7200)
COMMENT 'the country of an address, by its longest network; python -m consumer countries makes it'
"""
_IS_THERE: Final = "SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = {name:String}"


def load_countries(connection: Connection, networks: Iterable[tuple[str, str]]) -> int:
    """Replace all networks by these, and have ClickHouse load the dictionary; return how many there are now.

    Views show countries once they are made again.

    Args:
        connection: connects to the database.
        networks: each with its country.

    Raises:
        Transient: the server is away; the networks of before are still there, or the new ones all are.
        Fatal: it refuses; a dictionary that was not there before is not there.
    """
    with _beside(connection) as beside:
        left = iter(networks)
        while chunk := list(islice(left, _CHUNK)):
            lines = "".join(f"{network}\t{country}\n" for network, country in chunk)
            connection.command(_INSERT.format(beside=beside), data=lines.encode(), settings=_NOW)
        connection.command(_REPLACE.format(beside=beside))
    _load(connection)
    return int(connection.query(_COUNT)[0]["n"])


def _load(connection: Connection) -> None:
    is_new = not connection.query(_IS_THERE, {"name": COUNTRIES})
    connection.command(_DICTIONARY.format(database=connection.database))
    try:
        connection.command(f"SYSTEM RELOAD DICTIONARY {connection.database}.{COUNTRIES}")
    except ConsumerError as error:
        if is_new:  # a view that asks a dictionary which can't be loaded answers nobody
            with suppress(ConsumerError):
                connection.command(f"DROP DICTIONARY IF EXISTS {COUNTRIES}")
        raise Fatal(
            f"ClickHouse can't load the dictionary {COUNTRIES}: {error}; it reads {_TABLE} as the account {READER},"
            " which deploy/clickhouse/roles.sql makes"
        ) from error


@contextmanager
def _beside(connection: Connection) -> Iterator[str]:
    """Yield an empty copy of the table; `migrate` drops it when this process dies."""
    name = f"{_TABLE}_mend_{sha256(_TABLE.encode()).hexdigest()[:12]}_{uuid4().hex[:12]}"
    connection.command(f"CREATE TABLE {name} AS {_TABLE} ENGINE = MergeTree ORDER BY network")
    try:
        yield name
    finally:
        with suppress(ConsumerError):
            connection.command(f"DROP TABLE IF EXISTS {name} SYNC")
