-- A transaction of a partition, before a place, that a snapshot of the source does not show. Both conditions are on the expression that
-- has the index.
SELECT transaction_id::text::bigint FROM waldelta.{name}
WHERE (transaction_id::text::bigint >= $1 OR transaction_id::text::bigint = ANY ($2)) AND epoch = $3 AND lsn < $4
LIMIT 1
