-- Gives the views that fill `offsets` the ids that they have after a restart.
--
-- ClickHouse drops a repeated block in a view's target by a token that names the view's id. ALTER … MODIFY QUERY (as in
-- 0009_readings.sql) leaves another id in the running server, until it is restarted or the view is renamed (26.9). So a
-- block that was inserted before the first restart and sent again after it was counted twice. While a view has its other
-- name, it counts on. One statement renames there and back, because other programs may do the same at once; the first of
-- each pair is for a server that was killed in between.

-- if: SELECT 1 FROM system.tables WHERE database = currentDatabase() HAVING countIf(name = 'events_to_offsets') = 0 AND countIf(name = 'events_to_offsets_renamed') = 1
RENAME TABLE events_to_offsets_renamed TO events_to_offsets;

-- if: SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'events_to_offsets'
RENAME TABLE events_to_offsets TO events_to_offsets_renamed, events_to_offsets_renamed TO events_to_offsets;

-- if: SELECT 1 FROM system.tables WHERE database = currentDatabase() HAVING countIf(name = 'dead_letters_offsets') = 0 AND countIf(name = 'dead_letters_offsets_renamed') = 1
RENAME TABLE dead_letters_offsets_renamed TO dead_letters_offsets;

-- if: SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'dead_letters_offsets'
RENAME TABLE dead_letters_offsets TO dead_letters_offsets_renamed, dead_letters_offsets_renamed TO dead_letters_offsets;
