"""The sentences of preflight, migrate, lag and the pages about wrong tables, topics and groups; each says what to do.

A command in backquotes is complete: it can be run as it is, and suffices. For each, a test causes the fault, runs the
command, and finds the fault gone (tests/integration/test_advice_*.py).
"""

from enum import StrEnum
from typing import Final

_MIGRATE: Final = "run `python -m consumer migrate`"


class Sentence(StrEnum):
    """Templates of sentences; `{table}` and `{view}` are quoted SQL names."""

    NO_TABLE = f"there is no table {{table}}: {_MIGRATE}"
    DETACHED = "{table} is detached: run `ATTACH TABLE {table}`"
    NO_COLUMNS = f"{{table}} lacks the columns {{columns}}: {_MIGRATE}"
    KEEPS_NOTHING = "{table} does not store these columns: run {cures}"
    NO_LEDGER = f"there is no table {{table}}, which counts inserted rows: {_MIGRATE}"
    NO_LEDGER_VIEW = f"there is no view {{table}}, which counts inserted rows: {_MIGRATE}"
    OTHER_LEDGER_VIEW = (
        "the view {view} does not count the inserts into {table} in {ledger}: run `DROP VIEW {view}`,"
        " then `python -m consumer migrate`"
    )
    OLD_LEDGER_VIEW = f"the view {{view}} does not count {{columns}}: {_MIGRATE}"
    NOT_MIGRATED = f"{{files}} was not applied to these tables, or not to its end: {_MIGRATE}"
    NO_TARGET = "the view {view} writes to {table}, which is missing: create it, or run `DROP VIEW {view}`"
    NO_DEDUPLICATION = (
        "the view {view} writes to {table}, whose engine {engine} can't deduplicate: let it write to a MergeTree,"
        " or run `DROP VIEW {view}`"
    )
    SMALL_WINDOW = (
        "{table} remembers {window} blocks, but {needed} are needed here:"
        " run `ALTER TABLE {table} MODIFY SETTING {setting} = {needed}`"
    )
    SHORT_WINDOW = (
        "{table} remembers blocks for {window} seconds, but {needed} are needed, on every replica:"
        " run `ALTER TABLE {table}{everywhere} MODIFY SETTING {setting} = {needed}`"
    )
    DISTRIBUTED = (
        "{table} is a Distributed table: let it be the table of each server, and set CONSUMER_CLICKHOUSE_CLUSTER"
        ' (docs/OPERATIONS.md, "A ClickHouse cluster")'
    )
    NO_QUORUM = "CONSUMER_INSERT_QUORUM is set, but {table} is not replicated: unset it"
    NO_TOKENS = (
        "this ClickHouse does not drop an insert with a repeated insert_deduplication_token: use a version that"
        " headrace was tested with, and let no profile set deduplicate_insert or insert_deduplicate"
    )
    TAKES_NO_ROW = "{table} accepts no row: {why}"
    # from migrate only
    RENAMED = "{table} lacks the column {column}: was it renamed? run `{rename}`, or `{add}`"
    COMPUTES_NOTHING = "{table} does not compute the column {column}: run `{modify}`"
    REPLICATED = "{table} is missing, and the other tables are replicated: create it like another replica's"
    # of several servers
    SEPARATE_TABLES = (
        "CONSUMER_CLICKHOUSE_URL leads to servers whose tables are not the same: {hosts}; name one of them, or replicas"
        " of one table; for shards, set CONSUMER_CLICKHOUSE_CLUSTER"
    )
    NO_CLUSTER = (
        "{host} knows no cluster {cluster}: add it to remote_servers in ClickHouse's configuration, or correct"
        " CONSUMER_CLICKHOUSE_CLUSTER"
    )
    OTHER_SHARDS = (
        "{host} and {first} know other shards or replicas of the cluster {cluster}: give them the same remote_servers,"
        " in the same order"
    )
    PLAIN_REPLICAS = (
        "shard {shard} of the cluster {cluster} has several replicas, but the tables are not replicated: make them"
        " Replicated, or leave one replica in remote_servers"
    )
    WRITES_ALL_REPLICAS = (
        "shard {shard} of the cluster {cluster} lacks internal_replication: set it to true in remote_servers, or each"
        " insert is sent to all replicas, which replicate it too"
    )
    SAME_MACROS = (
        "{host} and {other} have the same macros shard and replica, or lack one of them: give each server its own in"
        " ClickHouse's configuration"
    )
    NO_ROUTE = f"there is no table {{table}} at {{host}}: {_MIGRATE}"
    OTHER_ROUTE = (
        "{table} at {host} is {engine}: a repeated insert could go to another shard than the first try; "
        f"{_MIGRATE}"
    )
    OTHER_TABLE = (
        "{table} at {host} has another {what} than at the first server of CONSUMER_CLICKHOUSE_URL: alter one of them"
    )
    UNREACHED_SHARD = (
        "CONSUMER_CLICKHOUSE_URL names no server of shard {shard} of {cluster}: add one, because rows that a killed"
        " server loses must be put back there"
    )
    NO_GRANT = (
        "the account {user} at {host} lacks a right that replicas or a cluster need (deploy/clickhouse/roles.sql):"
        " let an administrator run `GRANT {grant} TO {user}`"
    )
    # of groups
    NO_ASSIGNOR_IN_COMMON = (
        "the group {group} has members whose CONSUMER_GROUP_PROTOCOL or CONSUMER_ASSIGNOR is another one than here:"
        " stop all of its workers, then start them with the same"
    )
    # of topics
    KEPT_BACK = (
        "an open transaction holds back {count} offsets from {offset} on{since}: if it stays, `kafka-transactions.sh"
        " --bootstrap-server {servers} describe-producers --topic {topic} --partition {partition}` names its producer,"
        " and `kafka-transactions.sh --bootstrap-server {servers} abort --topic {topic} --partition {partition}"
        " --start-offset {offset}` ends it"
    )
    NO_TOPIC = (
        "there is no topic {topic}: run `kafka-topics.sh --bootstrap-server {servers} --create --topic {topic}"
        " --partitions 4`"
    )
    SMALL_METADATA = (
        "the brokers' offset.metadata.max.bytes is {allowed}, but {needed} are needed: set it to {advised} in their"
        " server.properties, and restart them"
    )
    CUT_LETTERS = (
        "{dead} accepts {kept} bytes, {events} {taken}: dead letters of the largest records are cut; run"
        " `kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {dead}"
        " --add-config max.message.bytes={needed}`"
    )
    LARGE_RECORDS = (
        "{events} accepts {taken} bytes, more than CONSUMER_BATCH_BYTES_MAX ({needed}): one record may exceed"
        " the memory bound; run `kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics"
        " --entity-name {events} --add-config max.message.bytes={needed}`"
    )
