-- Ends a backend and waits up to $3 milliseconds until it is gone. No row: it was gone already. Its process id may have been
-- given to another one since, which began at another time.
SELECT pg_terminate_backend(pid, $3) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2
