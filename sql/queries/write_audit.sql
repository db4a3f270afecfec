-- What waited to be written happened earlier, by as many seconds.
INSERT INTO waldelta.audit (at, action, subject, client_id, address, detail)
SELECT clock_timestamp() - make_interval(secs => waited), action, subject, client_id, address::inet, detail::jsonb
FROM unnest($1::float8[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    AS entry (waited, action, subject, client_id, address, detail)
