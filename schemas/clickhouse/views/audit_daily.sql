-- The audits of each day: what they looked at, and what was wrong at the day's end.
CREATE OR REPLACE VIEW audit_daily
(
    day        Date                    COMMENT 'in the business''s time zone',
    topic      LowCardinality(String)  COMMENT 'Kafka topic',
    audits     UInt64                  COMMENT 'how often partitions were looked at',
    partitions UInt64                  COMMENT 'how many were looked at',
    audited    UInt64                  COMMENT 'offsets looked at',
    missing    UInt64                  COMMENT 'offsets that were neither rows nor dead letters at the last look: must be 0',
    uncounted  UInt64                  COMMENT 'rows that the table offsets lacked at the last look: must be 0',
    duplicates UInt64                  COMMENT 'rows beyond the first of their offset at the last look: must be 0',
    last_at    DateTime64(3, 'UTC')    COMMENT 'the last look'
)
AS SELECT
    day,
    topic,
    sum(p.audits) AS audits,
    count() AS partitions,
    sum(p.audited) AS audited,
    sum(p.missing) AS missing,
    sum(p.uncounted) AS uncounted,
    sum(p.duplicates) AS duplicates,
    max(p.last_at) AS last_at
FROM
(
    SELECT
        toDate(audited_at, '{time_zone}') AS day,
        topic,
        count() AS audits,
        max(a.end) - min(a.low) AS audited,
        argMax(a.missing, a.audited_at) AS missing,
        argMax(a.uncounted, a.audited_at) AS uncounted,
        argMax(a.duplicates, a.audited_at) AS duplicates,
        max(audited_at) AS last_at
    FROM audits AS a
    GROUP BY day, topic, topic_id, partition
) AS p
GROUP BY day, topic;
