-- How far the tables are complete, by each worker every ten seconds; the view complete_until reads it.
-- A claim stays true when its worker is gone, so the largest counts. A week is kept, to see how far behind workers were.
CREATE TABLE IF NOT EXISTS heartbeats
(
    topic          LowCardinality(String) COMMENT 'Kafka topic',
    topic_id       LowCardinality(String) COMMENT 'its incarnation',
    partition      UInt32                 COMMENT 'a partition that the worker owns',
    partitions     UInt32                 COMMENT 'how many partitions the topic has',
    counted_at     DateTime64(3, 'UTC')   COMMENT 'it had no more at this moment; 1970: not known yet',
    position       UInt64                 COMMENT 'all offsets below it are in the table, or are dead letters',
    log_end        UInt64                 COMMENT 'where the log ended; less position: how far it is behind',
    complete_until DateTime64(3, 'UTC')   COMMENT 'what the collector sent to the partition before this moment is in the table; 1970: not known yet',
    halted         LowCardinality(String) COMMENT 'the code of what halts the partition; empty: nothing',
    beat_at        DateTime64(3, 'UTC')   COMMENT 'when this row came'
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(beat_at)
ORDER BY (topic, topic_id, partition, beat_at)
TTL toDateTime(beat_at) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1
COMMENT 'what workers know of their partitions, every ten seconds of a week; read complete_until';
