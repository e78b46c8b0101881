-- One row per person: a user with all visitor ids that ever signed in as them, or a visitor who never did.
-- A visitor id that signed in as several users belongs to the latest, where its events name no user.
CREATE OR REPLACE VIEW users
(
    user_id       String               COMMENT 'the user; empty: never signed in',
    anon_id       String               COMMENT 'the visitor who never signed in; empty for a user',
    anon_ids      Array(String)        COMMENT 'all visitor ids of the person, sorted',
    first_seen_at DateTime64(3, 'UTC') COMMENT 'the first event',
    last_seen_at  DateTime64(3, 'UTC') COMMENT 'the last event',
    page_views    UInt64               COMMENT 'page views that a VIEW or a PING names',
    purchases     UInt64               COMMENT 'PURCHASE events',
    is_bot        Bool                 COMMENT 'the User-Agent is a bot''s',
    country       LowCardinality(String) COMMENT 'by the latest address that tells one; empty: not known'
)
AS WITH owners AS
(
    SELECT anon_id, argMax(user_id, (occurred_at, event_id)) AS owner
    FROM events_unique
    WHERE anon_id != '' AND user_id != ''
    GROUP BY anon_id
)
SELECT
    user_id,
    anon_id,
    arraySort(groupUniqArrayIf(seen_as, seen_as != '')) AS anon_ids,
    min(occurred_at) AS first_seen_at,
    max(occurred_at) AS last_seen_at,
    uniqExactIf(ping_id, event_type IN ('VIEW', 'PING')) AS page_views,
    countIf(event_type = 'PURCHASE') AS purchases,
    max(is_bot) AS is_bot,
    argMaxIf(p.country, (p.occurred_at, p.event_id), p.country != '') AS country
FROM
(
    SELECT
        if(e.user_id != '', e.user_id, ifNull(o.owner, '')) AS user_id, -- a reader's join_use_nulls = 1 gives NULL
        if(user_id = '', e.anon_id, '') AS anon_id,
        e.anon_id AS seen_as,
        e.occurred_at AS occurred_at,
        e.ping_id AS ping_id,
        e.event_type AS event_type,
        e.is_bot AS is_bot,
        e.event_id AS event_id,
        e.country AS country
    FROM events_ready AS e
    LEFT JOIN owners AS o ON o.anon_id = e.anon_id
) AS p
WHERE user_id != '' OR anon_id != ''
GROUP BY user_id, anon_id;
