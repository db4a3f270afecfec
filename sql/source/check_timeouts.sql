-- wal_sender_timeout in milliseconds, and which timeouts somebody has set for the role, the database, or both together.
SELECT (SELECT s.setting::int8 FROM pg_settings s WHERE s.name = 'wal_sender_timeout') AS wal_sender_ms,
       ARRAY(SELECT DISTINCT split_part(c.setting, '=', 1)
             FROM pg_db_role_setting r
             CROSS JOIN unnest(r.setconfig) AS c (setting)
             WHERE (r.setdatabase = 0 OR r.setdatabase = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
               AND (r.setrole = 0 OR r.setrole = current_user::regrole)
               AND split_part(c.setting, '=', 1) = ANY ('{statement_timeout,lock_timeout,idle_in_transaction_session_timeout,idle_session_timeout,transaction_timeout}')
             ORDER BY 1) AS overridden
