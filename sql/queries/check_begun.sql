-- A history that has begun: what feeds it, how far it goes, who writes it, how large it is. In the words of every version of
-- its schema.
SELECT c.slot, c.publication, c.system_id, c.database_oid, c.epoch, c.durable_end::text AS durable,
       date_trunc('second', c.moved_at)::text AS moved,
       (SELECT max(m.version) FROM waldelta._sqlx_migrations m) AS schema_version,
       (SELECT l.holder FROM waldelta.leases l WHERE l.backend_pid IS NOT NULL
          AND EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.backend_pid)) AS writer,
       (SELECT count(*) FROM pg_inherits i WHERE i.inhparent = 'waldelta.change_history'::regclass) AS partitions,
       (SELECT coalesce(sum(pg_total_relation_size(i.inhrelid)), 0)::int8
        FROM pg_inherits i WHERE i.inhparent = 'waldelta.change_history'::regclass) AS bytes,
       -- Of the current epoch: what is stored, and the WAL that it was made of.
       (SELECT coalesce(sum(pg_total_relation_size(i.inhrelid)), 0)::int8 FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhrelid
        WHERE i.inhparent = 'waldelta.change_history'::regclass
          AND starts_with(p.relname, format('change_history_e%s_', c.epoch))) AS own_bytes,
       greatest(pg_wal_lsn_diff(c.durable_end, CASE WHEN c.floor_epoch = c.epoch THEN c.floor_lsn
            ELSE (SELECT e.start_lsn FROM waldelta.epochs e WHERE e.epoch = c.epoch) END), 0)::int8 AS wal_bytes
FROM waldelta.captures c
