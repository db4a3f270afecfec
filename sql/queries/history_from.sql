SELECT epoch, lsn, baseline FROM waldelta.history_from WHERE table_oid = $1
