-- Two tables that came later belong to whoever owns the rest, as all others do: whoever migrated may have been another role, and only a
-- member of it. Where these two may not be given away they stay as they are.
DO $$
DECLARE
    owner regrole := (SELECT relowner FROM pg_class WHERE oid = 'waldelta.captures'::regclass);
    theirs regclass;
BEGIN
    FOR theirs IN
        SELECT oid::regclass FROM pg_class
        WHERE oid IN ('waldelta.source_fingerprints'::regclass, 'waldelta.skips'::regclass) AND relowner <> owner
            AND pg_has_role(relowner, 'USAGE') AND pg_has_role(owner, 'USAGE')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %s', theirs, owner);
    END LOOP;
END
$$;
