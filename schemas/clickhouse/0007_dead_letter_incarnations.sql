-- A recreated topic begins at offset 0 again, so only its ID tells its refused records from those of the earlier topic.
ALTER TABLE dead_letters ADD COLUMN IF NOT EXISTS origin_topic_id LowCardinality(String) COMMENT 'incarnation of the topic where the record stood' AFTER origin_topic,
    MODIFY ORDER BY (origin_topic, origin_partition, origin_offset, letter_id, origin_topic_id);

-- A view keeps the columns it was created with.
CREATE OR REPLACE VIEW dead_letters_unique AS SELECT * FROM dead_letters FINAL;
