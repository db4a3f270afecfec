-- Of what was pruned nothing is left, rows that existed before history among it.
SELECT table_from.epoch, table_from.lsn,
    baseline AND NOT coalesce((table_from.epoch, table_from.lsn) <= (pruned_epoch, pruned_lsn), false)
FROM waldelta.history_from AS table_from, waldelta.captures
WHERE table_oid = $1 AND captures.id = $2
