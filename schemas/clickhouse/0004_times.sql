-- A DateTime64 accepts any 64-bit number from Avro, but no client can read back a year beyond its range.
ALTER TABLE events ADD CONSTRAINT IF NOT EXISTS times_in_range CHECK
    received_at BETWEEN toDateTime64('1970-01-01', 3, 'UTC') AND toDateTime64('2299-12-31', 3, 'UTC')
    AND occurred_at BETWEEN toDateTime64('1970-01-01', 3, 'UTC') AND toDateTime64('2299-12-31', 3, 'UTC')
    AND _timestamp BETWEEN toDateTime64('1970-01-01', 3, 'UTC') AND toDateTime64('2299-12-31', 3, 'UTC');
