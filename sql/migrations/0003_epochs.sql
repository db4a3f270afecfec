-- Epochs that follow one another, and orders of an operator to leave something out of history.

ALTER TABLE waldelta.epochs ADD COLUMN continues boolean NOT NULL DEFAULT true;

COMMENT ON TABLE waldelta.epochs IS
    'Uninterrupted incarnations of the source. LSNs of two epochs are not comparable.';
COMMENT ON COLUMN waldelta.epochs.previous IS 'The epoch before; null for the first.';
COMMENT ON COLUMN waldelta.epochs.fork_lsn IS
    'Where the source''s timeline left that of the epoch before; null where it is the same timeline, or another source.';
COMMENT ON COLUMN waldelta.epochs.start_lsn IS 'Everything that committed at or after this place is stored.';
COMMENT ON COLUMN waldelta.epochs.end_lsn IS
    'Where it ends; null for the current one. What is stored of it at or after this place did not survive in the source.';
COMMENT ON COLUMN waldelta.epochs.continues IS
    'Whether nothing is missing between the epoch before and this one: true for the first, and where that one ends at start_lsn.';

-- A gap of all tables begins in one epoch and ends in the next, and a table can be repaired in a later epoch.
ALTER TABLE waldelta.gaps ADD COLUMN to_epoch int REFERENCES waldelta.epochs;

COMMENT ON COLUMN waldelta.gaps.epoch IS 'The epoch that from_lsn belongs to.';
COMMENT ON COLUMN waldelta.gaps.table_oid IS 'The table; null: all tables.';
COMMENT ON COLUMN waldelta.gaps.to_epoch IS 'The epoch that to_lsn belongs to; null: the same as from_lsn.';
COMMENT ON COLUMN waldelta.gaps.reason IS
    'Why. added: the table was published while transactions were open, and joins by itself.';

CREATE TABLE waldelta.skips (
    epoch      int NOT NULL REFERENCES waldelta.epochs,
    lsn        pg_lsn NOT NULL,
    seq        int CHECK (seq >= 0),
    ordered_by text NOT NULL,
    why        text NOT NULL,
    ordered_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX skips_place_idx ON waldelta.skips (epoch, lsn, coalesce(seq, -1));

COMMENT ON TABLE waldelta.skips IS
    'What an operator has ordered to be left out. What was left out stands in change_history as operation skip.';
COMMENT ON COLUMN waldelta.skips.lsn IS 'Commit LSN of the transaction.';
COMMENT ON COLUMN waldelta.skips.seq IS 'The change''s place in the transaction, from 0; null: the whole transaction.';
COMMENT ON INDEX waldelta.skips_place_idx IS 'One order for one place.';

COMMENT ON COLUMN waldelta.change_history.operation IS
    'insert, update, delete, truncate, message, schema, baseline; reset: the table is to be read afresh; skip: something was '
    'left out here by order.';
COMMENT ON COLUMN waldelta.change_history.schema_version IS
    'Of the table, in table_schemas. Null where there is no row of it: message, reset, and skip of a table that is not known.';
