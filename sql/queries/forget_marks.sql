-- The newest of those at or before a place stays: it says how old the floor is.
DELETE FROM waldelta.retention_marks AS old
WHERE (epoch, lsn) < ($1, $2) AND EXISTS (
    SELECT FROM waldelta.retention_marks AS newer
    WHERE (newer.epoch, newer.lsn) > (old.epoch, old.lsn) AND (newer.epoch, newer.lsn) <= ($1, $2))
