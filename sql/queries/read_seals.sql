-- An altered time may be infinite: it is read as it is stored.
-- Seals behind ($1, $2), in order.
SELECT epoch, number, from_lsn, from_seq, to_lsn, to_seq, changes, changes_digest, shapes, shapes_digest, previous_digest, digest,
    timestamptz_send(sealed_at)
FROM waldelta.seals
WHERE (epoch, number) > ($1::bigint, $2::bigint)
ORDER BY epoch, number
LIMIT $3
