-- A look at the source has found these tables ($2) other than they were: where their gap is open, it reaches up to $3, because
-- more can have happened to them than what opened it.
UPDATE waldelta.gaps SET found_epoch = $1, found_lsn = $3
WHERE to_lsn IS NULL AND table_oid = ANY ($2::oid[])
    AND (found_epoch IS DISTINCT FROM $1 OR found_lsn IS NULL OR found_lsn < $3)
