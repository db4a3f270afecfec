-- Changes of an epoch from ($2, $3) on and before ($4, $5), $6 at most.
SELECT count(*) FROM (
    SELECT FROM waldelta.change_history
    WHERE epoch = $1 AND lsn >= $2 AND lsn <= $4 AND (lsn, seq) < ($4, $5) AND (lsn, seq) >= ($2, $3)
    LIMIT $6
) AS unsealed
