-- The first step of taking over: whoever renews the lease learns that it has another holder now.
UPDATE waldelta.leases SET token = token + 1, holder = $2, backend_pid = NULL, backend_start = NULL,
    taken_at = clock_timestamp(), renewed_at = clock_timestamp()
WHERE capture_id = $1
