-- A change of one epoch ($1) from $2 on and strictly below $3 whose transaction committed at or after $4: mostly the first one.
SELECT lsn
FROM waldelta.change_history
WHERE epoch = $1 AND lsn >= $2 AND lsn < $3 AND "timestamp" >= $4
LIMIT 1
