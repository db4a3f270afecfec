-- Epochs that know everything of theirs that committed before this LSN. At the place where one ends and the next goes on
-- without a gap, both do, and it is the next one's. What did not survive lies beyond an epoch's end.
SELECT epochs.epoch
FROM waldelta.epochs, waldelta.captures
WHERE captures.id = $1 AND $2 BETWEEN epochs.start_lsn AND coalesce(epochs.end_lsn, captures.durable_end)
    AND NOT EXISTS (
        SELECT FROM waldelta.epochs AS next
        WHERE next.previous = epochs.epoch AND next.continues AND next.start_lsn = $2
    )
