-- Whose data was erased, and which rows that were: `python -m consumer erase` writes both, and reads them to erase again
-- what comes back from Kafka, a backup or an archive. No row here says who it was: an id is kept as a hash under a key that
-- is not in the database.
CREATE TABLE IF NOT EXISTS erasures
(
    kind      LowCardinality(String)  COMMENT 'user_id, anon_id or event_id; visitor: an anon_id, and only its events that name no user',
    digest    String                  COMMENT 'HMAC-SHA256 of the id, in hexadecimal',
    key_id    LowCardinality(String)  COMMENT 'which key: the first 16 digits of the HMAC of an empty text',
    until     DateTime64(3, 'UTC')    COMMENT 'what was received until then is erased',
    erased_by String                  COMMENT 'user@host',
    erased_at DateTime64(3, 'UTC')    COMMENT 'when the command ran'
)
ENGINE = ReplacingMergeTree(until)
ORDER BY (kind, digest, key_id)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'whose data python -m consumer erase has erased, as keyed hashes';

-- A worker that repeats an insert looks for its rows, and inserts again what a killed server lost. It takes a row that is
-- listed here for present. A record that is read again has another reading, so it is not listed.
CREATE TABLE IF NOT EXISTS erased_rows
(
    topic     LowCardinality(String)  COMMENT 'Kafka topic of the row',
    topic_id  LowCardinality(String)  COMMENT 'its incarnation',
    partition UInt32                  COMMENT 'Kafka partition',
    reading   UInt32                  COMMENT 'the reading that inserted the row',
    offset    UInt64                  COMMENT 'Kafka offset' CODEC(Delta, ZSTD(1)),
    run       UUID                    COMMENT 'which run of the command' CODEC(ZSTD(1)),
    erased_at DateTime64(3, 'UTC')    COMMENT 'when the row was chosen; it is deleted right after that' CODEC(Delta, ZSTD(1)),
    quarter   DateTime('UTC')         COMMENT 'of a row of events: the quarter of an hour of received_at' CODEC(Delta, ZSTD(1)),
    client_id LowCardinality(String)  COMMENT 'of a row of events: the sending application',
    is_event  Bool                    COMMENT 'of several rows of one event, one counts as the event; false for dead letters'
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, topic_id, partition, reading, offset, run)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'rows that were erased from events, and dead letters whose content was';
