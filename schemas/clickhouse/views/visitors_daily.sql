-- Visitors of each day. A visitor of two days counts in both, so days can't be added up.
CREATE OR REPLACE VIEW visitors_daily
(
    day         Date                    COMMENT 'in the business''s time zone',
    client_id   LowCardinality(String)  COMMENT 'the sending application',
    device_type LowCardinality(String)  COMMENT 'the kind of device',
    is_bot      Bool                    COMMENT 'the User-Agent is a bot''s',
    country     LowCardinality(String)  COMMENT 'by the address; empty: not known',
    visitors    UInt64                  COMMENT 'different anon_id',
    users       UInt64                  COMMENT 'different user_id',
    page_views  UInt64                  COMMENT 'page views that a VIEW or a PING names; one over midnight is in both days',
    events      UInt64                  COMMENT 'events'
)
AS SELECT
    day,
    client_id,
    device_type,
    is_bot,
    country,
    uniqExactIf(anon_id, anon_id != '') AS visitors,
    uniqExactIf(user_id, user_id != '') AS users,
    uniqExactIf(ping_id, event_type IN ('VIEW', 'PING')) AS page_views,
    count() AS events
FROM events_ready
GROUP BY day, client_id, device_type, is_bot, country;
