-- Writes to which process the newest connection of each of these clients came. One that has a newer connection by now is left
-- as it is, and missing in the answer; the same one may be written twice. The process that had one before is told. In one order
-- everywhere, so that two that write the same clients do not wait for each other in a circle.
WITH taken AS (
    INSERT INTO waldelta.clients AS known (client_id, protocol, user_agent, connection, process)
    SELECT client_id, protocol, user_agent, connection, $5
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS here (client_id, protocol, user_agent, connection)
    ORDER BY client_id
    ON CONFLICT (client_id) DO UPDATE SET
        seen_at = now(), protocol = EXCLUDED.protocol, user_agent = EXCLUDED.user_agent,
        process_before = known.process, process = EXCLUDED.process, connection = EXCLUDED.connection
    WHERE coalesce(known.connection, 0) <= EXCLUDED.connection
    RETURNING client_id, connection, process_before
)
SELECT client_id, CASE WHEN process_before <> $5 THEN pg_notify($6, connection || ' ' || client_id)::text END AS told
FROM taken
