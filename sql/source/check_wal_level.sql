-- The WAL level in effect, and whether another is only waiting for a restart.
-- effective_wal_level came with PostgreSQL 19, where it can be higher than the setting.
SELECT coalesce(current_setting('effective_wal_level', true), s.setting) AS wal_level, s.pending_restart
FROM pg_settings s
WHERE s.name = 'wal_level'
