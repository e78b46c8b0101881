"""Where an event is in ClickHouse, by an id or by its place in the log: rows, dead letters, counted offsets."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from consumer.clickhouse.client import Connection
from consumer.clickhouse.offsets import OWN_LETTER
from consumer.delivery.ports import Partition

SHOWN_MAX: Final = 20
PAGE: Final = 100
"""So many dead letters are asked for at once."""
_BOUNDS: Final = {"max_execution_time": 30, "timeout_overflow_mode": "throw"}
_COLUMNS: Final = """
    toString(event_id) AS event, event_type, client_id, trace_id,
    toUnixTimestamp64Milli(received_at) AS received_ms, toUnixTimestamp64Milli(_inserted_at) AS inserted_ms,
    _topic AS topic, _topic_id AS topic_id, _partition AS partition, _offset AS offset, _reading AS reading
"""
_BY_ID: Final = "event_id = {id:UUID}", "ping_id = {id:UUID}"
_BY_TRACE: Final = ("trace_id = {trace:String}",)
_LETTERS: Final = """
SELECT letter_id, toString(reason) AS why, error, service, origin_topic AS topic, origin_topic_id AS topic_id,
    origin_partition AS partition, origin_offset AS offset, toUnixTimestamp64Milli(origin_at) AS refused_ms,
    toUnixTimestamp64Milli(_inserted_at) AS inserted_ms, base64Encode(value) AS content, headers
FROM {of_dead_letters:Identifier}
"""
_SHOWN: Final = """
ORDER BY _inserted_at DESC, letter_id, origin_topic_id
LIMIT 1 BY letter_id, origin_topic_id LIMIT {limit:UInt32} OFFSET {skipped:UInt32}
"""
_IS_OF_REQUEST: Final = f"{_LETTERS} WHERE lower(headers['headrace.request_id']) = lower({{text:String}})"
_OF_REQUEST: Final = f"{_IS_OF_REQUEST} {_SHOWN}"
_NAMING: Final = f"{_IS_OF_REQUEST} OR multiSearchAnyCaseInsensitive(value, {{needles:Array(String)}}) {_SHOWN}"
_AT: Final = f"""
{_LETTERS} WHERE origin_topic = {{topic:String}} AND origin_topic_id = {{topic_id:String}}
    AND origin_partition = {{partition:Int32}} AND origin_offset = {{offset:Int64}} AND {OWN_LETTER}
{_SHOWN}
"""
_IN: Final = f"""
{_LETTERS} WHERE _topic = {{topic:String}} AND _topic_id = {{topic_id:String}}
    AND _partition = {{partition:UInt32}} AND _offset = {{offset:UInt64}}
{_SHOWN}
"""
_COUNTED: Final = """
SELECT bitmapContains(groupBitmapMergeState(present), {offset:UInt64}) AS is_counted FROM {of_offsets:Identifier}
WHERE topic = {topic:String} AND topic_id = {topic_id:String} AND partition = {partition:UInt32}
    AND million = intDiv({offset:UInt64}, 1000000)
"""

_FRESHNESS: Final = """
SELECT
    (SELECT count() FROM {of_events:Identifier} WHERE _inserted_at > now64(3) - INTERVAL 60 SECOND) AS rows_per_minute,
    (SELECT round(quantile(0.5)(dateDiff('millisecond', received_at, _inserted_at)) / 1000, 2)
        FROM {of_events:Identifier} WHERE _inserted_at > now64(3) - INTERVAL 60 SECOND) AS delay_s,
    (SELECT dateDiff('second', any(complete_until), now64(3)) FROM complete_until WHERE topic = {topic:String})
        AS complete_s
"""
_AUDITED: Final = """
SELECT count() AS partitions, sum(missing) AS missing, sum(duplicates) AS duplicates,
    if(count() = 0, 0, dateDiff('second', min(at), now64(3))) AS age_s
FROM (
    SELECT max(audited_at) AS at, argMax(a.missing, a.audited_at) AS missing,
        argMax(a.duplicates, a.audited_at) AS duplicates
    FROM {of_audits:Identifier} AS a WHERE audited_at > now() - INTERVAL 7 DAY
        AND (topic, topic_id) GLOBAL IN (
            SELECT topic, argMax(topic_id, audited_at) FROM {of_audits:Identifier} GROUP BY topic
        )
    GROUP BY topic, partition
)
"""

Rows = list[dict[str, Any]]


def rows_of(connection: Connection, event_id: str, trace_id: str) -> Rows:
    """Return the rows with this eventId, pingId or trace id, one more than SHOWN_MAX at most; "" asks for none.

    Each is asked for by itself, because there is an index for each.

    Raises:
        Transient, Rejected, Fatal: as errors.py says.
    """
    conditions = (*(_BY_ID if event_id else ()), *(_BY_TRACE if trace_id else ()))
    found: dict[tuple[object, ...], dict[str, Any]] = {}
    for condition in conditions:
        query = f"SELECT {_COLUMNS} FROM {{of_events:Identifier}} WHERE {condition} LIMIT {{limit:UInt32}}"  # noqa: S608  (our own text)
        asked = {"id": event_id or None, "trace": trace_id, "limit": SHOWN_MAX + 1}
        for row in _asked(connection, query, {name: value for name, value in asked.items() if value}):
            found[row["topic_id"], row["partition"], row["offset"], row["reading"]] = row
    return list(found.values())[: SHOWN_MAX + 1]


def letters_naming(connection: Connection, text: str, needles: Sequence[str], skipped: int) -> Rows:
    """Return the dead letters of a request's id, and those whose bytes hold one of the needles, if there are any.

    The newest come first, PAGE of them at most after so many that are skipped.

    It reads the values of all dead letters. What holds a needle need not name it as its own id.

    Raises:
        Transient, Rejected, Fatal: as errors.py says.
    """
    query = _NAMING if needles else _OF_REQUEST
    asked = {"text": text, "limit": PAGE, "skipped": skipped} | ({"needles": list(needles)} if needles else {})
    return _asked(connection, query, asked)


def letters_at(connection: Connection, partition: Partition, topic_id: str, offset: int) -> Rows:
    """Return the dead letters of the record at an offset that a worker of ours has sent.

    Raises:
        Transient, Rejected, Fatal: as errors.py says.
    """
    return _letters_by_place(connection, _AT, _place(partition, topic_id, offset))


def letters_in(connection: Connection, partition: Partition, topic_id: str, offset: int) -> Rows:
    """Return the dead letter that stood at an offset of the dead-letter topic.

    Raises:
        Transient, Rejected, Fatal: as errors.py says.
    """
    return _letters_by_place(connection, _IN, _place(partition, topic_id, offset))


def _letters_by_place(connection: Connection, query: str, place: Mapping[str, object]) -> Rows:
    return _asked(connection, query, {**place, "limit": SHOWN_MAX, "skipped": 0})


def _asked(connection: Connection, query: str, parameters: Mapping[str, object]) -> Rows:
    """Ask the tables of all shards."""
    names = connection.layout.names("events", "dead_letters", "offsets", "audits")
    return connection.query(query, {**names, **parameters}, settings=_BOUNDS)


def is_counted(connection: Connection, partition: Partition, topic_id: str, offset: int) -> bool:
    """Tell whether the record at an offset was inserted as a row once, which may be gone since.

    Raises:
        Transient, Rejected, Fatal: as errors.py says.
    """
    rows = _asked(connection, _COUNTED, _place(partition, topic_id, offset))
    return bool(rows and rows[0]["is_counted"])


def freshness(connection: Connection, topic: str) -> Mapping[str, Any]:
    """Return how fresh the table `events` is: rows of the last minute, and how old what is complete is, in seconds.

    Raises:
        Transient, Rejected, Fatal: as errors.py says.
    """
    (row,) = _asked(connection, _FRESHNESS, {"topic": topic})
    return row


def _place(partition: Partition, topic_id: str, offset: int) -> dict[str, object]:
    return {"topic": partition.topic, "topic_id": topic_id, "partition": partition.number, "offset": offset}


def server_version(connection: Connection) -> str:
    """Return ClickHouse's version.

    Raises:
        Transient, Rejected, Fatal: as errors.py says.
    """
    return str(connection.query("SELECT version() AS version")[0]["version"])


def audited(connection: Connection) -> Mapping[str, Any]:
    """Return what the newest audits of all partitions have found: partitions, missing, duplicates, age_s of the oldest.

    Raises:
        Transient, Rejected, Fatal: as errors.py says.
    """
    (row,) = _asked(connection, _AUDITED, {})
    return row
