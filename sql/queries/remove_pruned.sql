-- The oldest of what lies before the place up to which was pruned, of a partition that reaches beyond it: what is behind ($6, $7), up
-- to which a round before this one has removed it. How many, and the last. Only the writer does this.
WITH old AS MATERIALIZED (
    SELECT ctid, lsn, seq FROM waldelta.{name}
    WHERE epoch = $1 AND (lsn, seq) > ($6, $7) AND lsn < $2
    ORDER BY lsn, seq
    LIMIT $3
), gone AS (
    DELETE FROM waldelta.{name} WHERE ctid = ANY (ARRAY(SELECT ctid FROM old))
        AND EXISTS (SELECT FROM waldelta.captures WHERE id = $4 AND token = $5)
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone), lsn, seq FROM old ORDER BY lsn DESC, seq DESC LIMIT 1
