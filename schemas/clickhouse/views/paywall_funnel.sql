-- What became of the visitors who saw a paywall on a day: saw it, then clicked, then bought, within 24 hours, also after
-- midnight: so each event is looked at for its own day and for the day before. Without an anon_id, events are no visitor's.
CREATE OR REPLACE VIEW paywall_funnel
(
    day          Date                    COMMENT 'in the business''s time zone',
    client_id    LowCardinality(String)  COMMENT 'the sending application',
    paywall_id   String                  COMMENT 'the paywall',
    paywall_type LowCardinality(String)  COMMENT 'its kind, as the visitor''s first event says that names it',
    is_bot       Bool                    COMMENT 'the User-Agent is a bot''s',
    country      LowCardinality(String)  COMMENT 'of the visitor''s first event that has one; empty: not known',
    viewers      UInt64                  COMMENT 'visitors who saw it',
    clickers     UInt64                  COMMENT 'those who clicked after that',
    buyers       UInt64                  COMMENT 'those who bought after that',
    views        UInt64                  COMMENT 'VIEW events',
    clicks       UInt64                  COMMENT 'CLICK events',
    purchases    UInt64                  COMMENT 'PURCHASE events'
)
AS SELECT
    shown_day AS day,
    client_id,
    paywall_id,
    paywall_type,
    is_bot,
    country,
    countIf(level >= 1 AND anon_id != '') AS viewers,
    countIf(level >= 2 AND anon_id != '') AS clickers,
    countIf(level >= 3 AND anon_id != '') AS buyers,
    sum(view_events) AS views,
    sum(click_events) AS clicks,
    sum(purchase_events) AS purchases
FROM
(
    SELECT
        shown_day,
        client_id,
        paywall_id,
        argMinIf(e.paywall_type, (e.occurred_at, e.event_id), e.paywall_type != '') AS paywall_type,
        is_bot,
        argMinIf(e.country, (e.occurred_at, e.event_id), e.country != '') AS country,
        anon_id,
        windowFunnel(86400000)(
            toUInt64(toUnixTimestamp64Milli(occurred_at)),
            event_type = 'VIEW' AND day = shown_day, event_type = 'CLICK', event_type = 'PURCHASE'
        ) AS level,
        countIf(event_type = 'VIEW' AND day = shown_day) AS view_events,
        countIf(event_type = 'CLICK' AND day = shown_day) AS click_events,
        countIf(event_type = 'PURCHASE' AND day = shown_day) AS purchase_events
    FROM events_ready AS e
    ARRAY JOIN [day, day - 1] AS shown_day
    WHERE paywall_id != '' AND event_type IN ('VIEW', 'CLICK', 'PURCHASE')
    GROUP BY shown_day, client_id, paywall_id, is_bot, anon_id
    HAVING view_events + click_events + purchase_events > 0
)
GROUP BY shown_day, client_id, paywall_id, paywall_type, is_bot, country;
