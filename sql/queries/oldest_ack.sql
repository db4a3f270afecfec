-- The oldest cursor, of those that can be resumed ($1 and later), which a client has acknowledged that was here since $2.
SELECT min(cursor) FROM waldelta.clients
WHERE cursor >= $1 COLLATE "C" AND seen_at > timestamptz 'epoch' + $2::bigint::float8 * interval '1 microsecond'
