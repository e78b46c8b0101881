-- Copies of topics on another Kafka cluster, as `python -m consumer adopt` took them over: audits of a copy begin there. It is
-- kept for as long as the copy is, and written when the group has the commit.
CREATE TABLE IF NOT EXISTS adoptions
(
    topic      LowCardinality(String)  COMMENT 'Kafka topic, a copy',
    topic_id   LowCardinality(String)  COMMENT 'its incarnation',
    partition  UInt32                  COMMENT 'Kafka partition',
    end        UInt64                  COMMENT 'offsets below it were inserted as those of the original, under its topic_id',
    adopted_by String                  COMMENT 'user@host',
    adopted_at DateTime64(3, 'UTC')    COMMENT 'when'
)
ENGINE = ReplacingMergeTree(adopted_at)
ORDER BY (topic, topic_id, partition)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'where workers went on with copies of topics on another Kafka cluster';
