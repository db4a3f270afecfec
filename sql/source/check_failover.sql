-- Standbys, as far as they show, and whether a slot follows a failover. $1: the slot's name.
-- A standby's connection belongs to no database. What came with PostgreSQL 17 is asked for by way of jsonb, or as a setting
-- that may be missing: it is no error before.
SELECT ARRAY(SELECT s.slot_name::text FROM pg_replication_slots s
             WHERE s.slot_type = 'physical' AND NOT s.temporary ORDER BY 1) AS standby_slots,
       EXISTS (SELECT FROM pg_stat_replication r
               JOIN pg_stat_activity a ON a.pid = r.pid
               WHERE a.datid IS NULL AND coalesce(r.state, 'streaming') IN ('streaming', 'catchup')) AS has_standby,
       EXISTS (SELECT FROM pg_replication_slots s WHERE s.slot_name = $1) AS has_slot,
       (SELECT (to_jsonb(s) ->> 'failover')::boolean FROM pg_replication_slots s WHERE s.slot_name = $1) AS is_failover,
       coalesce(current_setting('synchronized_standby_slots', true), '') AS synchronized
