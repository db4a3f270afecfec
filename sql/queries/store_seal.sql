-- No row where another writer has taken over, or where something of the stretch was pruned while it was read.
INSERT INTO waldelta.seals (epoch, number, from_lsn, from_seq, to_lsn, to_seq, changes, changes_digest, shapes, shapes_digest,
    previous_digest, digest, sealed_at)
SELECT $3::int, $4::bigint, $5::pg_lsn, $6::int, $7::pg_lsn, $8::int, $9::bigint, $10::bytea, $11::bigint, $12::bytea,
    $13::bytea, $14::bytea, timestamptz 'epoch' + $15::bigint * interval '1 microsecond'
FROM waldelta.captures
WHERE id = $1 AND token = $2 AND (pruned_epoch IS NULL OR (pruned_epoch, pruned_lsn) <= ($3, $5))
