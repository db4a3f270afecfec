-- Who the source is, and where its WAL and its transaction ids are now.
-- Everybody may ask for the control data unless somebody has revoked that. The timeline is taken from the WAL being
-- written, because the control data still has the old one for a while after a promotion; a standby has only those.
SELECT s.system_identifier,
       CASE
           WHEN pg_is_in_recovery() THEN (SELECT c.timeline_id::int8 FROM pg_control_checkpoint() c)
           ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int8
       END AS timeline,
       d.oid AS database_oid,
       d.datname::text AS database,
       current_setting('server_encoding') AS encoding,
       current_setting('server_version_num')::int4 AS version,
       current_setting('wal_level') AS wal_level,
       pg_is_in_recovery() AS is_standby,
       pg_snapshot_xmax(pg_current_snapshot())::text AS next_xid,
       CASE
           WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
           ELSE pg_current_wal_insert_lsn()
       END::text AS wal_end
FROM pg_control_system() s, pg_database d
WHERE d.datname = current_database()
