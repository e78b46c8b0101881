-- One row per event record on the topic. Analysts read events_unique, below.
--
-- The sorting key ends in the event id and holds nothing that differs between two deliveries of one event, so that a
-- client's retry is replaced by merges. UUIDv7ToDateTime() gives the collector's own ids the order of time.
-- The deduplication window remembers the tokens of that many blocks per table partition: a worker that repeats an
-- insert after a crash or a lost answer adds no rows.
CREATE TABLE IF NOT EXISTS events
(
    event_id             UUID                          COMMENT 'the event; one id is one event',
    ping_id              UUID                          COMMENT 'the id answered to the client; a PING names its page view',
    client_id            LowCardinality(String)        COMMENT 'the sending application',
    anon_id              String                        COMMENT 'the visitor, in the client''s own form',
    user_id              String                        COMMENT 'the signed-in user',
    event_type           LowCardinality(String)        COMMENT 'PING, VIEW, CLICK, ... in upper case',
    event_location       LowCardinality(String)        COMMENT 'where in the product',
    click_action         LowCardinality(String)        COMMENT 'what the click was for',
    content_id           String                        COMMENT 'the content shown or clicked',
    url                  String                        COMMENT 'the page''s address',
    page_type            LowCardinality(String)        COMMENT 'the kind of page',
    device_type          LowCardinality(String)        COMMENT 'the kind of device',
    user_agent           String                        COMMENT 'from the event, else the request''s header',
    os_name              LowCardinality(String)        COMMENT 'operating system',
    os_version           LowCardinality(String)        COMMENT 'its version',
    mobile_model         LowCardinality(String)        COMMENT 'the phone''s model',
    browser              LowCardinality(String)        COMMENT 'the browser',
    user_type            LowCardinality(String)        COMMENT 'the kind of user',
    user_source_data     String                        COMMENT 'where the user came from',
    access_type          LowCardinality(String)        COMMENT 'how the content may be read',
    paywall_id           String                        COMMENT 'the paywall shown',
    paywall_type         LowCardinality(String)        COMMENT 'the kind of paywall',
    paywall_display_type LowCardinality(String)        COMMENT 'how the paywall is shown',
    popup_id             String                        COMMENT 'the pop-up shown',
    active               Int8                          COMMENT '1 in focus, 0 not, -1 not given',
    received_at          DateTime64(3, 'UTC')          COMMENT 'when the collector received it' CODEC(Delta, ZSTD(1)),
    occurred_at          DateTime64(3, 'UTC')          COMMENT 'the client''s time when believable, else received_at' CODEC(Delta, ZSTD(1)),
    ip                   String                        COMMENT 'the client''s address, as the privacy setting allows',
    environment          LowCardinality(String)        COMMENT 'sandbox or production',
    trace_id             String                        COMMENT 'W3C trace id of the request',
    headers              Map(LowCardinality(String), String) COMMENT 'the request''s messageHeaders',
    properties           JSON                          COMMENT 'every member without a column; a dot inside a name is written %2E',
    properties_text      String                        COMMENT 'the same members, exactly as kept on the wire' CODEC(ZSTD(3)),
    _topic               LowCardinality(String)        COMMENT 'Kafka topic',
    _topic_id            LowCardinality(String)        COMMENT 'incarnation of the topic: another one after it was recreated',
    _partition           UInt32                        COMMENT 'Kafka partition',
    _offset              UInt64                        COMMENT 'Kafka offset' CODEC(Delta, ZSTD(1)),
    _timestamp           DateTime64(3, 'UTC')          COMMENT 'Kafka timestamp' CODEC(Delta, ZSTD(1)),
    _inserted_at         DateTime64(3, 'UTC')          COMMENT 'when the worker sent the batch' CODEC(Delta, ZSTD(1)),
    INDEX received_at_range received_at TYPE minmax GRANULARITY 1,
    INDEX occurred_at_range occurred_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (event_type, client_id, UUIDv7ToDateTime(event_id), event_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'one row per event record; read events_unique to see each event once';

-- Each event once, independent of retries and pending merges.
CREATE VIEW IF NOT EXISTS events_unique AS SELECT * FROM events FINAL;
