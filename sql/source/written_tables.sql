-- Which of some tables have pages, so that somebody has written to them. $1: their object ids.
SELECT c.oid
FROM pg_class c
WHERE c.oid = ANY ($1) AND pg_relation_size(c.oid) > 0
