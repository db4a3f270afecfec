INSERT INTO waldelta.history_from (table_oid, epoch, lsn) VALUES ($1, $2, $3) ON CONFLICT (table_oid) DO NOTHING
