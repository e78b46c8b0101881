-- What became of the visitors who saw a paywall on a day: saw it, then clicked, then bought, within 24 hours.
CREATE OR REPLACE VIEW paywall_funnel
(
    day          Date                    COMMENT 'in the business''s time zone',
    client_id    LowCardinality(String)  COMMENT 'the sending application',
    paywall_id   String                  COMMENT 'the paywall',
    paywall_type LowCardinality(String)  COMMENT 'its kind',
    is_bot       Bool                    COMMENT 'the User-Agent is a bot''s',
    viewers      UInt64                  COMMENT 'visitors who saw it',
    clickers     UInt64                  COMMENT 'those who clicked after that',
    buyers       UInt64                  COMMENT 'those who bought after that',
    views        UInt64                  COMMENT 'VIEW events',
    clicks       UInt64                  COMMENT 'CLICK events',
    purchases    UInt64                  COMMENT 'PURCHASE events'
)
AS SELECT
    day,
    client_id,
    paywall_id,
    paywall_type,
    is_bot,
    countIf(level >= 1) AS viewers,
    countIf(level >= 2) AS clickers,
    countIf(level >= 3) AS buyers,
    sum(view_events) AS views,
    sum(click_events) AS clicks,
    sum(purchase_events) AS purchases
FROM
(
    SELECT
        day,
        client_id,
        paywall_id,
        paywall_type,
        is_bot,
        windowFunnel(86400000)(
            toUInt64(toUnixTimestamp64Milli(occurred_at)),
            event_type = 'VIEW', event_type = 'CLICK', event_type = 'PURCHASE'
        ) AS level,
        countIf(event_type = 'VIEW') AS view_events,
        countIf(event_type = 'CLICK') AS click_events,
        countIf(event_type = 'PURCHASE') AS purchase_events
    FROM events_ready
    WHERE paywall_id != '' AND event_type IN ('VIEW', 'CLICK', 'PURCHASE')
    GROUP BY day, client_id, paywall_id, paywall_type, is_bot, anon_id
)
GROUP BY day, client_id, paywall_id, paywall_type, is_bot;
