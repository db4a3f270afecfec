-- History is kept as long as somebody says: what was pruned, how old what is left is, and orders to prune.

ALTER TABLE waldelta.captures
    ADD COLUMN pruned_epoch int,
    ADD COLUMN pruned_lsn pg_lsn,
    ADD COLUMN pruned_time timestamptz;

COMMENT ON COLUMN waldelta.captures.floor_lsn IS
    'Everything that committed at or after this place, of floor_epoch and later ones, can be resumed.';
COMMENT ON COLUMN waldelta.captures.pruned_epoch IS 'The epoch that pruned_lsn belongs to; null: nothing was ever pruned.';
COMMENT ON COLUMN waldelta.captures.pruned_lsn IS
    'What committed before this place is not in change_history any more, or is about to be removed.';
COMMENT ON COLUMN waldelta.captures.pruned_time IS
    'The newest commit time among the last changes of what was pruned, by the source''s clock.';

-- A few for as long as history is kept: between two of them the age of a change is not known more exactly.
CREATE TABLE waldelta.retention_marks (
    epoch int NOT NULL,
    lsn   pg_lsn NOT NULL,
    at    timestamptz NOT NULL,
    PRIMARY KEY (epoch, lsn)
);

COMMENT ON TABLE waldelta.retention_marks IS
    'At which time everything before a place was stored, by the clock of this database: how old what is stored there is.';

CREATE TABLE waldelta.prune_orders (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    keep       text NOT NULL,
    force      boolean NOT NULL,
    ordered_at timestamptz NOT NULL DEFAULT now(),
    done_at    timestamptz,
    outcome    text
);

COMMENT ON TABLE waldelta.prune_orders IS
    'Orders to prune, which the one process that writes history carries out: nobody else removes anything.';
COMMENT ON COLUMN waldelta.prune_orders.keep IS 'How much is to be kept, as in the configuration: 30d, 200GB.';
COMMENT ON COLUMN waldelta.prune_orders.force IS 'Whether also what clients that were here of late have yet to read.';
COMMENT ON COLUMN waldelta.prune_orders.outcome IS 'What came of it, as JSON of the program''s.';

-- Whoever migrates may be another role than the one that owns the rest, and only a member of it.
DO $$
DECLARE
    owner regrole := (SELECT relowner FROM pg_class WHERE oid = 'waldelta.captures'::regclass);
BEGIN
    EXECUTE format('ALTER TABLE waldelta.retention_marks OWNER TO %s', owner);
    EXECUTE format('ALTER TABLE waldelta.prune_orders OWNER TO %s', owner);
END
$$;
