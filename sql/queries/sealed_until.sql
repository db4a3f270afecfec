-- Up to where an epoch is sealed that begins at $2: what existed before it, and what was changed in it.
SELECT before.to_lsn, before.to_seq, since.to_lsn, since.to_seq
FROM (VALUES (1)) AS one (row)
LEFT JOIN LATERAL (
    SELECT to_lsn, to_seq FROM waldelta.seals WHERE epoch = $1 AND (to_lsn, to_seq) <= ($2, 0)
    ORDER BY to_lsn DESC, to_seq DESC LIMIT 1
) AS before ON true
LEFT JOIN LATERAL (
    SELECT to_lsn, to_seq FROM waldelta.seals WHERE epoch = $1 AND (to_lsn, to_seq) > ($2, 0)
    ORDER BY to_lsn DESC, to_seq DESC LIMIT 1
) AS since ON true
