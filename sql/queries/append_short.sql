-- An append of few rows in one statement, and so in one round trip: the guard of move_durable_end.sql and the rows, one array for
-- each column. The statement is its own transaction: without a row that the guard hits it is an error, and nothing of it is there.
WITH moved AS (
    UPDATE waldelta.captures SET durable_end = $1, moved_at = clock_timestamp()
    WHERE id = $2 AND token = $3 AND epoch = $4 AND durable_end = $5
    RETURNING 1
), guard AS MATERIALIZED (
    SELECT 1 / count(*) FROM moved
)
INSERT INTO waldelta.{name} ({columns})
SELECT added.*
FROM guard, unnest(
    $6::pg_lsn[], $7::xid8[], $8::timestamptz[], $9::int[], $10::int[], $11::oid[], $12::int[], $13::uuid[],
    $14::text[], $15::text[], $16::text[], $17::jsonb[], $18::jsonb[], $19::jsonb[], $20::text[]
) AS added
