-- In one order everywhere, so that two that record the same clients do not wait for each other in a circle.
INSERT INTO waldelta.clients AS known (client_id, cursor, acked_at)
SELECT client_id, cursor, now() FROM unnest($1::text[], $2::text[]) AS acked (client_id, cursor)
ORDER BY client_id
ON CONFLICT (client_id) DO UPDATE SET
    cursor = greatest(known.cursor, EXCLUDED.cursor), acked_at = EXCLUDED.acked_at, seen_at = now()
