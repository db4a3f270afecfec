SELECT epochs.epoch
FROM waldelta.epochs, waldelta.captures
WHERE captures.id = $1 AND $2 BETWEEN epochs.start_lsn AND coalesce(epochs.end_lsn, captures.durable_end)
