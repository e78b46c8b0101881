-- One row per visit: a visitor's events in one application, with pauses of less than 30 minutes between them.
-- Events without an anon_id belong to no visit.
CREATE OR REPLACE VIEW sessions
(
    client_id    LowCardinality(String)  COMMENT 'the sending application',
    anon_id      String                  COMMENT 'the visitor',
    started_at   DateTime64(3, 'UTC')    COMMENT 'the first event',
    ended_at     DateTime64(3, 'UTC')    COMMENT 'the last event',
    day          Date                    COMMENT 'when it began, in the business''s time zone',
    user_id      String                  COMMENT 'the signed-in user, if one was',
    is_bot       Bool                    COMMENT 'the User-Agent is a bot''s',
    events       UInt64                  COMMENT 'events',
    page_views   UInt64                  COMMENT 'page views that a VIEW or a PING names',
    active_s     UInt64                  COMMENT '15 s for each PING in focus',
    purchases    UInt64                  COMMENT 'PURCHASE events',
    entry_url    String                  COMMENT 'the first page''s address',
    referrer     String                  COMMENT 'where the first page view that says so came from',
    utm_source   String                  COMMENT 'the first traffic source',
    utm_medium   String                  COMMENT 'its medium',
    utm_campaign String                  COMMENT 'its campaign',
    device_type  LowCardinality(String)  COMMENT 'the kind of device',
    browser      LowCardinality(String)  COMMENT 'browser or app by the User-Agent; empty: not known',
    system       LowCardinality(String)  COMMENT 'operating system by the User-Agent; empty: not known',
    country      LowCardinality(String)  COMMENT 'by the address; empty: not known'
)
AS SELECT
    client_id,
    anon_id,
    min(occurred_at) AS started_at,
    max(occurred_at) AS ended_at,
    toDate(started_at, '{time_zone}') AS day,
    argMinIf(e.user_id, (e.occurred_at, e.event_id), e.user_id != '') AS user_id,
    max(e.is_bot) AS is_bot,
    count() AS events,
    uniqExactIf(e.ping_id, e.event_type IN ('VIEW', 'PING')) AS page_views,
    15 * countIf(e.event_type = 'PING' AND e.active = 1) AS active_s,
    countIf(e.event_type = 'PURCHASE') AS purchases,
    argMinIf(e.url, (e.occurred_at, e.event_id), e.url != '') AS entry_url,
    argMinIf(e.referrer, (e.occurred_at, e.event_id), e.referrer != '') AS referrer,
    (argMinIf((e.utm_source, e.utm_medium, e.utm_campaign), (e.occurred_at, e.event_id), (e.utm_source, e.utm_medium, e.utm_campaign) != ('', '', '')) AS came_by).1 AS utm_source,
    came_by.2 AS utm_medium,
    came_by.3 AS utm_campaign,
    argMinIf(e.device_type, (e.occurred_at, e.event_id), e.device_type != '') AS device_type,
    argMinIf(e.agent_browser, (e.occurred_at, e.event_id), e.agent_browser != '') AS browser,
    argMinIf(e.agent_system, (e.occurred_at, e.event_id), e.agent_system != '') AS system,
    argMinIf(e.country, (e.occurred_at, e.event_id), e.country != '') AS country
FROM
(
    SELECT *, sum(is_first) OVER (PARTITION BY client_id, anon_id ORDER BY occurred_at, event_id) AS number
    FROM
    (
        SELECT *, occurred_at >= lagInFrame(occurred_at) OVER (
            PARTITION BY client_id, anon_id ORDER BY occurred_at, event_id
            ROWS BETWEEN 1 PRECEDING AND CURRENT ROW
        ) + INTERVAL 30 MINUTE AS is_first
        FROM events_ready
        WHERE anon_id != ''
    )
) AS e
GROUP BY client_id, anon_id, number;
