SELECT issuer, jti, subject, issued_before, revoked_at, expires_at
FROM waldelta.revocations
WHERE expires_at IS NULL OR expires_at > now()
ORDER BY id
LIMIT $1
