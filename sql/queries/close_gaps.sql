-- Ends the open gap of each of these tables at the commit that resets it. One that begins after that commit stays open.
UPDATE waldelta.gaps AS known SET to_epoch = $1, to_lsn = found.to_lsn
FROM unnest($2::oid[], $3::pg_lsn[]) AS found (table_oid, to_lsn)
WHERE known.table_oid = found.table_oid AND known.to_lsn IS NULL
    AND (known.epoch < $1 OR (known.epoch = $1 AND known.from_lsn <= found.to_lsn))
RETURNING known.reason
