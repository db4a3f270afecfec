-- What a seal, or a look at the seals, begins with; no row for a writer that is not the one any more. $2 null: whoever asks.
SELECT epoch, durable_end, pruned_epoch, pruned_lsn, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
FROM waldelta.captures
WHERE id = $1 AND ($2::bigint IS NULL OR token = $2)
