-- Tables whose rows are no longer what their changes add up to, and what the source's catalog said of each table when it
-- was last looked at, by which that is noticed.

-- A gap without an end is open: the table needs repair. It has one such gap at most.
ALTER TABLE waldelta.gaps ALTER COLUMN to_lsn DROP NOT NULL;

CREATE UNIQUE INDEX gaps_open_idx ON waldelta.gaps (table_oid) WHERE to_lsn IS NULL;

COMMENT ON TABLE waldelta.gaps IS
    'Stretches in which rows changed in a way that history has no changes of; table_oid null: rows of all tables.';
COMMENT ON COLUMN waldelta.gaps.from_lsn IS
    'Where the stretch begins: what committed before it, and not at it, is told whole.';
COMMENT ON COLUMN waldelta.gaps.to_lsn IS 'Where the stretch ends; null: it is open, the table needs repair.';
COMMENT ON INDEX waldelta.gaps_open_idx IS 'A table has at most one open gap.';

-- Of a partitioned root: FULL by itself, but not in all of its partitions.
ALTER TABLE waldelta.table_schemas
    DROP CONSTRAINT table_schemas_identity_check,
    ADD CONSTRAINT table_schemas_identity_check
        CHECK (identity IN ('default', 'nothing', 'full', 'mixed', 'index'));

COMMENT ON COLUMN waldelta.table_schemas.columns IS
    '[{number, name, type_oid, type_modifier, type_name, kind, nullable, identity}], in the order of the stream. number is '
    'attnum, 0 or absent where it was not known; kind, how values become JSON, is absent where type_oid says it.';
COMMENT ON COLUMN waldelta.table_schemas.identity IS
    'What an update or delete carries of the old row; mixed: of a partitioned table that is FULL with partitions that are not.';

-- Text and not jsonb: it is compared and parsed by the program alone, and text holds it in every encoding.
CREATE TABLE waldelta.source_fingerprints (
    table_oid   oid PRIMARY KEY,
    fingerprint text NOT NULL,
    noted_at    timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE waldelta.source_fingerprints IS
    'What the source''s catalog said of each table''s physical state when it was last looked at.';
COMMENT ON COLUMN waldelta.source_fingerprints.fingerprint IS 'JSON, as the program wrote it.';
COMMENT ON COLUMN waldelta.source_fingerprints.noted_at IS 'When it changed last, by the clock of this database.';

COMMENT ON COLUMN waldelta.change_history.transaction_id IS
    'Null for baseline, and for a logical message that belongs to no transaction.';
COMMENT ON COLUMN waldelta.history_from.lsn IS
    'Everything of the table that committed at or after this place is stored: at the commit in which it first appeared, or at '
    'the start of the epoch where it has a baseline. Of a table that was added to the publication later, a transaction that '
    'was open in that moment may be there in part.';
