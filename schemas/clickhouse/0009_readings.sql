-- An offset alone does not identify a record: a log that was cut and has grown again has others under the same offsets,
-- and an operator may have offsets read again. So each row has its record's leader epoch and its reading.
ALTER TABLE events ADD COLUMN IF NOT EXISTS _leader_epoch Int32 DEFAULT -1 COMMENT 'epoch of the leader that wrote the record; -1: not known' AFTER _offset,
    ADD COLUMN IF NOT EXISTS _reading UInt32 COMMENT 'one more each time that an operator has offsets read again' AFTER _leader_epoch;

ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS _leader_epoch Int32 DEFAULT -1 COMMENT 'epoch of the leader that wrote the dead letter; -1: not known' AFTER _offset,
    ADD COLUMN IF NOT EXISTS _reading UInt32 COMMENT 'one more each time that an operator has offsets read again' AFTER _leader_epoch,
    ADD COLUMN IF NOT EXISTS origin_leader_epoch Int32 DEFAULT -1 COMMENT 'epoch of the leader that wrote the refused record; -1: not known' AFTER origin_offset,
    ADD COLUMN IF NOT EXISTS origin_reading UInt32 COMMENT 'reading in which it was refused' AFTER origin_leader_epoch;

ALTER TABLE offsets ADD COLUMN IF NOT EXISTS reading UInt32 COMMENT 'which reading: each inserts an offset once',
    ADD COLUMN IF NOT EXISTS epochs SimpleAggregateFunction(minMap, Map(Int32, UInt64)) COMMENT 'first offset of each leader epoch',
    MODIFY ORDER BY (topic, topic_id, partition, million, reading);

ALTER TABLE events_to_offsets MODIFY QUERY
SELECT
    _topic AS topic,
    _topic_id AS topic_id,
    _partition AS partition,
    intDiv(_offset, 1000000) AS million,
    count() AS rows,
    groupBitmapState(_offset) AS present,
    min(_offset) AS first,
    max(_offset) AS last,
    max(_timestamp) AS newest_at,
    _reading AS reading,
    map(_leader_epoch, min(_offset)) AS epochs
FROM events
GROUP BY topic, topic_id, partition, million, reading, _leader_epoch;

ALTER TABLE dead_letters_offsets MODIFY QUERY
SELECT
    _topic AS topic,
    _topic_id AS topic_id,
    _partition AS partition,
    intDiv(_offset, 1000000) AS million,
    count() AS rows,
    groupBitmapState(_offset) AS present,
    min(_offset) AS first,
    max(_offset) AS last,
    max(_timestamp) AS newest_at,
    _reading AS reading,
    map(_leader_epoch, min(_offset)) AS epochs
FROM dead_letters
GROUP BY topic, topic_id, partition, million, reading, _leader_epoch;

-- A view keeps the columns it was created with.
CREATE OR REPLACE VIEW events_unique AS SELECT *, properties FROM events FINAL
SETTINGS
    do_not_merge_across_partitions_select_final = 0,
    defer_partition_pruning_after_final = 1,
    use_skip_indexes_if_final_exact_mode = 1,
    optimize_move_to_prewhere_if_final = 0,
    type_json_skip_duplicated_paths = 1,
    json_type_escape_dots_in_keys = 1,
    input_format_json_read_bools_as_numbers = 0,
    input_format_json_read_bools_as_strings = 0,
    input_format_try_infer_dates = 0,
    input_format_try_infer_datetimes = 0;
CREATE OR REPLACE VIEW dead_letters_unique AS SELECT * FROM dead_letters FINAL;
