-- Roles for headrace on a ClickHouse that stores accounts (CREATE ROLE). Run the whole file again after each upgrade: what is
-- there already gets what this file says, and accounts keep their roles. The database is
-- headrace; change the name here if CONSUMER_CLICKHOUSE_DATABASE is another one. What each role is for, and which
-- commands run with it: docs/SECURITY.md. The accounts of the embedded server have the same grants (users.xml beside
-- its configuration), where tests try them.

-- The workers: `python -m consumer run`. They change no table but by inserts, read no other database, and create and drop
-- only tables with the names of their temporary ones.
CREATE ROLE IF NOT EXISTS headrace_worker;
GRANT SELECT, INSERT ON headrace.* TO headrace_worker;
GRANT CREATE TABLE, DROP TABLE ON headrace.events_probe_* TO headrace_worker;
GRANT CREATE TABLE, DROP TABLE ON headrace.events_mend_* TO headrace_worker;
GRANT CREATE TABLE, DROP TABLE ON headrace.dead_letters_mend_* TO headrace_worker;
GRANT CREATE TABLE, DROP TABLE ON headrace.offsets_mend_* TO headrace_worker;
GRANT CREATE TABLE, DROP TABLE ON headrace.preflight_probe_* TO headrace_worker;
-- ClickHouse asks for this right where parts are attached, which puts back rows that a killed server lost, or a replica's
-- lost disk.
GRANT ALTER DELETE ON headrace.events TO headrace_worker;
GRANT ALTER DELETE ON headrace.dead_letters TO headrace_worker;
GRANT ALTER DELETE ON headrace.offsets TO headrace_worker;
GRANT TABLE ENGINE ON MergeTree TO headrace_worker;
GRANT TABLE ENGINE ON ReplacingMergeTree TO headrace_worker;
GRANT TABLE ENGINE ON AggregatingMergeTree TO headrace_worker;
GRANT TABLE ENGINE ON `Null` TO headrace_worker;
GRANT SELECT ON system.tables TO headrace_worker;
GRANT SELECT ON system.columns TO headrace_worker;
GRANT SELECT ON system.constraints TO headrace_worker;
GRANT SELECT ON system.detached_tables TO headrace_worker;
GRANT SELECT ON system.processes TO headrace_worker;
GRANT SELECT ON system.merge_tree_settings TO headrace_worker;
GRANT SELECT ON system.replicated_merge_tree_settings TO headrace_worker;
GRANT SELECT ON system.clusters TO headrace_worker;
GRANT SELECT ON system.macros TO headrace_worker;
GRANT SELECT ON system.replicas TO headrace_worker;
-- Where tables are Replicated, a worker waits for replicas before it inserts old rows again, and before its audit says
-- that rows are missing.
GRANT SYSTEM SYNC REPLICA ON headrace.* TO headrace_worker;
-- On a cluster of Replicated tables it waits ON CLUSTER, which needs this as well, for the operators too:
--   GRANT CLUSTER ON *.* TO headrace_worker;
-- On a cluster (CONSUMER_CLICKHOUSE_CLUSTER) preflight and `erase` ask all servers, and `clusterAllReplicas` needs these two as
-- well, for the operators too:
--   GRANT REMOTE ON *.* TO headrace_worker;
--   GRANT CREATE TEMPORARY TABLE ON *.* TO headrace_worker;

-- Analysts: they read all of the database, within limits that their queries can't lift, and nothing else. What would take
-- more memory than they have is put on the disk early enough; by default it is when half of the server's memory is taken,
-- which is more.
-- Not OR REPLACE: that makes another profile of the same name, and a role that has the old one would have no limits.
CREATE SETTINGS PROFILE IF NOT EXISTS headrace_analyst;
ALTER SETTINGS PROFILE headrace_analyst SETTINGS
    readonly = 2,
    max_execution_time = 60 MIN 1 MAX 300,
    max_rows_to_read = 5000000000 MIN 1 MAX 5000000000,
    max_result_rows = 1000000 MIN 1 MAX 1000000,
    max_result_bytes = 1000000000 MIN 1 MAX 1000000000,
    max_memory_usage = 8000000000 MIN 1 MAX 8000000000,
    max_memory_usage_for_user = 12000000000 READONLY,
    max_bytes_before_external_group_by = 2000000000,
    max_bytes_before_external_sort = 2000000000,
    max_bytes_ratio_before_external_group_by = 0,
    max_bytes_ratio_before_external_sort = 0,
    max_temporary_data_on_disk_size_for_user = 100000000000 READONLY,
    max_concurrent_queries_for_user = 20 READONLY,
    timeout_overflow_mode = 'throw' READONLY,
    read_overflow_mode = 'throw' READONLY,
    result_overflow_mode = 'throw' READONLY,
    allow_introspection_functions = 0 READONLY;
CREATE ROLE IF NOT EXISTS headrace_analyst;
ALTER ROLE headrace_analyst SETTINGS PROFILE headrace_analyst;
CREATE QUOTA IF NOT EXISTS headrace_analyst;
ALTER QUOTA headrace_analyst KEYED BY user_name
    FOR INTERVAL 1 hour MAX queries = 5000, execution_time = 7200 TO headrace_analyst;
GRANT dictGet, SELECT ON headrace.* TO headrace_analyst;

-- Operators: migrate, promote, audit, replay, erasing and repairing by hand. `migrate` compares the tables with those in a
-- temporary database, whose name begins with headrace_reference_.
CREATE ROLE IF NOT EXISTS headrace_ops;
GRANT ALL ON headrace.* TO headrace_ops;
GRANT ALL ON headrace_reference_*.* TO headrace_ops;
GRANT TABLE ENGINE ON * TO headrace_ops;
GRANT SELECT ON system.* TO headrace_ops;
GRANT KILL QUERY ON *.* TO headrace_ops;
GRANT SYSTEM RELOAD DICTIONARY ON *.* TO headrace_ops;

-- The dictionary `countries` (`python -m consumer countries`) reads its table as this account, from the server itself only.
-- The table holds nothing but public networks.
CREATE USER IF NOT EXISTS headrace_countries IDENTIFIED WITH no_password HOST LOCAL;
GRANT SELECT ON headrace.networks TO headrace_countries;

-- Accounts, for example:
--   CREATE USER worker IDENTIFIED WITH sha256_password BY '…' DEFAULT ROLE headrace_worker;
--   GRANT headrace_worker TO worker;
