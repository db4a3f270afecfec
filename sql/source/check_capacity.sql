-- Whether a slot and a walsender are left.
SELECT current_setting('max_replication_slots')::int4 - (SELECT count(*) FROM pg_replication_slots)::int4 AS free_slots,
       current_setting('max_wal_senders')::int4 - (SELECT count(*) FROM pg_stat_replication)::int4 AS free_senders
