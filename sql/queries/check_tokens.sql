-- Static tokens that end by themselves within seven days, soonest first.
SELECT id, name, date_trunc('second', expires_at)::text AS ends
FROM waldelta.tokens
WHERE revoked_at IS NULL AND expires_at > now() AND expires_at < now() + interval '7 days'
ORDER BY expires_at, id
LIMIT 100
