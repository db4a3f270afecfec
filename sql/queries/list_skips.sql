-- Orders that were not reached yet, in the order in which they will be.
SELECT skips.lsn, skips.seq, skips.ordered_by, skips.why
FROM waldelta.skips, waldelta.captures
WHERE captures.id = $1 AND skips.epoch = captures.epoch AND skips.lsn >= captures.durable_end
ORDER BY skips.lsn, skips.seq NULLS FIRST
LIMIT $2
