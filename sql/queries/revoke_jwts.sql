-- One token by its id, or all of a subject that were issued up to now. Nothing where so many revocations are kept already.
INSERT INTO waldelta.revocations AS known (issuer, jti, subject, issued_before, expires_at)
SELECT $1, $2::text, $3::text, CASE WHEN $3::text IS NOT NULL THEN now() END, $4
WHERE (SELECT count(*) FROM waldelta.revocations WHERE expires_at IS NULL OR expires_at > now()) < $5
