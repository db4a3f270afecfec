-- Those that live first, then those of yesterday, newest first.
SELECT id, name, subject, claims::text, client_ids, is_admin, hash, created_at, expires_at, revoked_at
FROM waldelta.tokens
ORDER BY (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())) DESC, created_at DESC, id
LIMIT $1
