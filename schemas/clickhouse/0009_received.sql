-- How many records of each client were inserted, for data_quality: when merges have removed the copies of an event, the
-- table events can't tell any more. It counts records, not events: a copy, and what is read again, counts again.
-- Quarters of an hour, because days of all time zones begin with one.
CREATE TABLE IF NOT EXISTS received
(
    quarter   DateTime('UTC')        COMMENT 'a quarter of an hour of received_at',
    client_id LowCardinality(String) COMMENT 'the sending application',
    records   UInt64                 COMMENT 'records inserted, copies too'
)
ENGINE = SummingMergeTree
ORDER BY (quarter, client_id)
SETTINGS non_replicated_deduplication_window = 100000
COMMENT 'records inserted by client and quarter of an hour; read data_quality';

CREATE MATERIALIZED VIEW IF NOT EXISTS events_to_received TO received AS
SELECT
    toStartOfFifteenMinutes(toDateTime(received_at, 'UTC')) AS quarter,
    client_id,
    count() AS records
FROM events
GROUP BY quarter, client_id;
