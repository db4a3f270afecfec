INSERT INTO waldelta.captures
    (id, system_id, timeline, database_oid, slot, publication, epoch, durable_end, floor_epoch, floor_lsn)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $7, $8)
ON CONFLICT (id) DO NOTHING
