-- Money by day and currency: amounts of PURCHASE and TRANSACTION events; a negative amount is paid back.
-- Amounts of different currencies are never added up. If a client sends both types for one order, read only one of them.
CREATE OR REPLACE VIEW revenue_daily
(
    day        Date                    COMMENT 'in the business''s time zone',
    client_id  LowCardinality(String)  COMMENT 'the sending application',
    event_type LowCardinality(String)  COMMENT 'PURCHASE or TRANSACTION',
    currency   LowCardinality(String)  COMMENT 'of all amounts of the row; empty: none was sent',
    plan       LowCardinality(String)  COMMENT 'what was bought',
    country    LowCardinality(String)  COMMENT 'by the address; empty: not known',
    payments   UInt64                  COMMENT 'events with a positive amount',
    orders     UInt64                  COMMENT 'different order_id of these',
    gross      Decimal(38, 4)          COMMENT 'sum of their amounts',
    refunds    UInt64                  COMMENT 'events with a negative amount',
    refunded   Decimal(38, 4)          COMMENT 'sum of their amounts, as a positive number',
    net        Decimal(38, 4)          COMMENT 'gross less refunded',
    without    UInt64                  COMMENT 'events whose amount is absent or no number: they are in no sum'
)
AS SELECT
    day,
    client_id,
    event_type,
    currency,
    plan,
    country,
    countIf(amount > 0) AS payments,
    uniqExactIf(order_id, amount > 0 AND order_id != '') AS orders,
    sumIf(assumeNotNull(amount), amount > 0) AS gross,
    countIf(amount < 0) AS refunds,
    -sumIf(assumeNotNull(amount), amount < 0) AS refunded,
    gross - refunded AS net,
    countIf(amount IS NULL) AS without
FROM events_ready
WHERE event_type IN ('PURCHASE', 'TRANSACTION')
GROUP BY day, client_id, event_type, currency, plan, country;
