-- Values of documented members that did not fit their column: the event has the value in properties_text.
CREATE OR REPLACE VIEW misfits_daily
(
    day       Date                    COMMENT 'in the business''s time zone',
    client_id LowCardinality(String)  COMMENT 'the sending application',
    member    LowCardinality(String)  COMMENT 'the member of properties',
    events    UInt64                  COMMENT 'events with such a value',
    example   String                  COMMENT 'one of them, as JSON, cut at 100 characters'
)
AS SELECT day, client_id, member, count() AS events, any(substringUTF8(JSONExtractRaw(properties_text, member), 1, 100)) AS example
FROM
(
    SELECT day, client_id, properties_text, arrayJoin(arrayFilter(
        (name, is_empty) -> is_empty AND JSONType(properties_text, name) != 'Null',
        ['amount', 'scrollDepth', 'pageLength', 'idleTimeSpent', 'activeTimeSpent', 'totalTimeSpent', 'numOfCta', 'counter',
            'premiumContent', 'unlockedStatus', 'adblocker', 'isCookieBlocked'],
        [isNull(amount), isNull(scroll_depth), isNull(page_length), isNull(idle_time_spent), isNull(active_time_spent),
            isNull(total_time_spent), isNull(num_of_cta), isNull(counter), isNull(premium_content),
            isNull(unlocked_status), isNull(adblocker), isNull(is_cookie_blocked)]
    )) AS member
    FROM events_ready
)
GROUP BY day, client_id, member;
