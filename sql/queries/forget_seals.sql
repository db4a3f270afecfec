-- The seals of what was pruned whole, of each epoch from the oldest on, so that no hole is left among the others. The newest of each
-- stays: the next is chained to it. Only the writer does this.
WITH kept AS (
    SELECT seals.epoch, least(max(number), min(number) FILTER (
        WHERE seals.epoch = pruned_epoch AND (to_lsn, to_seq) > (pruned_lsn, 0))) AS number
    FROM waldelta.seals, waldelta.captures
    WHERE captures.id = $1 AND token = $2 AND seals.epoch <= pruned_epoch
    GROUP BY seals.epoch
)
DELETE FROM waldelta.seals AS old USING kept WHERE old.epoch = kept.epoch AND old.number < kept.number
