-- Each event once, with what every product needs: its day in the business's time zone, and whether a bot sent it.
-- A bot's name ends in "bot"; CUBOT is a maker of phones.
-- The canary's synthetic events are left out (consumer/operations/canary.py).
-- {time_zone} is CONSUMER_TIME_ZONE. The other views of this folder read this one.
CREATE OR REPLACE VIEW events_ready AS
SELECT
    *,
    toDate(occurred_at, '{time_zone}') AS day,
    match(user_agent, '(?i)(^u?|[^u]|[^c]u)bots?([^a-z]|$)')
        OR multiSearchAnyCaseInsensitiveUTF8(user_agent, ['crawl', 'spider', 'slurp', 'headless', 'lighthouse', 'preview', 'python-', 'curl/', 'monitor']) AS is_bot
FROM events_unique
WHERE client_id != 'headrace-canary';

ALTER TABLE events_ready
    COMMENT COLUMN day 'when it happened, in the business''s time zone',
    COMMENT COLUMN is_bot 'the User-Agent is a bot''s, as far as its name says so';
