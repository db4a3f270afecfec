-- The seal that the next one is chained to; see read_seals.sql.
SELECT epoch, number, from_lsn, from_seq, to_lsn, to_seq, changes, changes_digest, shapes, shapes_digest, previous_digest, digest,
    timestamptz_send(sealed_at)
FROM waldelta.seals
ORDER BY epoch DESC, number DESC
LIMIT 1
