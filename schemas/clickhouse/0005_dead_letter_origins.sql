-- Which records became dead letters, for the audit: it must know them when their dead letters have expired or were erased.
-- The condition is that of a worker's own dead letter, in consumer/clickhouse/offsets.py.
CREATE TABLE IF NOT EXISTS dead_letter_origins
(
    topic     LowCardinality(String)                 COMMENT 'Kafka topic of the refused records',
    topic_id  LowCardinality(String)                 COMMENT 'its incarnation',
    partition UInt32                                 COMMENT 'their partition',
    million   UInt64                                 COMMENT 'offsets from million * 1000000 on',
    reading   UInt32                                 COMMENT 'reading in which they were refused',
    offsets   AggregateFunction(groupBitmap, UInt64) COMMENT 'which offsets'
)
ENGINE = AggregatingMergeTree
ORDER BY (topic, topic_id, partition, million, reading)
SETTINGS non_replicated_deduplication_window = 100000
COMMENT 'which records became dead letters, also after these have expired; python -m consumer audit reads it';

CREATE MATERIALIZED VIEW IF NOT EXISTS dead_letters_to_origins TO dead_letter_origins AS
SELECT
    origin_topic AS topic,
    origin_topic_id AS topic_id,
    toUInt32(origin_partition) AS partition,
    intDiv(toUInt64(origin_offset), 1000000) AS million,
    origin_reading AS reading,
    groupBitmapState(toUInt64(origin_offset)) AS offsets
FROM dead_letters
WHERE origin_partition >= 0 AND origin_offset >= 0
    AND startsWith(service, 'headrace-consumer/')
    AND letter_id = concat(
        origin_topic, '/', toString(origin_partition), '/', toString(origin_offset),
        if(origin_reading = 0, '', concat('@', toString(origin_leader_epoch)))
    )
GROUP BY topic, topic_id, partition, million, reading;
