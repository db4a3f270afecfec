-- The guard: the last statement of every append. It must hit the one row that this writer left, or another writer has
-- taken over. COMMIT is sent without waiting for the answer, so no row has to be an error: 1/0 makes it one. now() is when the SQL
-- transaction began, which for a large transaction may be long ago: what is stored with it is only as old as this statement.
WITH moved AS (
    UPDATE waldelta.captures SET durable_end = $1, moved_at = clock_timestamp()
    WHERE id = $2 AND token = $3 AND epoch = $4 AND durable_end = $5
    RETURNING 1
)
SELECT 1 / count(*) FROM moved
