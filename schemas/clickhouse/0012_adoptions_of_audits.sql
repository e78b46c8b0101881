-- Before the table adoptions was there, `adopt` noted what it had done in the table audits. A statement of this file runs again
-- without effect.
-- if: SELECT 1 FROM audits WHERE audited_by = 'adopt' AND (topic, topic_id, partition) NOT IN (SELECT topic, topic_id, partition FROM adoptions) LIMIT 1
INSERT INTO adoptions (topic, topic_id, partition, end, adopted_by, adopted_at)
SELECT topic, topic_id, partition, max(end), 'an earlier release', max(audited_at) FROM audits
WHERE audited_by = 'adopt' AND (topic, topic_id, partition) NOT IN (SELECT topic, topic_id, partition FROM adoptions)
GROUP BY topic, topic_id, partition;
