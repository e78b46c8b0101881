"""What preflight, migrate, lag and the pages say of tables, topics and groups that are not as they must be: what helps.

What stands in backquotes is complete: it can be run as it stands, and is enough. Each has a test that brings its cause
about, runs that, and finds all well (tests/integration/test_advice_*.py).
"""

from enum import StrEnum
from typing import Final

_MIGRATE: Final = "run `python -m consumer migrate`"


class Sentence(StrEnum):
    """Sentences with places to be filled in; `{table}` and `{view}` are names as SQL takes them."""

    NO_TABLE = f"there is no table {{table}}: {_MIGRATE}"
    DETACHED = "{table} is detached: run `ATTACH TABLE {table}`"
    NO_COLUMNS = f"{{table}} lacks the columns {{columns}}: {_MIGRATE}"
    KEEPS_NOTHING = "{table} does not keep what is inserted into these columns: run {cures}"
    NO_LEDGER = f"there is no table {{table}}, which counts what comes: {_MIGRATE}"
    NO_LEDGER_VIEW = f"there is no view {{table}}, which counts what comes: {_MIGRATE}"
    OTHER_LEDGER_VIEW = (
        "the view {view} does not bring what comes into {table} to {ledger}: run `DROP VIEW {view}`,"
        " then `python -m consumer migrate`"
    )
    NO_TARGET = "the view {view} writes to {table}, which is not there: make it again, or run `DROP VIEW {view}`"
    NO_DEDUPLICATION = (
        "the view {view} writes to {table}, whose engine {engine} knows no deduplication: let it write to a MergeTree,"
        " or run `DROP VIEW {view}`"
    )
    SMALL_WINDOW = (
        "{table} remembers {window} blocks, and {needed} are needed here:"
        " run `ALTER TABLE {table} MODIFY SETTING {setting} = {needed}`"
    )
    NO_TOKENS = (
        "this ClickHouse does not count a repeated insert_deduplication_token once: use a version that headrace was"
        " tested with, and let no profile set deduplicate_insert or insert_deduplicate"
    )
    TAKES_NO_ROW = "{table} takes no row: {why}"
    # of migrate alone
    RENAMED = "{table} lacks the column {column}: was it renamed? run `{rename}`, or `{add}`"
    COMPUTES_NOTHING = "{table} does not compute the column {column}: run `{modify}`"
    REPLICATED = "{table} is gone, and its neighbours are replicated: make it as another replica has it"
    # of groups
    NO_ASSIGNOR_IN_COMMON = (
        "the group {group} has members whose CONSUMER_GROUP_PROTOCOL or CONSUMER_ASSIGNOR is another one than here:"
        " stop all of its workers, then start them with the same"
    )
    # of topics
    KEPT_BACK = (
        "an open transaction keeps back {count} offsets from {offset} on{since}: if it stays, `kafka-transactions.sh"
        " --bootstrap-server {servers} describe-producers --topic {topic} --partition {partition}` names its producer,"
        " and `kafka-transactions.sh --bootstrap-server {servers} abort --topic {topic} --partition {partition}"
        " --start-offset {offset}` ends it"
    )
    NO_TOPIC = (
        "there is no topic {topic}: run `kafka-topics.sh --bootstrap-server {servers} --create --topic {topic}"
        " --partitions 4`"
    )
    SMALL_METADATA = (
        "the brokers' offset.metadata.max.bytes is {allowed}, and {needed} are needed: set it to {advised} in their"
        " server.properties, and start them again"
    )
    CUT_LETTERS = (
        "{dead} takes {kept} bytes, {events} {taken}: dead letters of its largest records are cut; run"
        " `kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {dead}"
        " --add-config max.message.bytes={needed}`"
    )
    LARGE_RECORDS = (
        "{events} takes {taken} bytes, more than a batch of CONSUMER_BATCH_BYTES_MAX ({needed}): one record may take"
        " memory beyond the bound; run `kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics"
        " --entity-name {events} --add-config max.message.bytes={needed}`"
    )
