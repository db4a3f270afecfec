-- Event triggers that tell by a transactional logical message what no row message tells: DDL that changes rows, and DDL
-- after which the catalog says something new of a table.
--
-- An application's DDL must neither fail nor wait because of them: whatever goes wrong is a warning, and next to catalogs only
-- the sizes of relations are read, which the command itself has locked. The functions that the triggers call run with
-- their owner's rights, because the role that runs the DDL may not see schema waldelta or may not emit messages; they take
-- no argument from anybody and call nothing outside pg_catalog and this file.
--
-- A command does not say what it changed about a relation. But it wrote rows of the catalog anew, and those bear its
-- transaction id: their age lies between newest and oldest, see ddl_changed.

-- Whether a relation, or a partition of it, has a page: without one it has no row that could have changed.
CREATE OR REPLACE FUNCTION waldelta.ddl_has_pages(relation oid)
RETURNS boolean
LANGUAGE plpgsql
STABLE
AS $waldelta$
BEGIN
    RETURN EXISTS (
        WITH RECURSIVE below AS (
            SELECT c.oid, c.relkind FROM pg_class c WHERE c.oid = relation
            UNION ALL
            SELECT c.oid, c.relkind
            FROM below b
            JOIN pg_inherits i ON i.inhparent = b.oid AND b.relkind = 'p'
            JOIN pg_class c ON c.oid = i.inhrelid
        )
        SELECT FROM below b WHERE CASE b.relkind WHEN 'r' THEN pg_relation_size(b.oid) > 0 ELSE b.relkind <> 'p' END);
EXCEPTION WHEN OTHERS THEN
    RETURN true;
END
$waldelta$;

-- As what the changes of relations are published, by any publication: as their own, or as those of the topmost ancestor in
-- the publication. A row per relation and name; lists_columns where every publication lists columns, so that a new one is
-- not published. 6237 is pg_publication_namespace, which came with PostgreSQL 15: its dependencies can be asked for before.
CREATE OR REPLACE FUNCTION waldelta.ddl_published(relations oid[])
RETURNS TABLE (relation oid, published oid, lists_columns boolean)
LANGUAGE plpgsql
STABLE
AS $waldelta$
BEGIN
    RETURN QUERY
    WITH RECURSIVE above AS (
        SELECT c.oid AS leaf, c.relkind, c.oid AS ancestor, c.relnamespace, c.relispartition, 0 AS height
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (relations) AND c.oid >= 16384 AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
          AND n.nspname <> 'waldelta'
        UNION ALL
        SELECT a.leaf, a.relkind, c.oid, c.relnamespace, c.relispartition, a.height + 1
        FROM above a
        JOIN pg_inherits i ON i.inhrelid = a.ancestor AND a.relispartition
        JOIN pg_class c ON c.oid = i.inhparent
    ),
    schemas AS MATERIALIZED (
        SELECT p.refobjid AS publication, s.refobjid AS namespace
        FROM pg_depend p
        JOIN pg_depend s ON s.classid = 6237 AND s.objid = p.objid AND s.refclassid = 'pg_namespace'::regclass
        WHERE p.classid = 6237 AND p.refclassid = 'pg_publication'::regclass
    ),
    members AS (
        SELECT a.leaf, a.relkind, a.ancestor, a.height, p.oid AS publication, p.pubviaroot,
               to_jsonb(r) ->> 'prattrs' IS NOT NULL AS lists
        FROM above a
        CROSS JOIN pg_publication p
        LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = a.ancestor
        WHERE p.puballtables OR r.oid IS NOT NULL OR EXISTS (
            SELECT FROM schemas s WHERE s.publication = p.oid AND s.namespace = a.relnamespace)
    ),
    topmost AS (
        SELECT DISTINCT ON (m.leaf, m.publication) m.leaf, m.ancestor, m.lists
        FROM members m
        WHERE m.pubviaroot
        ORDER BY m.leaf, m.publication, m.height DESC
    )
    SELECT n.leaf, n.ancestor, bool_and(n.lists)
    FROM (
        SELECT t.leaf, t.ancestor, t.lists FROM topmost t
        UNION ALL
        SELECT m.leaf, m.leaf, bool_or(m.lists AND m.height = 0)
        FROM members m
        WHERE NOT m.pubviaroot AND m.relkind = 'r'
        GROUP BY m.leaf, m.publication
    ) n
    GROUP BY n.leaf, n.ancestor;
END
$waldelta$;

-- Emits the message, unless there is nothing to tell. reasons[n] is what happened to relations[n]; null where the catalog is
-- only to be asked again.
CREATE OR REPLACE FUNCTION waldelta.ddl_tell(tag text, relations oid[], reasons text[])
RETURNS void
LANGUAGE plpgsql
AS $waldelta$
DECLARE
    told jsonb;
BEGIN
    WITH told_of AS MATERIALIZED (
        SELECT f.reason, p.published::bigint AS published, p.lists_columns
        FROM unnest(relations, reasons) AS f (relation, reason)
        JOIN waldelta.ddl_published(relations) p ON p.relation = f.relation
    ),
    repairs AS (
        SELECT DISTINCT t.published, t.reason
        FROM told_of t
        WHERE t.reason IS NOT NULL AND NOT (t.reason = 'default_added' AND t.lists_columns)
    )
    SELECT jsonb_build_object(
        'tag', tag,
        'repairs', (SELECT coalesce(jsonb_agg(jsonb_build_object('table', r.published, 'reason', r.reason)), '[]')
                    FROM repairs r),
        'forget', jsonb_agg(DISTINCT t.published))
    INTO told
    FROM told_of t
    HAVING count(*) > 0;
    IF told IS NOT NULL THEN
        PERFORM pg_logical_emit_message(true, 'waldelta.ddl', told::text);
    END IF;
END
$waldelta$;

-- Whether there is anybody to tell: a publication, and a WAL that can be decoded.
CREATE OR REPLACE FUNCTION waldelta.ddl_is_heard()
RETURNS boolean
LANGUAGE plpgsql
STABLE
AS $waldelta$
BEGIN
    RETURN coalesce(current_setting('effective_wal_level', true), current_setting('wal_level')) = 'logical'
        AND EXISTS (SELECT FROM pg_publication);
END
$waldelta$;

-- What became of the columns of a relation and of all that have them from it: partitions, heirs, tables of its type. New
-- columns are the last ones, and the relation's own row, which counts them, is as new.
CREATE OR REPLACE FUNCTION waldelta.ddl_columns(named oid, renames boolean, newest int, oldest int)
RETURNS TABLE (relation oid, reason text)
LANGUAGE plpgsql
STABLE
AS $waldelta$
BEGIN
    RETURN QUERY
    WITH RECURSIVE shaped AS (
        SELECT named AS oid
        UNION
        SELECT x.oid
        FROM shaped s
        CROSS JOIN LATERAL (
            SELECT i.inhrelid AS oid FROM pg_inherits i WHERE i.inhparent = s.oid
            UNION ALL
            SELECT t.oid
            FROM pg_class c
            JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid = c.reltype
                AND d.classid = 'pg_class'::regclass AND d.objsubid = 0
            JOIN pg_class t ON t.oid = d.objid AND t.reloftype = c.reltype
            WHERE c.oid = s.oid AND c.relkind = 'c'
        ) x
    ),
    reasons AS (
        SELECT s.oid, CASE
                   WHEN renames THEN 'column_renamed'
                   WHEN age(c.xmin) BETWEEN newest AND oldest AND EXISTS (
                       SELECT FROM pg_attribute a
                       WHERE a.attrelid = s.oid AND a.atthasmissing AND NOT EXISTS (
                           SELECT FROM pg_attribute later
                           WHERE later.attrelid = s.oid AND later.attnum >= a.attnum
                             AND age(later.xmin) NOT BETWEEN newest AND oldest))
                   THEN 'default_added'
               END AS reason
        FROM shaped s
        JOIN pg_class c ON c.oid = s.oid AND c.relkind = 'r'
    )
    SELECT r.oid, CASE WHEN r.reason IS NOT NULL AND waldelta.ddl_has_pages(r.oid) THEN r.reason END FROM reasons r;
END
$waldelta$;

-- Whether rows came or went with partitions that were attached or detached. To attach a table writes all of its columns
-- anew, while one that was created as a partition has columns as they were created, by the same command as those of the
-- system. Nothing says of what a detached table was a partition, but all of its columns are written anew, and are those of
-- its parent.
CREATE OR REPLACE FUNCTION waldelta.ddl_moves_rows(named oid, newest int, oldest int)
RETURNS boolean
LANGUAGE plpgsql
STABLE
AS $waldelta$
DECLARE
    candidate oid;
BEGIN
    FOR candidate IN
        SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = named AND age(i.xmin) BETWEEN newest AND oldest
    LOOP
        IF NOT EXISTS (
            SELECT
            FROM pg_attribute a
            JOIN pg_attribute s ON s.attrelid = a.attrelid AND s.attnum = -1
            WHERE a.attrelid = candidate AND a.attnum > 0 AND a.attinhcount > 0 AND a.xmin = s.xmin AND a.cmin = s.cmin
        ) AND waldelta.ddl_has_pages(candidate) THEN
            RETURN true;
        END IF;
    END LOOP;
    FOR candidate IN
        SELECT c.oid
        FROM pg_class c
        WHERE age(c.xmin) BETWEEN newest AND oldest AND c.oid <> named AND c.relkind IN ('r', 'p')
          AND NOT c.relispartition AND c.relpersistence <> 't'
    LOOP
        IF NOT EXISTS (
            SELECT FROM pg_attribute a
            WHERE a.attrelid = candidate AND a.attnum > 0 AND NOT a.attisdropped
              AND (a.attinhcount > 0 OR age(a.xmin) NOT BETWEEN newest AND oldest)
        ) AND NOT EXISTS (
            SELECT FROM pg_attribute a
            WHERE a.attrelid = named AND a.attnum > 0 AND NOT a.attisdropped AND NOT EXISTS (
                SELECT FROM pg_attribute o
                WHERE o.attrelid = candidate AND o.attname = a.attname AND o.atttypid = a.atttypid)
        ) AND waldelta.ddl_has_pages(candidate) THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$waldelta$;

-- Whether an enum's value was renamed. One that was added in this transaction cannot be used yet, so that no row has it.
CREATE OR REPLACE FUNCTION waldelta.ddl_renames_value(altered oid, newest int, oldest int)
RETURNS boolean
LANGUAGE plpgsql
STABLE
AS $waldelta$
DECLARE
    label text;
BEGIN
    FOR label IN
        SELECT e.enumlabel FROM pg_enum e WHERE e.enumtypid = altered AND age(e.xmin) BETWEEN newest AND oldest
    LOOP
        BEGIN
            PERFORM enum_in(label::cstring, altered);
            RETURN true;
        EXCEPTION WHEN unsafe_new_enum_value_usage THEN
            NULL;
        END;
    END LOOP;
    RETURN false;
END
$waldelta$;

-- The tables with a column of a type, or of an array, domain, range or composite made of it. Where the type itself is new
-- in this transaction, so are those columns: their tables are locked, and may have no rows that are older.
CREATE OR REPLACE FUNCTION waldelta.ddl_users(altered oid, happened text, newest int, oldest int)
RETURNS TABLE (relation oid, reason text)
LANGUAGE plpgsql
STABLE
AS $waldelta$
DECLARE
    is_new boolean := EXISTS (
        SELECT
        FROM pg_type t
        JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.typarray
            AND d.refclassid = 'pg_type'::regclass AND d.refobjid = t.oid
        WHERE t.oid = altered AND age(d.xmin) BETWEEN newest AND oldest);
BEGIN
    RETURN QUERY
    WITH RECURSIVE uses AS (
        SELECT altered AS type, NULL::oid AS oid, NULL::"char" AS relkind
        UNION
        SELECT CASE WHEN d.classid = 'pg_type'::regclass THEN d.objid ELSE c.reltype END, c.oid, c.relkind
        FROM uses u
        JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid = u.type AND (
            d.classid = 'pg_type'::regclass OR (d.classid = 'pg_class'::regclass AND d.objsubid > 0))
        LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
    )
    SELECT u.oid, CASE WHEN is_new AND NOT waldelta.ddl_has_pages(u.oid) THEN NULL ELSE happened END
    FROM uses u
    WHERE u.relkind = 'r';
END
$waldelta$;

-- After a command: columns added with a default or renamed, partitions attached or detached, composites and enums altered.
CREATE OR REPLACE FUNCTION waldelta.ddl_changed()
RETURNS event_trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10ms'
SET jit = off
AS $waldelta$
DECLARE
    -- Rows of this transaction and its subtransactions are as old as it is, or younger than any finished one, by no more than
    -- the subtransactions that can be open at once. Others that were committed meanwhile look the same.
    oldest int;
    newest int;
    command record;
    altered record;
    reason text;
    relations oid[] := '{}';
    reasons text[] := '{}';
BEGIN
    IF NOT waldelta.ddl_is_heard() THEN
        RETURN;
    END IF;
    oldest := age(pg_current_xact_id()::xid);
    newest := least(oldest, age(pg_snapshot_xmax(pg_current_snapshot())::xid)) - 1000000;
    FOR command IN
        SELECT c.classid, c.objid, bool_or(c.objsubid > 0) AS renames, bool_or(c.command_tag = 'CREATE TABLE') AS creates
        FROM pg_event_trigger_ddl_commands() c
        WHERE c.objid IS NOT NULL AND c.classid IN ('pg_class'::regclass, 'pg_type'::regclass)
        GROUP BY c.classid, c.objid
    LOOP
        IF command.classid = 'pg_type'::regclass THEN
            reason := CASE WHEN waldelta.ddl_renames_value(command.objid, newest, oldest) THEN 'enum_renamed' END;
            CONTINUE WHEN reason IS NULL AND NOT EXISTS (
                SELECT FROM pg_type t WHERE t.oid = command.objid AND age(t.xmin) BETWEEN newest AND oldest);
            SELECT relations || array_agg(u.relation), reasons || array_agg(u.reason) INTO relations, reasons
            FROM waldelta.ddl_users(command.objid, reason, newest, oldest) u;
            CONTINUE;
        END IF;
        SELECT c.oid, c.relkind, c.reltype, c.relispartition, age(c.xmin) BETWEEN newest AND oldest AS is_recent,
               EXISTS (SELECT FROM pg_attribute a
                       WHERE a.attrelid = c.oid AND a.attnum > 0
                         AND age(a.xmin) BETWEEN newest AND oldest) AS has_recent,
               EXISTS (SELECT FROM pg_attribute a
                       WHERE a.attrelid = c.oid AND a.attisdropped
                         AND age(a.xmin) BETWEEN newest AND oldest) AS has_dropped
        INTO altered
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = command.objid AND c.relkind IN ('r', 'p', 'c', 'v', 'm', 'f') AND c.relpersistence <> 't'
          AND n.nspname <> 'waldelta';
        CONTINUE WHEN NOT FOUND OR (command.creates AND NOT altered.relispartition);
        relations := relations || altered.oid;
        reasons := reasons || CASE
            WHEN altered.relkind = 'p' AND NOT command.creates
                AND waldelta.ddl_moves_rows(altered.oid, newest, oldest) THEN 'partitions_changed'
        END;
        -- Partitions that are published by themselves have keys of their own.
        IF altered.has_recent OR (altered.relkind = 'p' AND EXISTS (SELECT FROM pg_publication p WHERE NOT p.pubviaroot))
        THEN
            SELECT relations || array_agg(c.relation), reasons || array_agg(c.reason) INTO relations, reasons
            FROM waldelta.ddl_columns(altered.oid, command.renames, newest, oldest) c;
        END IF;
        IF altered.has_recent
            AND (altered.relkind = 'c' OR command.renames OR altered.is_recent OR altered.has_dropped)
        THEN
            SELECT relations || array_agg(u.relation), reasons || array_agg(u.reason) INTO relations, reasons
            FROM waldelta.ddl_users(altered.reltype, 'type_changed', newest, oldest) u;
        END IF;
    END LOOP;
    IF cardinality(relations) > 0 THEN
        PERFORM waldelta.ddl_tell(tg_tag, relations, reasons);
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'waldelta cannot tell what % changed: %', tg_tag, SQLERRM;
END
$waldelta$;

-- After something was dropped: a partition, of which nothing says any more what it belonged to. But to drop one locks its
-- parent, which to drop another table does not.
CREATE OR REPLACE FUNCTION waldelta.ddl_dropped()
RETURNS event_trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10ms'
SET jit = off
AS $waldelta$
DECLARE
    parents oid[];
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_event_trigger_dropped_objects() d
        WHERE d.object_type = 'table' AND NOT d.is_temporary AND d.schema_name IS DISTINCT FROM 'waldelta'
    ) OR NOT waldelta.ddl_is_heard() THEN
        RETURN;
    END IF;
    SELECT array_agg(DISTINCT c.oid) INTO parents
    FROM pg_locks l
    JOIN pg_class c ON c.oid = l.relation AND c.relkind = 'p'
    WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
    IF parents IS NOT NULL THEN
        PERFORM waldelta.ddl_tell(tg_tag, parents, array_fill('partitions_changed'::text, ARRAY[cardinality(parents)]));
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'waldelta cannot tell what % dropped: %', tg_tag, SQLERRM;
END
$waldelta$;

-- Before a table is written anew: because of a default (2) or a type (4); or because of its persistence (1), where it was
-- unlogged, so that nobody knows what happened to its rows. Generated columns are not published before PostgreSQL 18.
CREATE OR REPLACE FUNCTION waldelta.ddl_rewritten()
RETURNS event_trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '10ms'
SET jit = off
AS $waldelta$
DECLARE
    oldest int;
    newest int;
    rewritten oid := pg_event_trigger_table_rewrite_oid();
    why int := pg_event_trigger_table_rewrite_reason();
BEGIN
    IF NOT waldelta.ddl_is_heard() THEN
        RETURN;
    END IF;
    oldest := age(pg_current_xact_id()::xid);
    newest := least(oldest, age(pg_snapshot_xmax(pg_current_snapshot())::xid)) - 1000000;
    IF why & 1 <> 0 AND EXISTS (SELECT FROM pg_class c WHERE c.oid = rewritten AND c.relpersistence = 'u') THEN
        why := why | 4;
    END IF;
    IF why & 6 = 2 AND current_setting('server_version_num')::int < 180000 AND NOT EXISTS (
        SELECT FROM pg_attribute a
        WHERE a.attrelid = rewritten AND a.attnum > 0 AND a.attgenerated = ''
          AND age(a.xmin) BETWEEN newest AND oldest
    ) THEN
        RETURN;
    END IF;
    IF why & 6 <> 0 AND waldelta.ddl_has_pages(rewritten) THEN
        PERFORM waldelta.ddl_tell(tg_tag, ARRAY[rewritten], ARRAY['rewritten']);
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'waldelta cannot tell what % rewrote: %', tg_tag, SQLERRM;
END
$waldelta$;

REVOKE ALL ON FUNCTION
    waldelta.ddl_has_pages(oid), waldelta.ddl_published(oid[]), waldelta.ddl_tell(text, oid[], text[]),
    waldelta.ddl_is_heard(), waldelta.ddl_columns(oid, boolean, int, int), waldelta.ddl_moves_rows(oid, int, int),
    waldelta.ddl_renames_value(oid, int, int), waldelta.ddl_users(oid, text, int, int), waldelta.ddl_changed(),
    waldelta.ddl_dropped(), waldelta.ddl_rewritten()
FROM PUBLIC;

-- ALWAYS: also where a session replays what happened elsewhere (session_replication_role = replica).
DROP EVENT TRIGGER IF EXISTS waldelta_ddl_changed;
CREATE EVENT TRIGGER waldelta_ddl_changed ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'ALTER TYPE', 'ALTER DOMAIN', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'ALTER FOREIGN TABLE',
                 'CREATE TABLE', 'CREATE VIEW', 'CREATE SCHEMA')
    EXECUTE FUNCTION waldelta.ddl_changed();
ALTER EVENT TRIGGER waldelta_ddl_changed ENABLE ALWAYS;
DROP EVENT TRIGGER IF EXISTS waldelta_ddl_dropped;
CREATE EVENT TRIGGER waldelta_ddl_dropped ON sql_drop EXECUTE FUNCTION waldelta.ddl_dropped();
ALTER EVENT TRIGGER waldelta_ddl_dropped ENABLE ALWAYS;
DROP EVENT TRIGGER IF EXISTS waldelta_ddl_rewritten;
CREATE EVENT TRIGGER waldelta_ddl_rewritten ON table_rewrite EXECUTE FUNCTION waldelta.ddl_rewritten();
ALTER EVENT TRIGGER waldelta_ddl_rewritten ENABLE ALWAYS
