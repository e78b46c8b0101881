-- Values of documented members that did not fit their column, one row each: the event has the value in properties_text.
CREATE OR REPLACE VIEW misfits
(
    day         Date                    COMMENT 'when it happened, in the business''s time zone',
    received_at DateTime64(3, 'UTC')    COMMENT 'when the collector received the event',
    event_id    UUID                    COMMENT 'the event',
    client_id   LowCardinality(String)  COMMENT 'the sending application',
    member      LowCardinality(String)  COMMENT 'the member of properties',
    value       String                  COMMENT 'its value as JSON, cut at 100 characters'
)
AS SELECT day, received_at, event_id, client_id, member, substringUTF8(JSONExtractRaw(properties_text, member), 1, 100) AS value
FROM
(
    SELECT day, received_at, event_id, client_id, properties_text, arrayJoin(arrayFilter(
        (name, is_empty) -> is_empty AND JSONType(properties_text, name) != 'Null',
        ['amount', 'scrollDepth', 'pageLength', 'idleTimeSpent', 'activeTimeSpent', 'totalTimeSpent', 'numOfCta', 'counter',
            'premiumContent', 'unlockedStatus', 'adblocker', 'isCookieBlocked'],
        [isNull(amount), isNull(scroll_depth), isNull(page_length), isNull(idle_time_spent), isNull(active_time_spent),
            isNull(total_time_spent), isNull(num_of_cta), isNull(counter), isNull(premium_content),
            isNull(unlocked_status), isNull(adblocker), isNull(is_cookie_blocked)]
    )) AS member
    FROM events_ready
);
