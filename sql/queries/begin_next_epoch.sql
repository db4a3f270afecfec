INSERT INTO waldelta.epochs (epoch, previous, start_lsn, fork_lsn, partition_bytes, reason, continues)
VALUES ($1, $2, $3, $4, $5, $6, $7)
