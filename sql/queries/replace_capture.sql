-- The last statement of a change of epochs, and its guard: it hits the one row that this writer left, or another writer has
-- taken over.
UPDATE waldelta.captures SET
    system_id = $5, timeline = $6, database_oid = $7, slot = $8, publication = $9, epoch = $10, durable_end = $11,
    floor_epoch = CASE WHEN $12 THEN floor_epoch ELSE $10 END,
    floor_lsn = CASE WHEN $12 THEN floor_lsn ELSE $11 END,
    moved_at = clock_timestamp()
WHERE id = $1 AND token = $2 AND epoch = $3 AND durable_end = $4
