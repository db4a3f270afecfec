-- Whoever was noted within the minute, as the same program, is not written again.
INSERT INTO waldelta.clients AS known (client_id, protocol, user_agent)
SELECT client_id, protocol, user_agent
FROM unnest($1::text[], $2::text[], $3::text[]) AS seen (client_id, protocol, user_agent)
ORDER BY client_id
ON CONFLICT (client_id) DO UPDATE SET
    seen_at = now(), protocol = EXCLUDED.protocol, user_agent = EXCLUDED.user_agent
WHERE known.seen_at < now() - interval '55 seconds'
    OR (known.protocol, known.user_agent) IS DISTINCT FROM (EXCLUDED.protocol, EXCLUDED.user_agent)
