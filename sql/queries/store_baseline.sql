INSERT INTO waldelta.history_from AS known (table_oid, epoch, lsn, baseline) VALUES ($1, $2, $3, true)
ON CONFLICT (table_oid) DO UPDATE SET epoch = EXCLUDED.epoch, lsn = EXCLUDED.lsn, baseline = true
WHERE NOT known.baseline
