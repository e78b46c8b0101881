-- Finds recently inserted rows without reading the whole table: for a worker that checks a repeated insert, and for
-- exports of new rows.
ALTER TABLE events ADD INDEX IF NOT EXISTS inserted_at_range _inserted_at TYPE minmax GRANULARITY 1;
