INSERT INTO waldelta.epochs (epoch, start_lsn, partition_bytes, reason) VALUES ($1, $2, $3, $4)
