-- A replication slot. $1: its name.
-- A lost slot has no restart_lsn; a physical one neither plugin nor database.
SELECT coalesce(plugin::text, '') AS plugin,
       coalesce(database::text, '') AS database,
       active_pid,
       confirmed_flush_lsn::text AS confirmed,
       restart_lsn::text AS restart,
       wal_status,
       safe_wal_size AS safe_wal_bytes,
       coalesce(pg_wal_lsn_diff(
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END,
           restart_lsn
       ), 0)::int8 AS retained_bytes
FROM pg_replication_slots
WHERE slot_name = $1
