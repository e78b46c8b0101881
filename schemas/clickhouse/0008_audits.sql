-- What each audit has found, of each partition that it looked at; the view audit_daily has a line for each day.
CREATE TABLE IF NOT EXISTS audits
(
    audited_at        DateTime64(3, 'UTC')   COMMENT 'when',
    audited_by        LowCardinality(String) COMMENT 'worker: in the background, its own partitions; command: python -m consumer audit',
    topic             LowCardinality(String) COMMENT 'Kafka topic',
    topic_id          LowCardinality(String) COMMENT 'its incarnation',
    partition         UInt32                 COMMENT 'the partition',
    low               UInt64                 COMMENT 'the first offset looked at; a worker skips what was clean before',
    end               UInt64                 COMMENT 'the first offset not looked at',
    rows              UInt64                 COMMENT 'rows inserted, of all readings',
    offsets           UInt64                 COMMENT 'different offsets among them',
    dead_letters      UInt64                 COMMENT 'offsets that are dead letters',
    missing           UInt64                 COMMENT 'offsets that are neither, and no gaps of the log',
    missing_offsets   String                 COMMENT 'the first of these',
    unknown           UInt64                 COMMENT 'missing offsets of a topic that is gone: gaps or loss',
    uncounted         UInt64                 COMMENT 'rows that the table offsets lacks',
    duplicates        UInt64                 COMMENT 'rows beyond the first of their offset',
    duplicate_offsets String                 COMMENT 'the first of these, as far as the table still shows them',
    expired           UInt64                 COMMENT 'rows and dead letters removed since by retention; only the command asks'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(audited_at)
ORDER BY (topic, topic_id, partition, audited_at)
TTL toDateTime(audited_at) + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1
COMMENT 'what audits have found; read audit_daily';
