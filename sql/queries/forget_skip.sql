-- One that was reached stays: what it left out is missing for good.
DELETE FROM waldelta.skips USING waldelta.captures
WHERE captures.id = $1 AND skips.epoch = captures.epoch AND skips.lsn >= captures.durable_end
    AND skips.lsn = $2 AND skips.seq IS NOT DISTINCT FROM $3
