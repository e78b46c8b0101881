"""The audit's queries over the tables `offsets`, `dead_letters` and `events`; each is for one span and reading.

`there` are the counted offsets of a reading, `dead` those of dead letters of it or of a later one; together they are
`known`. Of dead letters only those count that look like a worker's own.
"""

from typing import Final

from consumer.clickhouse.offsets import OWN_LETTER

LEDGER: Final = f"""
SELECT million, sum(n) AS rows, groupBitmapMergeState(p) AS there, groupBitmapMergeState(d) AS dead,
    groupBitmapMergeState(o) AS own, bitmapCardinality(there) AS offsets, bitmapCardinality(own) AS letters,
    bitmapCardinality(bitmapAnd(there, own)) AS both, bitmapOr(there, dead) AS known,
    bitmapCardinality(bitmapSubsetInRange(known, {{low:UInt64}}, {{end:UInt64}})) AS covered
FROM (
    SELECT million, rows AS n, present AS p, bitmapBuild(emptyArrayUInt64()) AS d, d AS o FROM {{of_offsets:Identifier}}
    WHERE topic = {{topic:String}} AND topic_id = {{topic_id:String}} AND partition = {{partition:UInt32}}
        AND reading = {{reading:UInt32}} AND million >= {{million:UInt64}}
    UNION ALL
    SELECT intDiv(toUInt64(origin_offset), 1000000) AS million, 0, bitmapBuild(emptyArrayUInt64()),
        bitmapBuild([toUInt64(origin_offset)]),
        bitmapBuild(arrayFilter(x -> origin_reading = {{reading:UInt32}}, [toUInt64(origin_offset)]))
    FROM {{of_dead_letters:Identifier}}
    WHERE origin_topic = {{topic:String}} AND origin_topic_id = {{topic_id:String}}
        AND origin_partition = {{partition:Int32}} AND origin_offset >= 0 AND million >= {{million:UInt64}}
        AND origin_reading >= {{reading:UInt32}} AND origin_offset < {{end:UInt64}} AND {OWN_LETTER}
    UNION ALL
    SELECT million, 0, bitmapBuild(emptyArrayUInt64()), bitmapSubsetInRange(offsets, 0, {{end:UInt64}}),
        bitmapSubsetInRange(offsets, 0, if(reading = {{reading:UInt32}}, {{end:UInt64}}, 0))
    FROM {{of_dead_letter_origins:Identifier}}
    WHERE topic = {{topic:String}} AND topic_id = {{topic_id:String}} AND partition = {{partition:UInt32}}
        AND million >= {{million:UInt64}} AND reading >= {{reading:UInt32}}
) GROUP BY million ORDER BY million
"""  # noqa: S608  (our own text)
COUNTS: Final = f"SELECT million, rows, offsets, letters, both, covered FROM ({LEDGER})"  # noqa: S608  (as above)
READINGS: Final = """
SELECT reading, min(first) AS first, max(last) AS last FROM {of_offsets:Identifier}
WHERE topic = {topic:String} AND topic_id = {topic_id:String} AND partition = {partition:UInt32}
GROUP BY reading ORDER BY reading DESC
"""
PLACE: Final = """
_topic = {topic:String} AND _topic_id = {topic_id:String} AND _partition = {partition:UInt32}
AND _reading >= {reading:UInt32}
"""
SHOWN: Final = f"""
SELECT million, bitmapCardinality(bitmapAndnot(groupBitmapMergeState(s), groupBitmapMergeState(k))) AS uncounted
FROM (
    SELECT intDiv(_offset, 1000000) AS million, groupBitmapState(_offset) AS s, bitmapBuild(emptyArrayUInt64()) AS k
    FROM {{table:Identifier}} WHERE {PLACE} AND _offset >= {{low:UInt64}} AND _offset < {{end:UInt64}} GROUP BY million
    UNION ALL
    SELECT million, bitmapBuild(emptyArrayUInt64()), known FROM ({LEDGER})
) GROUP BY million HAVING uncounted > 0
"""  # noqa: S608  (as above)
NAMED: Final = f"""
WITH bitmapAndnot(
    bitmapBuild(range({{from:UInt64}}, {{to:UInt64}})),
    (SELECT groupBitmapMergeState(known) FROM ({LEDGER}) WHERE million = {{this:UInt64}})
) AS lacking,
(
    SELECT groupBitmapState(_offset) FROM {{table:Identifier}}
    WHERE {PLACE} AND _offset >= {{from:UInt64}} AND _offset < {{to:UInt64}} AND {{looks:UInt8}}
) AS shown
SELECT arrayJoin(bitmapToArray(bitmapSubsetLimit(
    if({{is_shown:UInt8}}, bitmapAnd(lacking, shown), bitmapAndnot(lacking, shown)), {{from:UInt64}}, {{limit:UInt64}}
))) AS offset ORDER BY offset
"""  # noqa: S608  (as above)
RECOUNT: Final = f"""
INSERT INTO {{of_offsets:Identifier}}
    (topic, topic_id, partition, reading, million, rows, present, first, last, newest_at, epochs)
WITH (SELECT groupBitmapMergeState(known) FROM ({LEDGER})) AS counted
SELECT {{topic:String}}, {{topic_id:String}}, {{partition:UInt32}}, _reading, intDiv(_offset, 1000000) AS million,
    count(), groupBitmapState(_offset), min(_offset), max(_offset), max(_timestamp), map(_leader_epoch, min(_offset))
FROM {{table:Identifier}}
WHERE {PLACE} AND _offset >= {{low:UInt64}} AND _offset < {{end:UInt64}} AND NOT bitmapContains(counted, _offset)
GROUP BY _reading, million, _leader_epoch
"""  # noqa: S608  (as above)
DOUBLE: Final = """
SELECT _offset AS offset FROM {table:Identifier}
WHERE _topic = {topic:String} AND _topic_id = {topic_id:String} AND _partition = {partition:UInt32}
    AND _offset >= {from:UInt64} AND _offset < {to:UInt64}
    AND _reading = {reading:UInt32}
GROUP BY _offset HAVING count() > 1 ORDER BY offset LIMIT {limit:UInt32}
"""
EXPIRED_ROWS: Final = """
WITH (
    SELECT if(count() = 0, {end:UInt64}, min(_offset)) FROM {table:Identifier}
    WHERE _topic = {topic:String} AND _topic_id = {topic_id:String} AND _partition = {partition:UInt32}
        AND _reading = {reading:UInt32}
) AS left
SELECT bitmapCardinality(
    bitmapSubsetInRange(groupBitmapMergeState(present), {low:UInt64}, least(left, {end:UInt64}))
) AS expired
FROM {of_offsets:Identifier}
WHERE topic = {topic:String} AND topic_id = {topic_id:String} AND partition = {partition:UInt32}
    AND reading = {reading:UInt32}
"""
EXPIRED_LETTERS: Final = """
WITH (
    SELECT groupBitmapState(toUInt64(origin_offset)) FROM {of_dead_letters:Identifier}
    WHERE origin_topic = {topic:String} AND origin_topic_id = {topic_id:String}
        AND origin_partition = {partition:Int32} AND origin_offset >= 0 AND origin_reading = {reading:UInt32}
) AS left
SELECT bitmapCardinality(
    bitmapSubsetInRange(bitmapAndnot(groupBitmapMergeState(offsets), left), {low:UInt64}, {end:UInt64})
) AS expired
FROM {of_dead_letter_origins:Identifier}
WHERE topic = {topic:String} AND topic_id = {topic_id:String} AND partition = {partition:UInt32}
    AND reading = {reading:UInt32}
"""
ADOPTED: Final = """
SELECT topic, topic_id, partition, argMax(end, adopted_at) AS end FROM {of_adoptions:Identifier}
WHERE topic IN {topics:Array(String)} GROUP BY topic, topic_id, partition
"""
INCARNATIONS: Final = """
SELECT topic, topic_id, partition, min(first) AS low, max(last) + 1 AS end FROM {of_offsets:Identifier}
WHERE topic IN {topics:Array(String)} GROUP BY topic, topic_id, partition ORDER BY topic, partition, topic_id
"""
