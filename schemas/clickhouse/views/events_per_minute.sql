-- How many events came in each minute, for dashboards: by the time of receipt.
CREATE OR REPLACE VIEW events_per_minute
(
    minute         DateTime('UTC')         COMMENT 'of receipt, UTC',
    client_id      LowCardinality(String)  COMMENT 'the sending application',
    event_type     LowCardinality(String)  COMMENT 'the type',
    event_location LowCardinality(String)  COMMENT 'where in the product',
    events         UInt64                  COMMENT 'events'
)
AS SELECT
    toStartOfMinute(toDateTime(received_at, 'UTC')) AS minute,
    client_id,
    event_type,
    event_location,
    count() AS events
FROM events_unique
WHERE client_id != 'headrace-canary'
GROUP BY minute, client_id, event_type, event_location;
