-- The first step of taking over: whoever renews the lease learns that it has another holder now. Says which backend had it.
WITH had AS (
    SELECT capture_id, backend_pid, backend_start FROM waldelta.leases WHERE capture_id = $1 FOR UPDATE
)
UPDATE waldelta.leases AS lease SET token = token + 1, holder = $2, backend_pid = NULL, backend_start = NULL,
    taken_at = clock_timestamp(), renewed_at = clock_timestamp()
FROM had
WHERE lease.capture_id = had.capture_id
RETURNING had.backend_pid, had.backend_start
