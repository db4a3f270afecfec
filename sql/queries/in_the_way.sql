-- Whether a transaction that has lasted for more than a second has this partition, or all of change_history, open: whoever waits for
-- it would make everybody else wait. Since when one lasts is not told to a role that does not have pg_read_all_stats: then any counts
-- but its own, whose times it sees.
SELECT EXISTS (
    SELECT FROM pg_locks AS held
    JOIN pg_stat_activity AS activity USING (pid)
    WHERE held.locktype = 'relation' AND held.granted AND held.pid <> pg_backend_pid()
        AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND held.relation IN ('waldelta.change_history'::regclass, to_regclass($1))
        AND (activity.xact_start < clock_timestamp() - interval '1 second') IS NOT FALSE)
