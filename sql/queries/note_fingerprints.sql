INSERT INTO waldelta.source_fingerprints AS known (table_oid, fingerprint)
SELECT DISTINCT ON (table_oid) table_oid, fingerprint
FROM unnest($1::oid[], $2::text[]) WITH ORDINALITY AS noted (table_oid, fingerprint, number)
ORDER BY table_oid, number DESC
ON CONFLICT (table_oid) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, noted_at = now()
WHERE known.fingerprint <> EXCLUDED.fingerprint
