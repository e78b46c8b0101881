-- Values of documented members that did not fit their column, by day, client and member.
CREATE OR REPLACE VIEW misfits_daily
(
    day       Date                    COMMENT 'in the business''s time zone',
    client_id LowCardinality(String)  COMMENT 'the sending application',
    member    LowCardinality(String)  COMMENT 'the member of properties',
    events    UInt64                  COMMENT 'events with such a value',
    example   String                  COMMENT 'one of them, as JSON, cut at 100 characters'
)
AS SELECT day, client_id, member, count() AS events, any(value) AS example
FROM misfits
GROUP BY day, client_id, member;
