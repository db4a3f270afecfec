-- The last statement of a prune, and its guard: no row when another writer has taken over.
UPDATE waldelta.captures SET
    floor_epoch = CASE WHEN (floor_epoch, floor_lsn) < ($3, $4) THEN $3 ELSE floor_epoch END,
    floor_lsn = CASE WHEN (floor_epoch, floor_lsn) < ($3, $4) THEN $4 ELSE floor_lsn END,
    pruned_epoch = CASE WHEN pruned_epoch IS NULL OR (pruned_epoch, pruned_lsn) < ($3, $4) THEN $3 ELSE pruned_epoch END,
    pruned_lsn = CASE WHEN pruned_epoch IS NULL OR (pruned_epoch, pruned_lsn) < ($3, $4) THEN $4 ELSE pruned_lsn END,
    pruned_time = greatest(pruned_time, timestamptz 'epoch' + $5::bigint::float8 * interval '1 microsecond')
WHERE id = $1 AND token = $2
RETURNING floor_epoch, floor_lsn
