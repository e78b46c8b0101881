-- How good the data of a day are, by client. Days are those of receipt. What the collector refused as a whole request is
-- not here: no table has it, only the metric headrace_ingest_events_total (docs/ANALYTICS.md).
CREATE OR REPLACE VIEW data_quality
(
    day             Date                                COMMENT 'of receipt, in the business''s time zone',
    client_id       LowCardinality(String)              COMMENT 'the sending application; of dead letters as far as they say it',
    records         UInt64                              COMMENT 'accepted records that were inserted, copies too',
    events          UInt64                              COMMENT 'different events among them that are there now',
    copies          UInt64                              COMMENT 'records less events and erased: sent twice, or read again; also events removed since by retention',
    erased          UInt64                              COMMENT 'different events among them that were erased since',
    late            UInt64                              COMMENT 'events that happened more than an hour before their receipt',
    ahead           UInt64                              COMMENT 'events that happened after their receipt: the client''s clock is ahead',
    unbelieved      UInt64                              COMMENT 'events whose own time was not believed: occurred_at is received_at',
    median_delay_ms Nullable(Float64)                   COMMENT 'from happening to receipt, of the middle event; negative: clocks are ahead',
    misfits         UInt64                              COMMENT 'values that do not fit the column of their member',
    refused         UInt64                              COMMENT 'dead letters of the collector: events of lenient requests',
    lost_to_table   UInt64                              COMMENT 'dead letters of workers: records that can''t become rows',
    dead_letters    Map(LowCardinality(String), UInt64) COMMENT 'all dead letters by reason'
)
AS SELECT
    day,
    client_id,
    sum(q.records) AS records,
    sum(q.events) AS events,
    if(records > events + erased, records - events - erased, 0) AS copies,
    sum(q.erased) AS erased,
    sum(q.late) AS late,
    sum(q.ahead) AS ahead,
    sum(q.unbelieved) AS unbelieved,
    max(q.median_delay_ms) AS median_delay_ms,
    sum(q.misfits) AS misfits,
    sum(q.refused) AS refused,
    sum(q.lost_to_table) AS lost_to_table,
    sumMap(q.dead_letters) AS dead_letters
FROM
(
    SELECT
        toDate(quarter, '{time_zone}') AS day,
        client_id,
        r.records AS records,
        toUInt64(0) AS events,
        toUInt64(0) AS erased,
        toUInt64(0) AS late,
        toUInt64(0) AS ahead,
        toUInt64(0) AS unbelieved,
        CAST(NULL, 'Nullable(Float64)') AS median_delay_ms,
        toUInt64(0) AS misfits,
        toUInt64(0) AS refused,
        toUInt64(0) AS lost_to_table,
        CAST(map(), 'Map(LowCardinality(String), UInt64)') AS dead_letters
    FROM received AS r
    UNION ALL
    SELECT
        toDate(quarter, '{time_zone}') AS day,
        client_id,
        toUInt64(0),
        toUInt64(0),
        uniqExact(topic, topic_id, partition, reading, offset),
        toUInt64(0),
        toUInt64(0),
        toUInt64(0),
        CAST(NULL, 'Nullable(Float64)'),
        toUInt64(0),
        toUInt64(0),
        toUInt64(0),
        CAST(map(), 'Map(LowCardinality(String), UInt64)')
    FROM erased_rows
    WHERE is_event
    GROUP BY day, client_id
    UNION ALL
    SELECT
        toDate(received_at, '{time_zone}') AS day,
        client_id,
        toUInt64(0),
        count(),
        toUInt64(0),
        countIf(occurred_at < received_at - INTERVAL 1 HOUR),
        countIf(occurred_at > received_at),
        countIf(
            occurred_at = received_at
            AND JSONType(properties_text, 'timestamp') != 'Null'
            AND NOT (length(said) >= 10 AND (startsWith(said, came) OR startsWith(came, said)))
            AND ifNull(parseDateTime64BestEffortOrNull(said, 3, 'UTC') != received_at, 1)
        ),
        toNullable(quantile(0.5)(dateDiff('millisecond', occurred_at, received_at))),
        toUInt64(0),
        toUInt64(0),
        toUInt64(0),
        CAST(map(), 'Map(LowCardinality(String), UInt64)')
    FROM
    (
        SELECT
            *,
            JSONExtract(properties_text, 'timestamp', 'String') AS said,
            toString(toUnixTimestamp64Milli(received_at)) AS came
        FROM events_unique
    )
    GROUP BY day, client_id
    UNION ALL
    SELECT
        toDate(received_at, '{time_zone}') AS day,
        client_id,
        toUInt64(0),
        toUInt64(0),
        toUInt64(0),
        toUInt64(0),
        toUInt64(0),
        toUInt64(0),
        CAST(NULL, 'Nullable(Float64)'),
        count(),
        toUInt64(0),
        toUInt64(0),
        CAST(map(), 'Map(LowCardinality(String), UInt64)')
    FROM misfits
    GROUP BY day, client_id
    UNION ALL
    SELECT
        toDate(origin_at, '{time_zone}') AS day,
        toLowCardinality(toValidUTF8(JSONExtractString(value, 'clientId'))) AS client_id,
        toUInt64(0),
        toUInt64(0),
        toUInt64(0),
        toUInt64(0),
        toUInt64(0),
        toUInt64(0),
        CAST(NULL, 'Nullable(Float64)'),
        toUInt64(0),
        toUInt64(NOT startsWith(service, 'headrace-consumer/')),
        toUInt64(startsWith(service, 'headrace-consumer/')),
        CAST(map(reason, toUInt64(1)), 'Map(LowCardinality(String), UInt64)')
    FROM dead_letters_unique
) AS q
WHERE client_id != 'headrace-canary'
GROUP BY day, client_id;
