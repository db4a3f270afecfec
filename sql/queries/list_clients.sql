-- For people, and rarely: an index would cost every note of a client more than it saves here.
SELECT client_id, cursor, acked_at, seen_at, first_seen_at, protocol, user_agent
FROM waldelta.clients
ORDER BY seen_at DESC, client_id
LIMIT $1
