-- What decision 1 says of reading, of two keys and of the width of partitions. In an empty database of a cluster that nobody needs,
-- from the top of the repository:
--
--     psql -XqAt -f docs/decisions/0001-history-layout.sql
--
-- Each number is the shortest of so many rounds in which what is compared takes turns.
\set ON_ERROR_STOP on
SET client_min_messages = error;
\set rounds 9

CREATE SCHEMA waldelta;
\i sql/migrations/0001_history.sql
\i sql/migrations/0005_rows.sql
\set read_after `cat sql/queries/read_after.sql`
\set row_versions `cat sql/queries/row_versions.sql`

-- The shortest of some rounds, in ms, of statements that take turns.
CREATE FUNCTION shortest(rounds int, VARIADIC statements text[]) RETURNS float8[] LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz; took float8; best float8[] := array_fill(1e9::float8, ARRAY[cardinality(statements)]);
BEGIN
    FOR round IN 1..rounds LOOP
        FOR n IN 1..cardinality(statements) LOOP
            began := clock_timestamp();
            EXECUTE statements[n];
            took := 1000 * extract(epoch FROM clock_timestamp() - began);
            best[n] := least(best[n], took);
        END LOOP;
    END LOOP;
    RETURN best;
END $$;

-- 200,000 changes of 20,000 rows, 5 to a transaction, about 180 bytes of JSON.
CREATE UNLOGGED TABLE changes AS
SELECT '0/0'::pg_lsn + (n / 5 * 100 + 100) AS lsn, (n / 5)::text::xid8 AS transaction_id, now() AS "timestamp", 1 AS epoch,
    (n % 5)::int AS seq, 16400::oid AS table_oid, 1 AS schema_version, gen_random_uuid() AS id, 'update'::text AS operation,
    'public.orders'::text AS table_name, format('[%s]', n % 20000) AS row_key,
    jsonb_build_object('id', n % 20000, 'tenant', n % 100, 'amount', n * 1.25, 'note', repeat(md5(n::text), 2),
        'created_at', '2026-11-22T13:59:35.43+00:00', 'updated_at', '2026-11-22T13:59:35.43+00:00') AS data,
    NULL::jsonb AS old_data, NULL::jsonb AS metadata, NULL::text AS client_id
FROM generate_series(0, 199999) AS n;
VACUUM ANALYZE changes;

\echo reading: data::text of jsonb, and of json
CREATE UNLOGGED TABLE as_json AS SELECT lsn, seq, data::text::json AS data FROM changes;
CREATE UNLOGGED TABLE as_jsonb AS SELECT lsn, seq, data FROM changes;
VACUUM ANALYZE as_json, as_jsonb;
SELECT format('jsonb %s us a row, json %s, ratio %s', round((t[1] / 200)::numeric, 2), round((t[2] / 200)::numeric, 2),
    round((t[1] / t[2])::numeric, 2))
FROM shortest(:rounds, 'SELECT sum(length(data::text)) FROM as_jsonb', 'SELECT sum(length(data::text)) FROM as_json') AS t;

\echo appending: one key; the key before where it moved; both keys of each row
CREATE FUNCTION appended(name text, indexes text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE index text;
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE changes)', name);
    EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (epoch, lsn, seq)', name);
    FOREACH index IN ARRAY indexes LOOP EXECUTE format('CREATE INDEX ON %I %s', name, index); END LOOP;
END $$;
\set row_key '(hashtextextended(row_key, table_oid::bigint), lsn)'
\set moved '(hashtextextended(metadata ->> ''moved_from'', table_oid::bigint), lsn) WHERE metadata ? ''moved_from'''
\set before '(hashtextextended(coalesce(metadata ->> ''moved_from'', row_key), table_oid::bigint), lsn)'
SELECT appended('no_key', '{}'), appended('one_key', ARRAY[:'row_key']), appended('where_moved', ARRAY[:'row_key', :'moved']),
    appended('both_keys', ARRAY[:'row_key', :'before']) \g /dev/null
SELECT format('%s: %s us a row, %s of one key, index %s bytes a row', (ARRAY['no key', 'one key', 'where moved', 'both keys'])[n],
    round((t[n] / 200)::numeric, 2), round((t[n] / t[2])::numeric, 2),
    pg_indexes_size((ARRAY['no_key', 'one_key', 'where_moved', 'both_keys'])[n]::regclass) / 200000)
FROM shortest(:rounds, 'TRUNCATE no_key; INSERT INTO no_key SELECT * FROM changes',
    'TRUNCATE one_key; INSERT INTO one_key SELECT * FROM changes',
    'TRUNCATE where_moved; INSERT INTO where_moved SELECT * FROM changes',
    'TRUNCATE both_keys; INSERT INTO both_keys SELECT * FROM changes') AS t, generate_series(1, 4) AS n;

\echo width: the same 200,000 changes in so many partitions; a page of 1,000, and all versions of a row
\set counts {1,4,16,64,256}
SELECT format('CREATE TABLE waldelta.p%s_%s PARTITION OF waldelta.change_history FOR VALUES FROM (%s, %L) TO (%s, %L)',
    count, part, count, '0/0'::pg_lsn + width * part, count, '0/0'::pg_lsn + width * (part + 1))
FROM unnest(:'counts'::int[]) AS count, generate_series(0, count - 1) AS part, LATERAL (SELECT 4194304 / count AS width) AS of_each
\gexec
INSERT INTO waldelta.change_history
SELECT lsn, transaction_id, "timestamp", count, seq, table_oid, schema_version, id, operation, table_name, row_key, data, old_data,
    metadata, client_id
FROM changes, unnest(:'counts'::int[]) AS count;
VACUUM ANALYZE waldelta.change_history;
PREPARE page (int, pg_lsn, int, pg_lsn, int, bigint) AS :read_after;
PREPARE versions (int, oid, text, pg_lsn, int, pg_lsn, int, int) AS :row_versions;
SET plan_cache_mode = force_custom_plan;
SELECT format('%s partitions: page %s ms, versions %s ms', count, round(page[1]::numeric, 2), round(versions[1]::numeric, 2))
FROM unnest(:'counts'::int[]) AS count,
    shortest(15, format('EXECUTE page (%s, %L, 0, %L, 1000, 1048576)', count, '0/1E8480', 'F/0')) AS page,
    shortest(15, format('EXECUTE versions (%s, 16400, %L, %L, 0, %L, 1000, 0)', count, '[7]', '0/0', 'F/0')) AS versions;
