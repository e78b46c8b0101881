-- What each content had on each day.
CREATE OR REPLACE VIEW content_daily
(
    day        Date                    COMMENT 'in the business''s time zone',
    client_id  LowCardinality(String)  COMMENT 'the sending application',
    content_id String                  COMMENT 'the content',
    is_bot     Bool                    COMMENT 'the User-Agent is a bot''s',
    country    LowCardinality(String)  COMMENT 'by the address; empty: not known',
    page_views UInt64                  COMMENT 'page views that a VIEW or a PING names; one over midnight is in both days',
    visitors   UInt64                  COMMENT 'different anon_id',
    active_s   UInt64                  COMMENT '15 s for each PING in focus',
    clicks     UInt64                  COMMENT 'CLICK events',
    purchases  UInt64                  COMMENT 'PURCHASE events'
)
AS SELECT
    day,
    client_id,
    content_id,
    is_bot,
    country,
    uniqExactIf(ping_id, event_type IN ('VIEW', 'PING')) AS page_views,
    uniqExactIf(anon_id, anon_id != '') AS visitors,
    15 * countIf(event_type = 'PING' AND active = 1) AS active_s,
    countIf(event_type = 'CLICK') AS clicks,
    countIf(event_type = 'PURCHASE') AS purchases
FROM events_ready
WHERE content_id != ''
GROUP BY day, client_id, content_id, is_bot, country;
