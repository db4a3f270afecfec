-- What a sweep begins with; no row for a writer that is not the one any more. $3 microseconds are added to this database's clock.
SELECT captures.epoch, durable_end, floor_epoch, floor_lsn, pruned_epoch, pruned_lsn,
    (extract(epoch FROM moved_at) * 1000000)::bigint + $3 AS moved_us,
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $3 AS now_us
FROM waldelta.captures
WHERE id = $1 AND token = $2
