-- Seals over stretches of history, by which it can be told later whether somebody, or the disk, has altered what was stored.

-- Nothing refers to it, and it refers to nothing: what it says stands by itself, also where other tables were altered.
CREATE TABLE waldelta.seals (
    epoch           int NOT NULL,
    number          bigint NOT NULL,
    from_lsn        pg_lsn NOT NULL,
    from_seq        int NOT NULL,
    to_lsn          pg_lsn NOT NULL,
    to_seq          int NOT NULL,
    changes         bigint NOT NULL,
    changes_digest  bytea NOT NULL,
    shapes          bigint NOT NULL,
    shapes_digest   bytea NOT NULL,
    previous_digest bytea NOT NULL,
    digest          bytea NOT NULL,
    sealed_at       timestamptz NOT NULL,
    PRIMARY KEY (epoch, number)
);

CREATE UNIQUE INDEX seals_to_idx ON waldelta.seals (epoch, to_lsn, to_seq);

COMMENT ON TABLE waldelta.seals IS
    'What stretches of change_history and table_schemas add up to, each chained to the one before. See docs/how-to/verify.md.';
COMMENT ON COLUMN waldelta.seals.number IS 'Counts the seals of an epoch from 1. Those of what was pruned are removed, but for the newest.';
COMMENT ON COLUMN waldelta.seals.from_lsn IS 'With from_seq the first place of the stretch. What existed before the epoch has stretches of its own.';
COMMENT ON COLUMN waldelta.seals.to_lsn IS
    'With to_seq the first place behind the stretch; FFFFFFFF/FFFFFFFF: the epoch has ended, and nothing follows.';
COMMENT ON COLUMN waldelta.seals.changes IS 'Rows of change_history in it.';
COMMENT ON COLUMN waldelta.seals.changes_digest IS 'SHA-256 over the digests of these rows in order.';
COMMENT ON COLUMN waldelta.seals.shapes IS 'Rows of table_schemas in it.';
COMMENT ON COLUMN waldelta.seals.shapes_digest IS 'SHA-256 over the digests of these rows in order.';
COMMENT ON COLUMN waldelta.seals.previous_digest IS 'The digest of the seal before, also of an earlier epoch; zeros: there was none.';
COMMENT ON COLUMN waldelta.seals.digest IS 'SHA-256 over all of the other columns.';
COMMENT ON COLUMN waldelta.seals.sealed_at IS 'When, by the clock of this database.';
COMMENT ON INDEX waldelta.seals_to_idx IS 'Up to where is sealed.';

-- Whoever migrates may be another role than the one that owns the rest, and only a member of it.
DO $$
BEGIN
    EXECUTE format('ALTER TABLE waldelta.seals OWNER TO %s',
                   (SELECT relowner::regrole FROM pg_class WHERE oid = 'waldelta.captures'::regclass));
END
$$;
