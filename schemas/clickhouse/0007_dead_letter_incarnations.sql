-- A topic that was recreated begins at offset 0 again: its refused records are others than those of the same name before.
ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS origin_topic_id LowCardinality(String) COMMENT 'incarnation of the topic where the record stood' AFTER origin_topic,
    MODIFY ORDER BY (origin_topic, origin_partition, origin_offset, letter_id, origin_topic_id);

-- A view keeps the columns that it was made with.
CREATE OR REPLACE VIEW dead_letters_unique AS SELECT * FROM dead_letters FINAL;
