-- The gaps of table $1 and those of all tables, the newest first, $2 at most: each with where it was noticed and where it ends.
SELECT epoch, from_lsn, found_epoch, found_lsn, coalesce(to_epoch, epoch), to_lsn
FROM waldelta.gaps
WHERE table_oid = $1 OR table_oid IS NULL
ORDER BY epoch DESC, from_lsn DESC, id DESC
LIMIT $2
