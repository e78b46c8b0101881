-- Sorts the events by their id, and parses nothing that a client sent on its way in.
--
-- One id is one event: the sorting key is only the id, as a number, so that UUIDv7 are sorted by time and
-- `WHERE event_id = ...` reads one granule. Of several records under one id, merges and FINAL keep the one with the
-- largest _precedence: the earliest received_at, and among equals the lowest offset.
-- properties_text is what was sent. properties is parsed from it when a query asks for it; an unreadable object gives {},
-- never an error. What it may change: docs/EVENTS.md. What it costs: docs/decisions/tables.md.
--
-- A sorting key can't be altered, so the rows move to a new table. Older workers can't write to it (they name a column
-- that it computes), and present ones refuse the old table. So no worker writes while rows are copied; the view that
-- fills `offsets` is created afterwards, so copied rows are not counted again. An insert in progress at that moment ends
-- in events_before_8, which stays until an operator drops it, unless it is empty. Two programs at once may copy a row
-- twice: the copies are one event. A million rows take about 4 s; CONSUMER_INSERT_TIMEOUT_S must cover the copy.

-- if: SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'events' AND sorting_key LIKE 'event_type,%' AND engine IN ('ReplacingMergeTree', 'SharedReplacingMergeTree')
CREATE TABLE IF NOT EXISTS events_next
(
    event_id             UUID                          COMMENT 'the event; one id is one event' CODEC(ZSTD(1)),
    ping_id              UUID                          COMMENT 'the id answered to the client; a PING names its page view' CODEC(ZSTD(1)),
    client_id            LowCardinality(String)        COMMENT 'the sending application',
    anon_id              String                        COMMENT 'the visitor, in the client''s own form' CODEC(ZSTD(1)),
    user_id              String                        COMMENT 'the signed-in user' CODEC(ZSTD(1)),
    event_type           LowCardinality(String)        COMMENT 'PING, VIEW, CLICK, ... in upper case',
    event_location       LowCardinality(String)        COMMENT 'where in the product',
    click_action         LowCardinality(String)        COMMENT 'what the click was for',
    content_id           String                        COMMENT 'the content shown or clicked' CODEC(ZSTD(1)),
    url                  String                        COMMENT 'the page''s address' CODEC(ZSTD(1)),
    page_type            LowCardinality(String)        COMMENT 'the kind of page',
    device_type          LowCardinality(String)        COMMENT 'the kind of device',
    user_agent           String                        COMMENT 'from the event, else the request''s header' CODEC(ZSTD(1)),
    os_name              LowCardinality(String)        COMMENT 'operating system',
    os_version           LowCardinality(String)        COMMENT 'its version',
    mobile_model         LowCardinality(String)        COMMENT 'the phone''s model',
    browser              LowCardinality(String)        COMMENT 'the browser',
    user_type            LowCardinality(String)        COMMENT 'the kind of user',
    user_source_data     String                        COMMENT 'where the user came from' CODEC(ZSTD(1)),
    access_type          LowCardinality(String)        COMMENT 'how the content may be read',
    paywall_id           String                        COMMENT 'the paywall shown' CODEC(ZSTD(1)),
    paywall_type         LowCardinality(String)        COMMENT 'the kind of paywall',
    paywall_display_type LowCardinality(String)        COMMENT 'how the paywall is shown',
    popup_id             String                        COMMENT 'the pop-up shown' CODEC(ZSTD(1)),
    active               Int8                          COMMENT '1 in focus, 0 not, -1 not given',
    received_at          DateTime64(3, 'UTC')          COMMENT 'when the collector received it' CODEC(Delta, ZSTD(1)),
    occurred_at          DateTime64(3, 'UTC')          COMMENT 'the client''s time when believable, else received_at' CODEC(Delta, ZSTD(1)),
    ip                   String                        COMMENT 'the client''s address, as the privacy setting allows' CODEC(ZSTD(1)),
    environment          LowCardinality(String)        COMMENT 'sandbox or production',
    trace_id             String                        COMMENT 'W3C trace id of the request' CODEC(ZSTD(1)),
    headers              Map(LowCardinality(String), String) COMMENT 'the request''s messageHeaders' CODEC(ZSTD(1)),
    properties_text      String                        COMMENT 'every member without a column, exactly as kept on the wire: a JSON object' CODEC(ZSTD(1)),
    properties           JSON ALIAS accurateCastOrDefault(properties_text, 'JSON') COMMENT 'properties_text as JSON, read when it is asked for; in events_unique a dot inside a name is written %2E',
    _topic               LowCardinality(String)        COMMENT 'Kafka topic',
    _topic_id            LowCardinality(String)        COMMENT 'incarnation of the topic: another one after it was recreated',
    _partition           UInt32                        COMMENT 'Kafka partition',
    _offset              UInt64                        COMMENT 'Kafka offset' CODEC(Delta, ZSTD(1)),
    _timestamp           DateTime64(3, 'UTC')          COMMENT 'Kafka timestamp' CODEC(Delta, ZSTD(1)),
    _inserted_at         DateTime64(3, 'UTC')          COMMENT 'when the worker sent the batch' CODEC(Delta, ZSTD(1)),
    _precedence          UInt64 MATERIALIZED bitShiftLeft(toUInt64(17592186044415 - toUnixTimestamp64Milli(received_at)), 20) + (1048575 - _offset % 1048576) COMMENT 'of several records under one id the largest stays: 44 bits of received_at, 20 of _offset, both counted down' CODEC(Delta, ZSTD(1)),
    INDEX received_at_range received_at TYPE minmax GRANULARITY 1,
    INDEX occurred_at_range occurred_at TYPE minmax GRANULARITY 1,
    INDEX inserted_at_range _inserted_at TYPE minmax GRANULARITY 1,
    CONSTRAINT times_in_range CHECK
        received_at BETWEEN toDateTime64('1970-01-01', 3, 'UTC') AND toDateTime64('2299-12-31', 3, 'UTC')
        AND occurred_at BETWEEN toDateTime64('1970-01-01', 3, 'UTC') AND toDateTime64('2299-12-31', 3, 'UTC')
        AND _timestamp BETWEEN toDateTime64('1970-01-01', 3, 'UTC') AND toDateTime64('2299-12-31', 3, 'UTC')
)
ENGINE = ReplacingMergeTree(_precedence)
PARTITION BY toYYYYMM(received_at)
ORDER BY toUInt128(event_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'one row per event record; read events_unique to see each event once';

-- if: SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'events' AND sorting_key LIKE 'event_type,%' AND engine IN ('ReplacingMergeTree', 'SharedReplacingMergeTree')
RENAME TABLE events TO events_before_8, events_next TO events;

-- For a server that was killed between the two renames.
-- if: SELECT 1 FROM system.tables WHERE database = currentDatabase() HAVING countIf(name = 'events') = 0 AND countIf(name = 'events_next') = 1
RENAME TABLE events_next TO events;

DROP TABLE IF EXISTS events_next;

-- The view belongs to the old table until the server restarts, and to the new one after that.
DROP VIEW IF EXISTS events_offsets;

-- if: SELECT 1 FROM system.tables WHERE database = currentDatabase() HAVING countIf(name = 'events_before_8') = 1 AND countIf(name = 'events_to_offsets') = 0
INSERT INTO events SELECT * EXCEPT (properties) FROM events_before_8
WHERE (_topic, _topic_id, _partition, _offset) NOT IN (SELECT _topic, _topic_id, _partition, _offset FROM events);

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
    max(_timestamp) AS newest_at
FROM events
GROUP BY topic, topic_id, partition, million;

-- if: SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'events_before_8' AND total_rows = 0
DROP TABLE IF EXISTS events_before_8;

-- Each event once, independent of retries, pending merges, and the reader's own settings of FINAL.
-- The other settings are for properties; they do not apply with readonly = 1, see docs/EVENTS.md.
CREATE OR REPLACE VIEW events_unique AS SELECT *, properties FROM events FINAL
SETTINGS
    do_not_merge_across_partitions_select_final = 0,
    defer_partition_pruning_after_final = 1,
    use_skip_indexes_if_final_exact_mode = 1,
    optimize_move_to_prewhere_if_final = 0,
    type_json_skip_duplicated_paths = 1,
    json_type_escape_dots_in_keys = 1,
    input_format_json_read_bools_as_numbers = 0,
    input_format_json_read_bools_as_strings = 0,
    input_format_try_infer_dates = 0,
    input_format_try_infer_datetimes = 0;
