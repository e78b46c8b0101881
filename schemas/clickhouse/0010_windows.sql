-- How many blocks each table remembers the tokens of: as many as may come while two tries of an insert are late, each at its
-- longest time (eight times CONSUMER_INSERT_TIMEOUT_S). 100,000 are enough for 43 partitions at the default settings; see docs/OPERATIONS.md.
-- Replicated tables have other settings, and larger values are kept.

-- if: SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'events' AND NOT match(engine, '^(Replicated|Shared)') AND toUInt64OrZero(extract(engine_full, 'non_replicated_deduplication_window = (\\d+)')) < 100000
ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 100000;

-- if: SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'dead_letters' AND NOT match(engine, '^(Replicated|Shared)') AND toUInt64OrZero(extract(engine_full, 'non_replicated_deduplication_window = (\\d+)')) < 100000
ALTER TABLE dead_letters MODIFY SETTING non_replicated_deduplication_window = 100000;

-- if: SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'offsets' AND NOT match(engine, '^(Replicated|Shared)') AND toUInt64OrZero(extract(engine_full, 'non_replicated_deduplication_window = (\\d+)')) < 100000
ALTER TABLE offsets MODIFY SETTING non_replicated_deduplication_window = 100000;
