-- Who is let in: static tokens, what was taken back of tokens that others sign, and tickets that can be used once.

CREATE TABLE waldelta.tokens (
    id         text PRIMARY KEY,
    name       text NOT NULL,
    subject    text NOT NULL,
    claims     jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(claims) = 'object'),
    client_ids text[] NOT NULL DEFAULT '{}',
    is_admin   boolean NOT NULL DEFAULT false,
    hash       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE waldelta.revocations (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issuer        text NOT NULL,
    jti           text,
    subject       text,
    issued_before timestamptz,
    revoked_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    CHECK ((jti IS NULL) <> (subject IS NULL)),
    CHECK ((subject IS NULL) = (issued_before IS NULL))
);

CREATE UNIQUE INDEX revocations_jti_idx ON waldelta.revocations (issuer, jti) WHERE jti IS NOT NULL;
CREATE UNIQUE INDEX revocations_subject_idx ON waldelta.revocations (issuer, subject) WHERE subject IS NOT NULL;

-- What lives for half a minute need not outlive a crash, nor go through the WAL. Who somebody is stands here as bytes of JSON: the
-- encoding of the database has no say in which names there are.
CREATE UNLOGGED TABLE waldelta.tickets (
    hash       bytea PRIMARY KEY,
    owner      bytea NOT NULL,
    identity   bytea NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE INDEX tickets_owner_idx ON waldelta.tickets (owner);
CREATE INDEX tickets_expires_idx ON waldelta.tickets (expires_at);

-- Counts what is done to tokens and revocations, also by hand: processes ask for this number, and read the rest when it moved.
-- Its one row is also what changes wait for one after the other, so that bounds on their number hold.
CREATE TABLE waldelta.access_revisions (
    id       int PRIMARY KEY CHECK (id = 1),
    revision bigint NOT NULL
);

INSERT INTO waldelta.access_revisions VALUES (1, 1);

CREATE FUNCTION waldelta.count_access_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    UPDATE waldelta.access_revisions SET revision = revision + 1 WHERE id = 1;
    RETURN NULL;
END
$$;

CREATE TRIGGER tokens_are_counted AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON waldelta.tokens
    FOR EACH STATEMENT EXECUTE FUNCTION waldelta.count_access_change();
CREATE TRIGGER revocations_are_counted AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON waldelta.revocations
    FOR EACH STATEMENT EXECUTE FUNCTION waldelta.count_access_change();
-- Also for a session that plays a replica.
ALTER TABLE waldelta.tokens ENABLE ALWAYS TRIGGER tokens_are_counted;
ALTER TABLE waldelta.revocations ENABLE ALWAYS TRIGGER revocations_are_counted;

COMMENT ON TABLE waldelta.tokens IS 'Static tokens. The text of none of them is kept.';
COMMENT ON COLUMN waldelta.tokens.id IS 'The part of a token that names it. No secret.';
COMMENT ON COLUMN waldelta.tokens.name IS 'What people call it.';
COMMENT ON COLUMN waldelta.tokens.subject IS 'Whose it is: the claim sub.';
COMMENT ON COLUMN waldelta.tokens.claims IS 'What the rules may look at beside the subject.';
COMMENT ON COLUMN waldelta.tokens.client_ids IS
    'Client ids that it may use; one that ends with * is the beginning of some. Empty: any.';
COMMENT ON COLUMN waldelta.tokens.is_admin IS 'Whether it is one of an operator.';
COMMENT ON COLUMN waldelta.tokens.hash IS 'Argon2id of its secret, in the PHC string format.';
COMMENT ON COLUMN waldelta.tokens.expires_at IS 'When it ends by itself. Null: it does not.';
COMMENT ON COLUMN waldelta.tokens.revoked_at IS 'When it was taken back.';
COMMENT ON TABLE waldelta.revocations IS
    'What was taken back of JSON web tokens: one by its id, or all of a subject that were issued up to a time.';
COMMENT ON COLUMN waldelta.revocations.issuer IS 'The claim iss.';
COMMENT ON COLUMN waldelta.revocations.jti IS 'The claim jti of the one that is meant.';
COMMENT ON COLUMN waldelta.revocations.subject IS 'The claim sub of those that are meant.';
COMMENT ON COLUMN waldelta.revocations.issued_before IS 'Those are meant that were issued up to this time, or do not say when.';
COMMENT ON COLUMN waldelta.revocations.expires_at IS
    'When all that are meant have expired by themselves, so that this can be forgotten. Null: never.';
COMMENT ON INDEX waldelta.revocations_jti_idx IS 'A token is revoked once.';
COMMENT ON INDEX waldelta.revocations_subject_idx IS 'One time for one subject.';
COMMENT ON TABLE waldelta.tickets IS 'Tickets that can be used once in place of a token, for half a minute.';
COMMENT ON COLUMN waldelta.tickets.hash IS 'SHA-256 of its text, which is not kept.';
COMMENT ON COLUMN waldelta.tickets.owner IS 'SHA-256 of where its token comes from and whose that is: nobody has more than so many.';
COMMENT ON COLUMN waldelta.tickets.identity IS 'Who presents it, as its token said: JSON.';
COMMENT ON INDEX waldelta.tickets_owner_idx IS 'How many tickets somebody has.';
COMMENT ON INDEX waldelta.tickets_expires_idx IS 'What can be removed.';
COMMENT ON TABLE waldelta.access_revisions IS 'One row: how often tokens and revocations were changed.';
COMMENT ON FUNCTION waldelta.count_access_change IS 'Tokens or revocations were changed.';

-- Whoever migrates may be another role than the one that owns the rest, and only a member of it. The sequence goes with its table.
DO $$
DECLARE
    owner regrole := (SELECT relowner FROM pg_class WHERE oid = 'waldelta.captures'::regclass);
BEGIN
    EXECUTE format('ALTER TABLE waldelta.tokens OWNER TO %s', owner);
    EXECUTE format('ALTER TABLE waldelta.revocations OWNER TO %s', owner);
    EXECUTE format('ALTER TABLE waldelta.tickets OWNER TO %s', owner);
    EXECUTE format('ALTER TABLE waldelta.access_revisions OWNER TO %s', owner);
    EXECUTE format('ALTER FUNCTION waldelta.count_access_change OWNER TO %s', owner);
END
$$;
