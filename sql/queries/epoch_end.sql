SELECT end_lsn FROM waldelta.epochs WHERE epoch = $1
