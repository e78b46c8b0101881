-- One row per event record on the topic. Analysts read events_unique, below.
--
-- One id is one event: the sorting key is only the id, as a number, so that UUIDv7 are sorted by time and
-- `WHERE event_id = ...` reads one granule. Of several records under one id, merges and FINAL keep the one with the
-- largest _precedence: the earliest received_at, and among equals the lowest offset.
-- properties_text is what was sent: nothing in it is refused. The members of it that have columns are parsed by functions
-- that never throw: a value that does not fit leaves its column empty. properties is all of it as JSON, parsed when a query
-- asks for it; an unreadable object gives {}, never an error. What these may change: docs/EVENTS.md. What they cost:
-- docs/decisions/tables.md.
-- The deduplication window remembers the tokens of so many blocks per table partition: as many as may come while two tries
-- of an insert are late, each at its longest time (eight times CONSUMER_INSERT_TIMEOUT_S). 100,000 are enough for 43
-- partitions at the default settings; see docs/OPERATIONS.md.
-- Only the first ? of a url begins its query: a later one is part of a value, such as an address to return to.
-- A DateTime64 accepts any 64-bit number from Avro, but no client can read back a year beyond its range: times_in_range.
CREATE TABLE IF NOT EXISTS events
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
    _known               Tuple(amount Nullable(String), scrollDepth Nullable(Float64), pageLength Nullable(Float64), idleTimeSpent Nullable(Float64), activeTimeSpent Nullable(Float64), totalTimeSpent Nullable(Float64), numOfCta Nullable(String), counter Nullable(String), premiumContent Nullable(String), unlockedStatus Nullable(String), adblocker Nullable(String), isCookieBlocked Nullable(String), currency String, orderId String, plan String, sessionId String, referrer String, title String, contentTitle String, authorName String, utmSource String, utm_source String, `utm.source` String, utmMedium String, utm_medium String, `utm.medium` String, utmCampaign String, utm_campaign String, `utm.campaign` String, utmTerm String, utm_term String, `utm.term` String, utmContent String, utm_content String, `utm.content` String, contentTags Array(String), contentSections Array(String), contentCategories Array(String)) ALIAS JSONExtract(properties_text, 'Tuple(amount Nullable(String), scrollDepth Nullable(Float64), pageLength Nullable(Float64), idleTimeSpent Nullable(Float64), activeTimeSpent Nullable(Float64), totalTimeSpent Nullable(Float64), numOfCta Nullable(String), counter Nullable(String), premiumContent Nullable(String), unlockedStatus Nullable(String), adblocker Nullable(String), isCookieBlocked Nullable(String), currency String, orderId String, plan String, sessionId String, referrer String, title String, contentTitle String, authorName String, utmSource String, utm_source String, `utm.source` String, utmMedium String, utm_medium String, `utm.medium` String, utmCampaign String, utm_campaign String, `utm.campaign` String, utmTerm String, utm_term String, `utm.term` String, utmContent String, utm_content String, `utm.content` String, contentTags Array(String), contentSections Array(String), contentCategories Array(String))') COMMENT 'the members of properties_text that have columns, parsed once for all of these',
    amount               Nullable(Decimal(18, 4))      DEFAULT accurateCastOrNull(round(toDecimal128OrNull(if(match(tupleElement(_known, 'amount'), '^[^eE]*[0-9]'), tupleElement(_known, 'amount'), NULL), 12), 4), 'Decimal(18, 4)') COMMENT 'money; negative: paid back' CODEC(ZSTD(1)),
    currency             LowCardinality(String)        DEFAULT upper(tupleElement(_known, 'currency')) COMMENT 'of the amount, in upper case',
    order_id             String                        DEFAULT tupleElement(_known, 'orderId') COMMENT 'the order that a purchase, transaction or refund belongs to' CODEC(ZSTD(1)),
    plan                 LowCardinality(String)        DEFAULT tupleElement(_known, 'plan') COMMENT 'what was bought',
    session_id           String                        DEFAULT tupleElement(_known, 'sessionId') COMMENT 'the visit, in the client''s own form' CODEC(ZSTD(1)),
    referrer             String                        DEFAULT tupleElement(_known, 'referrer') COMMENT 'where the page view came from' CODEC(ZSTD(1)),
    title                String                        DEFAULT tupleElement(_known, 'title') COMMENT 'the page''s title' CODEC(ZSTD(1)),
    content_title        String                        DEFAULT tupleElement(_known, 'contentTitle') COMMENT 'the content''s title' CODEC(ZSTD(1)),
    author_name          LowCardinality(String)        DEFAULT tupleElement(_known, 'authorName') COMMENT 'the content''s author',
    utm_source           String                      DEFAULT firstNonDefault(tupleElement(_known, 'utmSource'), tupleElement(_known, 'utm_source'), tupleElement(_known, 'utm.source'), toValidUTF8(decodeURLFormComponent(extractURLParameter(concat('?', replaceAll(queryString(url), '?', '%3F'), '#', fragment(url)), 'utm_source')))) COMMENT 'utm_source: the member, else of the url' CODEC(ZSTD(1)),
    utm_medium           String                      DEFAULT firstNonDefault(tupleElement(_known, 'utmMedium'), tupleElement(_known, 'utm_medium'), tupleElement(_known, 'utm.medium'), toValidUTF8(decodeURLFormComponent(extractURLParameter(concat('?', replaceAll(queryString(url), '?', '%3F'), '#', fragment(url)), 'utm_medium')))) COMMENT 'utm_medium: the member, else of the url' CODEC(ZSTD(1)),
    utm_campaign         String                      DEFAULT firstNonDefault(tupleElement(_known, 'utmCampaign'), tupleElement(_known, 'utm_campaign'), tupleElement(_known, 'utm.campaign'), toValidUTF8(decodeURLFormComponent(extractURLParameter(concat('?', replaceAll(queryString(url), '?', '%3F'), '#', fragment(url)), 'utm_campaign')))) COMMENT 'utm_campaign: the member, else of the url' CODEC(ZSTD(1)),
    utm_term             String                      DEFAULT firstNonDefault(tupleElement(_known, 'utmTerm'), tupleElement(_known, 'utm_term'), tupleElement(_known, 'utm.term'), toValidUTF8(decodeURLFormComponent(extractURLParameter(concat('?', replaceAll(queryString(url), '?', '%3F'), '#', fragment(url)), 'utm_term')))) COMMENT 'utm_term: the member, else of the url' CODEC(ZSTD(1)),
    utm_content          String                      DEFAULT firstNonDefault(tupleElement(_known, 'utmContent'), tupleElement(_known, 'utm_content'), tupleElement(_known, 'utm.content'), toValidUTF8(decodeURLFormComponent(extractURLParameter(concat('?', replaceAll(queryString(url), '?', '%3F'), '#', fragment(url)), 'utm_content')))) COMMENT 'utm_content: the member, else of the url' CODEC(ZSTD(1)),
    scroll_depth         Nullable(Float64)             DEFAULT if(isFinite(tupleElement(_known, 'scrollDepth')), tupleElement(_known, 'scrollDepth'), NULL) COMMENT 'how far the page was scrolled' CODEC(ZSTD(1)),
    page_length          Nullable(Float64)             DEFAULT if(isFinite(tupleElement(_known, 'pageLength')), tupleElement(_known, 'pageLength'), NULL) COMMENT 'the page''s length' CODEC(ZSTD(1)),
    idle_time_spent      Nullable(Float64)             DEFAULT if(isFinite(tupleElement(_known, 'idleTimeSpent')), tupleElement(_known, 'idleTimeSpent'), NULL) COMMENT 'time without activity' CODEC(ZSTD(1)),
    active_time_spent    Nullable(Float64)             DEFAULT if(isFinite(tupleElement(_known, 'activeTimeSpent')), tupleElement(_known, 'activeTimeSpent'), NULL) COMMENT 'time with activity' CODEC(ZSTD(1)),
    total_time_spent     Nullable(Float64)             DEFAULT if(isFinite(tupleElement(_known, 'totalTimeSpent')), tupleElement(_known, 'totalTimeSpent'), NULL) COMMENT 'time on the page' CODEC(ZSTD(1)),
    num_of_cta           Nullable(Int64)               DEFAULT toInt64OrNull(tupleElement(_known, 'numOfCta')) COMMENT 'calls to action on the page' CODEC(ZSTD(1)),
    counter              Nullable(Int64)               DEFAULT toInt64OrNull(tupleElement(_known, 'counter')) COMMENT 'the PING''s ordinal' CODEC(ZSTD(1)),
    premium_content      Nullable(Bool)                DEFAULT transform(tupleElement(_known, 'premiumContent'), ['true', '1', 'false', '0', '-0'], [true, true, false, false, false], NULL) COMMENT 'whether the content is premium' CODEC(ZSTD(1)),
    unlocked_status      Nullable(Bool)                DEFAULT transform(tupleElement(_known, 'unlockedStatus'), ['true', '1', 'false', '0', '-0'], [true, true, false, false, false], NULL) COMMENT 'whether the content is unlocked' CODEC(ZSTD(1)),
    adblocker            Nullable(Bool)                DEFAULT transform(tupleElement(_known, 'adblocker'), ['true', '1', 'false', '0', '-0'], [true, true, false, false, false], NULL) COMMENT 'whether an ad blocker runs' CODEC(ZSTD(1)),
    is_cookie_blocked    Nullable(Bool)                DEFAULT transform(tupleElement(_known, 'isCookieBlocked'), ['true', '1', 'false', '0', '-0'], [true, true, false, false, false], NULL) COMMENT 'whether cookies are blocked' CODEC(ZSTD(1)),
    content_tags         Array(LowCardinality(String)) DEFAULT tupleElement(_known, 'contentTags') COMMENT 'the content''s tags' CODEC(ZSTD(1)),
    content_sections     Array(LowCardinality(String)) DEFAULT tupleElement(_known, 'contentSections') COMMENT 'the content''s sections' CODEC(ZSTD(1)),
    content_categories   Array(LowCardinality(String)) DEFAULT tupleElement(_known, 'contentCategories') COMMENT 'the content''s categories' CODEC(ZSTD(1)),
    _topic               LowCardinality(String)        COMMENT 'Kafka topic',
    _topic_id            LowCardinality(String)        COMMENT 'incarnation of the topic: another one after it was recreated',
    _partition           UInt32                        COMMENT 'Kafka partition',
    _offset              UInt64                        COMMENT 'Kafka offset' CODEC(Delta, ZSTD(1)),
    _leader_epoch        Int32                         DEFAULT -1 COMMENT 'epoch of the leader that wrote the record; -1: not known',
    _reading             UInt32                        COMMENT 'one more each time that an operator has offsets read again',
    _timestamp           DateTime64(3, 'UTC')          COMMENT 'Kafka timestamp' CODEC(Delta, ZSTD(1)),
    _inserted_at         DateTime64(3, 'UTC')          COMMENT 'when the worker sent the batch' CODEC(Delta, ZSTD(1)),
    _precedence          UInt64 MATERIALIZED bitShiftLeft(toUInt64(17592186044415 - toUnixTimestamp64Milli(received_at)), 20) + (1048575 - _offset % 1048576) COMMENT 'of several records under one id the largest stays: 44 bits of received_at, 20 of _offset, both counted down' CODEC(Delta, ZSTD(1)),
    INDEX received_at_range received_at TYPE minmax GRANULARITY 1,
    INDEX occurred_at_range occurred_at TYPE minmax GRANULARITY 1,
    INDEX inserted_at_range _inserted_at TYPE minmax GRANULARITY 1,
    INDEX ping_id_bloom ping_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX anon_id_bloom anon_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX user_id_bloom user_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX content_id_bloom content_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX trace_id_bloom trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    CONSTRAINT times_in_range CHECK
        received_at BETWEEN toDateTime64('1970-01-01', 3, 'UTC') AND toDateTime64('2299-12-31', 3, 'UTC')
        AND occurred_at BETWEEN toDateTime64('1970-01-01', 3, 'UTC') AND toDateTime64('2299-12-31', 3, 'UTC')
        AND _timestamp BETWEEN toDateTime64('1970-01-01', 3, 'UTC') AND toDateTime64('2299-12-31', 3, 'UTC')
)
ENGINE = ReplacingMergeTree(_precedence)
PARTITION BY toYYYYMM(received_at)
ORDER BY toUInt128(event_id)
SETTINGS nullable_serialization_version = 'allow_sparse', non_replicated_deduplication_window = 100000
COMMENT 'one row per event record; read events_unique to see each event once';

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
