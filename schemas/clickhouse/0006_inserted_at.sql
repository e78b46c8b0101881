-- What was inserted lately is found without reading the table: by a worker that looks behind a repeated insert, and by
-- whoever exports what is new.
ALTER TABLE events ADD INDEX IF NOT EXISTS inserted_at_range _inserted_at TYPE minmax GRANULARITY 1;
