-- A transactional logical message, committed with this statement. $1: its prefix, $2: its content.
SELECT pg_catalog.pg_logical_emit_message(true, $1::text, $2::text)
