-- The newest epochs, newest first.
SELECT epoch, previous, start_lsn, end_lsn, continues, fork_lsn, reason, started_at
FROM waldelta.epochs
ORDER BY epoch DESC
LIMIT $1
