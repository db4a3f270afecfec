-- Whether commits wait, or may come to wait, for a walsender of ours. $1: its pid, $2: its application_name.
-- Who may not read the statistics of others sees no state: then the setting says whether the name is meant.
SELECT coalesce(
    (SELECT sender.sync_state <> 'async' FROM pg_catalog.pg_stat_replication AS sender WHERE sender.pid = $1),
    EXISTS (
        SELECT FROM regexp_split_to_table(current_setting('synchronous_standby_names'), '[[:space:],()"]+') AS name
        WHERE name = '*' OR lower(name) = lower($2)
    )
) AS is_synchronous
