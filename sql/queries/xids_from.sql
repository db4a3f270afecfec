SELECT DISTINCT transaction_id
FROM waldelta.change_history
WHERE transaction_id::text::bigint >= $1 AND epoch = $2 AND lsn <= $3
LIMIT $4
