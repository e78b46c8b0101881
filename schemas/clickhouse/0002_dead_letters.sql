-- Refused events and records with their bytes unchanged: from the ingress (bad events of lenient requests) or a worker.
-- A recreated topic begins at offset 0 again: only its ID tells its refused records from those of the earlier topic.
CREATE TABLE IF NOT EXISTS dead_letters
(
    letter_id        String                  COMMENT 'names the refused record; the same for every copy of its dead letter',
    origin_topic     LowCardinality(String)  COMMENT 'where the record stood; empty: refused by the ingress',
    origin_topic_id  LowCardinality(String)  COMMENT 'incarnation of the topic where the record stood',
    origin_partition Int32                   COMMENT '-1: refused by the ingress',
    origin_offset    Int64                   COMMENT '-1: refused by the ingress',
    origin_leader_epoch Int32             DEFAULT -1 COMMENT 'epoch of the leader that wrote the refused record; -1: not known',
    origin_reading   UInt32                  COMMENT 'reading in which it was refused',
    origin_at        DateTime64(3, 'UTC')    COMMENT 'Kafka timestamp of the refused record',
    schema_id        Int64                   COMMENT 'the writer''s schema id; -1: none',
    reason           LowCardinality(String)  COMMENT 'slug of the fault',
    error            String                  COMMENT 'one sentence',
    service          LowCardinality(String)  COMMENT 'who refused it: name and version',
    key              String                  COMMENT 'the record''s key',
    headers          Map(LowCardinality(String), String) COMMENT 'the record''s own headers',
    value            String                  COMMENT 'the refused bytes' CODEC(ZSTD(3)),
    _topic           LowCardinality(String)  COMMENT 'Kafka topic of the dead letter',
    _topic_id        LowCardinality(String)  COMMENT 'its incarnation',
    _partition       UInt32                  COMMENT 'its partition',
    _offset          UInt64                  COMMENT 'its offset',
    _leader_epoch    Int32                   DEFAULT -1 COMMENT 'epoch of the leader that wrote the dead letter; -1: not known',
    _reading         UInt32                  COMMENT 'one more each time that an operator has offsets read again',
    _timestamp       DateTime64(3, 'UTC')    COMMENT 'its Kafka timestamp',
    _inserted_at     DateTime64(3, 'UTC')    COMMENT 'when the worker sent the batch'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(origin_at)
ORDER BY (origin_topic, origin_partition, origin_offset, letter_id, origin_topic_id)
SETTINGS non_replicated_deduplication_window = 100000
COMMENT 'refused records with their raw bytes; read dead_letters_unique to see each once';

-- A worker that crashed after sending a dead letter sends it again under the same letter_id.
CREATE OR REPLACE VIEW dead_letters_unique AS SELECT * FROM dead_letters FINAL;
