-- The offsets that were inserted, for the audit: a few rows for each million records.
--
-- The table events can't tell: merges replace one of two records of the same event, though both offsets were inserted.
-- Here a row counts inserted rows, and a bitmap says which offsets: more rows than offsets are duplicates, holes in the
-- bitmap are missing. A view's target needs its own deduplication window, or a repeated insert would count twice.
-- An offset alone does not identify a record: a log that was cut and has grown again has others under the same offsets, and
-- an operator may have offsets read again. So each row has its reading and the records' leader epochs.
CREATE TABLE IF NOT EXISTS offsets
(
    topic     LowCardinality(String)                    COMMENT 'Kafka topic',
    topic_id  LowCardinality(String)                    COMMENT 'its incarnation',
    partition UInt32                                    COMMENT 'Kafka partition',
    million   UInt64                                    COMMENT 'offsets from million * 1000000 on',
    reading   UInt32                                    COMMENT 'which reading: each inserts an offset once',
    rows      SimpleAggregateFunction(sum, UInt64)      COMMENT 'rows inserted',
    present   AggregateFunction(groupBitmap, UInt64)    COMMENT 'which offsets',
    first     SimpleAggregateFunction(min, UInt64)      COMMENT 'lowest offset',
    last      SimpleAggregateFunction(max, UInt64)      COMMENT 'highest offset',
    newest_at SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'latest Kafka timestamp',
    epochs    SimpleAggregateFunction(minMap, Map(Int32, UInt64)) COMMENT 'first offset of each leader epoch'
)
ENGINE = AggregatingMergeTree
ORDER BY (topic, topic_id, partition, million, reading)
SETTINGS non_replicated_deduplication_window = 100000
COMMENT 'which offsets of each partition are in the tables; python -m consumer audit reads it';

CREATE MATERIALIZED VIEW IF NOT EXISTS events_to_offsets TO offsets AS
SELECT
    _topic AS topic,
    _topic_id AS topic_id,
    _partition AS partition,
    intDiv(_offset, 1000000) AS million,
    count() AS rows,
    groupBitmapState(_offset) AS present,
    min(_offset) AS first,
    max(_offset) AS last,
    max(_timestamp) AS newest_at,
    _reading AS reading,
    map(_leader_epoch, min(_offset)) AS epochs
FROM events
GROUP BY topic, topic_id, partition, million, reading, _leader_epoch;

CREATE MATERIALIZED VIEW IF NOT EXISTS dead_letters_offsets TO offsets AS
SELECT
    _topic AS topic,
    _topic_id AS topic_id,
    _partition AS partition,
    intDiv(_offset, 1000000) AS million,
    count() AS rows,
    groupBitmapState(_offset) AS present,
    min(_offset) AS first,
    max(_offset) AS last,
    max(_timestamp) AS newest_at,
    _reading AS reading,
    map(_leader_epoch, min(_offset)) AS epochs
FROM dead_letters
GROUP BY topic, topic_id, partition, million, reading, _leader_epoch;
