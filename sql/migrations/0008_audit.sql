-- Who came, who was turned away, who looked into the past, and what was changed by whom. It is only ever added to.

CREATE TABLE waldelta.audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    action     text NOT NULL,
    subject    text,
    client_id  text,
    address    inet,
    detail     jsonb NOT NULL DEFAULT '{}',
    written_by text NOT NULL DEFAULT session_user
);

CREATE INDEX audit_at_idx ON waldelta.audit (at);

CREATE FUNCTION waldelta.refuse_audit_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'waldelta.audit is only ever added to: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Its owner can disable the trigger audit_is_append_only, and should say so where it is seen.';
END
$$;

CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON waldelta.audit
    FOR EACH STATEMENT EXECUTE FUNCTION waldelta.refuse_audit_change();
-- Also for a session that plays a replica.
ALTER TABLE waldelta.audit ENABLE ALWAYS TRIGGER audit_is_append_only;

COMMENT ON TABLE waldelta.audit IS
    'Who came, who was turned away, who looked into the past, and what was changed by whom. It has no row''s values, no tokens and '
    'no claims but the subject. Only ever added to.';
COMMENT ON COLUMN waldelta.audit.at IS 'When it happened, by the clock of this database.';
COMMENT ON COLUMN waldelta.audit.action IS
    'session_began, session_refused, row_history_read, rules_changed, config_reloaded, token_created, token_revoked, '
    'history_pruned, recovered, skipped, tables_added, tables_removed.';
COMMENT ON COLUMN waldelta.audit.subject IS
    'Of a client: whose token it was. Of an operator''s order: who says so. Of a token: whose it is.';
COMMENT ON COLUMN waldelta.audit.client_id IS 'The client''s own id, as far as it was known.';
COMMENT ON COLUMN waldelta.audit.address IS 'Where it came from.';
COMMENT ON COLUMN waldelta.audit.detail IS 'What the action alone does not say: codes, tables, cursors, counts, fingerprints.';
COMMENT ON COLUMN waldelta.audit.written_by IS 'The role of this database that wrote it.';
COMMENT ON INDEX waldelta.audit_at_idx IS 'What happened between two times.';

-- Whoever migrates may be another role than the one that owns the rest, and only a member of it. The sequence goes with its table.
DO $$
DECLARE
    owner regrole := (SELECT relowner FROM pg_class WHERE oid = 'waldelta.captures'::regclass);
BEGIN
    EXECUTE format('ALTER TABLE waldelta.audit OWNER TO %s', owner);
    EXECUTE format('ALTER FUNCTION waldelta.refuse_audit_change OWNER TO %s', owner);
END
$$;
