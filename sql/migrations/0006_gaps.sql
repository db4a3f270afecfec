-- How far a gap reaches: what opened it happened somewhere between its beginning and the place where it was noticed.

ALTER TABLE waldelta.gaps
    ADD COLUMN found_epoch int REFERENCES waldelta.epochs,
    ADD COLUMN found_lsn pg_lsn;

-- What is open by now was noticed by now. Of what has ended nobody knows more than that.
UPDATE waldelta.gaps SET found_epoch = captures.epoch, found_lsn = captures.durable_end
FROM waldelta.captures
WHERE gaps.to_lsn IS NULL;

CREATE INDEX gaps_table_idx ON waldelta.gaps (table_oid);

COMMENT ON COLUMN waldelta.gaps.found_epoch IS 'The epoch that found_lsn belongs to.';
COMMENT ON COLUMN waldelta.gaps.found_lsn IS
    'Where it was noticed, last: what no change tells happened before this place, and what committed at or after it tells rows as '
    'they are again. Null: not known; then it may have happened as long as the gap is open.';
COMMENT ON INDEX waldelta.gaps_table_idx IS 'What makes the rows of a table uncertain.';
