-- Nothing of any table is there from before the place up to which was pruned.
UPDATE waldelta.history_from SET epoch = $1, lsn = $2 WHERE (epoch, lsn) < ($1, $2)
