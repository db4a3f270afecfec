-- What was revoked before: for a subject up to now, and for the longer of the two times.
UPDATE waldelta.revocations SET
    issued_before = CASE WHEN subject IS NOT NULL THEN now() END,
    revoked_at = now(),
    expires_at = CASE WHEN expires_at IS NOT NULL AND $4::timestamptz IS NOT NULL THEN greatest(expires_at, $4) END
WHERE issuer = $1 AND jti IS NOT DISTINCT FROM $2 AND subject IS NOT DISTINCT FROM $3
