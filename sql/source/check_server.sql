-- The server as far as capture depends on it.
SELECT current_setting('server_version_num')::int4 AS version,
       current_setting('server_version') AS version_text,
       pg_is_in_recovery() AS is_standby,
       current_setting('hot_standby_feedback')::boolean AS has_feedback,
       current_setting('server_encoding') AS encoding
