-- The walsender that holds a slot, if it is one of ours: of this role, and under one of our names. $1: the slot, $2: the
-- walsender, $3: the name that we go by, $4: whether it is ended.
SELECT CASE WHEN $4 THEN pg_catalog.pg_terminate_backend(activity.pid) END AS ended
FROM pg_catalog.pg_stat_activity AS activity
JOIN pg_catalog.pg_replication_slots AS slot ON slot.active_pid = activity.pid
WHERE slot.slot_name = $1
  AND activity.pid = $2
  AND activity.backend_type = 'walsender'
  AND activity.usename = session_user
  AND (activity.application_name = $3 OR activity.application_name LIKE 'waldelta%')
