-- Nothing where so many live already. Whoever changes tokens holds the row of access_revisions, so that none is added meanwhile.
INSERT INTO waldelta.tokens (id, name, subject, claims, client_ids, is_admin, hash, expires_at)
SELECT $1, $2, $3, $4::jsonb, $5, $6, $7, $8
WHERE (
    SELECT count(*) FROM waldelta.tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
) < $9
