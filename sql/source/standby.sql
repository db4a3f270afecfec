-- Whether the server is a standby, of which cluster, and the newest timeline that it is known to follow. Each of the three that
-- know it may lag; the receiver shows itself only to roles that may read statistics.
SELECT pg_is_in_recovery() AS is_standby,
       s.system_identifier,
       greatest(
           c.timeline_id,
           r.min_recovery_end_timeline,
           (SELECT max(w.received_tli) FROM pg_stat_wal_receiver w)
       )::int8 AS timeline
FROM pg_control_system() s, pg_control_checkpoint() c, pg_control_recovery() r
