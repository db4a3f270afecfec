UPDATE waldelta.epochs SET end_lsn = $2 WHERE epoch = $1
