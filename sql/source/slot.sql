-- A replication slot. $1: its name.
-- A lost slot has no restart_lsn or a wal_status that says so; a physical one has neither plugin nor database. What only newer
-- versions tell is read from the row as JSON: invalidation_reason, failover, synced, inactive_since from 17 on, conflicting from
-- 16 on. A standby counts safe_wal_size from a place that it does not write at: there it is what the limit leaves.
SELECT coalesce(slot.plugin::text, '') AS plugin,
       coalesce(slot.database::text, '') AS database,
       slot.active_pid,
       slot.confirmed_flush_lsn::text AS confirmed,
       slot.restart_lsn::text AS restart,
       slot.wal_status,
       CASE
           WHEN slot.safe_wal_size IS NULL OR NOT pg_is_in_recovery() THEN slot.safe_wal_size
           ELSE greatest(pg_size_bytes(current_setting('max_slot_wal_keep_size')),
                         pg_size_bytes(current_setting('wal_keep_size')))
                - pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), slot.restart_lsn)
       END::int8 AS safe_wal_bytes,
       coalesce(pg_wal_lsn_diff(
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END,
           slot.restart_lsn
       ), 0)::int8 AS retained_bytes,
       coalesce(slot.two_phase, false) AS two_phase,
       told ->> 'invalidation_reason' AS invalidation_reason,
       (told ->> 'conflicting')::bool AS conflicting,
       (told ->> 'failover')::bool AS failover,
       (told ->> 'synced')::bool AS synced,
       extract(epoch FROM clock_timestamp() - (told ->> 'inactive_since')::timestamptz)::int8 AS inactive_seconds
FROM pg_replication_slots AS slot, to_jsonb(slot) AS told
WHERE slot.slot_name = $1
