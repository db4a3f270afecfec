-- Those that expired, some at a time. Whoever has one in hand is not waited for.
DELETE FROM waldelta.tickets WHERE hash IN (
    SELECT hash FROM waldelta.tickets WHERE expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
