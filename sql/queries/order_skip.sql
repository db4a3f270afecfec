-- Only while its place is still to come. Ordering the same again replaces who and why.
INSERT INTO waldelta.skips (epoch, lsn, seq, ordered_by, why)
SELECT epoch, $2, $3, $4, $5 FROM waldelta.captures WHERE id = $1 AND durable_end <= $2
ON CONFLICT (epoch, lsn, coalesce(seq, -1)) DO UPDATE
    SET ordered_by = EXCLUDED.ordered_by, why = EXCLUDED.why, ordered_at = now()
