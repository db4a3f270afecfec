-- Commit time of the last change between two places of a partition's epoch, in microseconds. It is asked of the partition alone: a
-- statement about all of change_history takes a lock on each of its partitions and their indexes.
SELECT (extract(epoch FROM "timestamp") * 1000000)::bigint FROM waldelta.{name}
WHERE epoch = $1 AND lsn >= $2 AND lsn < $3
ORDER BY lsn DESC, seq DESC LIMIT 1
