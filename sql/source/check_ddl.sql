-- The event triggers that tell of DDL, and which of them do not fire. They can be switched off altogether since PostgreSQL 17.
SELECT coalesce(array_agg(e.evtname::text ORDER BY e.evtname), '{}') AS triggers,
       coalesce(array_agg(e.evtname::text ORDER BY e.evtname) FILTER (WHERE e.evtenabled NOT IN ('A', 'O')), '{}') AS disabled,
       coalesce(current_setting('event_triggers', true), 'on') AS event_triggers
FROM pg_event_trigger e
WHERE e.evtname LIKE 'waldelta\_ddl\_%'
