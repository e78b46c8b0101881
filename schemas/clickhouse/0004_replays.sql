-- The dead letters that were put back onto the topic, by whom, and their new partition and offset. No event's id is here,
-- so nothing is left of one that is erased.
CREATE TABLE IF NOT EXISTS replays
(
    letter_id     String                 COMMENT 'the dead letter',
    topic         LowCardinality(String) COMMENT 'where it was put',
    partition     UInt32                 COMMENT 'its partition there',
    offset        UInt64                 COMMENT 'its offset there',
    changed       Array(String)          COMMENT 'the fields that were repaired',
    replayed_by   String                 COMMENT 'user@host',
    service       LowCardinality(String) COMMENT 'name and version of the program',
    replayed_at   DateTime64(3, 'UTC')   COMMENT 'when'
)
ENGINE = ReplacingMergeTree
ORDER BY (letter_id, topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'dead letters that python -m consumer replay put back';
