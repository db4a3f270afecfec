-- What lies between two epochs is missing of all tables. Whatever tables needed repair, their readers begin anew in the next.
WITH closed AS (
    UPDATE waldelta.gaps SET to_epoch = $3, to_lsn = $4 WHERE to_lsn IS NULL
)
INSERT INTO waldelta.gaps (epoch, from_lsn, to_epoch, to_lsn, reason) VALUES ($1, $2, $3, $4, $5)
