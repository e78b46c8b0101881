-- How far each topic's table is complete. docs/OPERATIONS.md says what this can't know: events that wait in a spool.
-- A partition is complete until its largest claim; one that was added later also until the topic had fewer partitions.
CREATE OR REPLACE VIEW complete_until
(
    topic          LowCardinality(String)         COMMENT 'Kafka topic: of the events, or of the dead letters',
    complete_until Nullable(DateTime64(3, 'UTC')) COMMENT 'every event that was received before and is not in a spool is in the table, or is a dead letter; NULL: not known yet',
    partitions     UInt32                         COMMENT 'partitions of the topic',
    last_partition UInt32                         COMMENT 'the one that holds it up',
    halted         Array(LowCardinality(String))  COMMENT 'codes of what halts partitions, as of their last heartbeats',
    behind         UInt64                         COMMENT 'records that are not in the table yet, as of the last heartbeats',
    beat_at        DateTime64(3, 'UTC')           COMMENT 'the last heartbeat of any worker'
)
AS SELECT
    topic,
    nullIf(tupleElement(arraySort(untils)[1], 1), toDateTime64(0, 3, 'UTC')) AS complete_until,
    count_of AS partitions,
    tupleElement(arraySort(untils)[1], 2) AS last_partition,
    halted,
    behind,
    beat_at
FROM
(
    SELECT
        topic,
        max(of_partition.count_of) AS count_of,
        maxMap(of_partition.counted) AS fewer,
        groupArray((partition, of_partition.claim)) AS claims,
        arrayMap(
            number -> (
                greatest(
                    arrayMax(arrayMap(one -> if(one.1 = number, one.2, toDateTime64(0, 3, 'UTC')), claims)),
                    arrayMax(arrayMap((many, at) -> if(many <= number, at, toDateTime64(0, 3, 'UTC')), mapKeys(fewer), mapValues(fewer)))
                ),
                number
            ),
            range(count_of)
        ) AS untils,
        arrayFilter(code -> code != '', groupUniqArray(of_partition.halt)) AS halted,
        sum(of_partition.lag) AS behind,
        max(of_partition.beat) AS beat_at
    FROM
    (
        SELECT
            topic,
            topic_id,
            partition,
            max(partitions) AS count_of,
            maxMap(map(partitions, counted_at)) AS counted,
            max(complete_until) AS claim,
            argMax(h.halted, h.beat_at) AS halt,
            argMax(h.log_end - least(h.position, h.log_end), h.beat_at) AS lag,
            max(h.beat_at) AS beat
        FROM heartbeats AS h
        WHERE (topic, topic_id) GLOBAL IN (SELECT topic, argMax(topic_id, beat_at) FROM heartbeats GROUP BY topic)
        GROUP BY topic, topic_id, partition
    ) AS of_partition
    GROUP BY topic
);
