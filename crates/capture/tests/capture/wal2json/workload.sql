-- DEFAULT: nothing of the old row, its key, a key that changes, TOAST that does not, a key that is TOAST.
INSERT INTO by_default VALUES (1, 'one', repeat('x', 2100)), (2, NULL, '');
UPDATE by_default SET name = 'uno' WHERE id = 1;
UPDATE by_default SET name = 'eins', big = repeat('z', 3000) WHERE id = 1;
UPDATE by_default SET id = 10 WHERE id = 1;
UPDATE by_default SET big = NULL WHERE id = 10;
DELETE FROM by_default WHERE id = 2;
INSERT INTO big_key VALUES (repeat('k', 2100), 1);
UPDATE big_key SET n = 2;
UPDATE big_key SET k = 'small';
DELETE FROM big_key;

-- FULL: the whole old row, which has the TOAST that the new one lacks.
INSERT INTO by_full VALUES (1, 'one', repeat('y', 2100)), (2, NULL, NULL);
UPDATE by_full SET name = NULL WHERE id = 1;
UPDATE by_full SET big = 'small' WHERE id = 1;
UPDATE by_full SET id = id + 10;
DELETE FROM by_full;

-- USING INDEX of other columns than the primary key; a key of several columns, not in their order.
INSERT INTO by_index VALUES (1, 'a@example.com', 'a');
UPDATE by_index SET name = 'b', id = 2;
UPDATE by_index SET email = 'b@example.com';
DELETE FROM by_index;
INSERT INTO composed_key VALUES ('x', 1, '2024-02-29'), ('y', 2, '2024-02-29');
UPDATE composed_key SET n = n + 1;
UPDATE composed_key SET a = '2025-01-01' WHERE b = 'x';
DELETE FROM composed_key WHERE b = 'y';

-- A stored generated column, which is not published, in the middle.
INSERT INTO generated VALUES (1, DEFAULT, 'x');
UPDATE generated SET id = 3;
UPDATE generated SET name = repeat('n', 3000);
DELETE FROM generated;

-- Names and values that need escapes.
INSERT INTO "Odd ""Näme"".x\, y" VALUES (1, E'tab\t quote" back\\slash \u0001 \u007f é 😀\r\n');
UPDATE "Odd ""Näme"".x\, y" SET "a.b" = 2;

-- Partitions under their own names, also where a row moves from one to the other.
INSERT INTO parted VALUES ('north', 1, 'a'), ('south', 2, 'b');
UPDATE parted SET v = 'c';
UPDATE parted SET region = 'south' WHERE id = 1;
DELETE FROM parted WHERE id = 2;
TRUNCATE parted;

-- Several tables in one TRUNCATE, among rows.
BEGIN;
INSERT INTO by_default VALUES (20, 'gone', NULL);
TRUNCATE by_default, big_key, by_full;
INSERT INTO by_default VALUES (21, 'after', NULL);
COMMIT;

-- Savepoints: one is kept, one rolled back, one inside another.
BEGIN;
INSERT INTO by_default VALUES (30, 'kept', NULL);
SAVEPOINT a;
INSERT INTO by_default VALUES (31, 'rolled back', NULL);
ROLLBACK TO a;
SAVEPOINT b;
UPDATE by_default SET name = 'kept too' WHERE id = 30;
SAVEPOINT c;
DELETE FROM by_default WHERE id = 30;
ROLLBACK TO c;
RELEASE b;
COMMIT;
BEGIN;
INSERT INTO by_default VALUES (32, 'never', NULL);
ROLLBACK;

-- Messages: in a transaction, outside of any; authors; an empty one.
BEGIN;
SELECT waldelta.set_client('web-7', '{"user": "42"}');
INSERT INTO by_default VALUES (40, 'with author', NULL);
SELECT pg_logical_emit_message(false, 'app.now', 'not of the transaction');
SELECT pg_logical_emit_message(true, 'app.note', 'say "hi" \ é');
SELECT waldelta.set_client('web-8', '{}');
UPDATE by_default SET name = 'another author' WHERE id = 40;
COMMIT;
SELECT pg_logical_emit_message(true, 'alone', '');
SELECT pg_logical_emit_message(true, '', '');

-- Types by how they are printed: as numbers, booleans, without what begins them, as strings of their text.
INSERT INTO kinds (id) VALUES (1);
INSERT INTO kinds VALUES (2, -32768, 9007199254740993, 1e-7, '1e+300', 12345678901234567890.0100, 4000000000, true, '\x00ff', 'x', 'n', 'ab', 'v',
    '2024-02-29', '12:34:56.7', '12:34:56+02', '2024-02-29 12:34:56.789', '2024-02-29 12:34:56+02', '1 mon 2 days', '{"a": [1, 2.50]}', '{"b": null}', '<a/>',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', B'101', B'11', 12.5, '77', '(1,2)', '(2,2),(1,1)', '0/16B3748', '''a'':1', 'a & b',
    '[1,5)', '{[1,2),[3,4]}', 'pg_class',
    '{1,NULL}', '{NaN,Infinity}', '{t,f}', '{"\\x00","\\x"}', '{"a\"b",NULL}', '{{ok},{sad}}', ARRAY['{"a": 1}', '[]']::jsonb[], ARRAY[(1, 'x y')::pair, NULL],
    'ok', '1.50', '-0', true, '\x01', 'dom', '{a,b}', '(1,"x y")', ROW((2, 'in "it"')::pair, '{sad,ok}', 'NaN'), '"a"=>"b", "c"=>NULL', 'CiTeXt');
INSERT INTO kinds (id, f4, f8, n, t, by, b) VALUES (3, '-0', '-0', 0.000, '', '', false);
INSERT INTO kinds (id, d, ts, tstz) VALUES (4, '-infinity', 'infinity', '0044-03-15 12:00:00+00 BC');
INSERT INTO kinds (id, n, f8, f4) VALUES (5, repeat('9', 400)::numeric, 5e-324, 3.4028235e38), (6, -0.00000000000000000000000000000000000000001, 1.7976931348623157e308, 1e-45);
UPDATE kinds SET t = 'other', co = '(,)', ne = NULL, hs = '';
DELETE FROM kinds WHERE id > 2;

-- A shape that changes, with rows before and after each change.
INSERT INTO changing VALUES (1, 'a', 1);

-- DDL
ALTER TABLE changing ADD COLUMN extra numeric(6,2) DEFAULT 1.50;
UPDATE changing SET n = 2;
INSERT INTO changing VALUES (2, 'b', 2, 3.14);

-- DDL
ALTER TABLE changing DROP COLUMN a;
UPDATE changing SET n = 3;
INSERT INTO changing VALUES (3, 3);

-- DDL
ALTER TABLE changing RENAME COLUMN n TO m;
DELETE FROM changing WHERE id = 3;
UPDATE changing SET m = 4;

-- DDL
ALTER TABLE changing ALTER COLUMN m TYPE bigint;
UPDATE changing SET m = 5000000000;

-- DDL
ALTER TABLE changing REPLICA IDENTITY FULL;
UPDATE changing SET m = 6;

-- DDL and a row in one transaction.
BEGIN;
ALTER TABLE changing REPLICA IDENTITY DEFAULT;
ALTER TABLE changing ADD COLUMN late text;
INSERT INTO changing VALUES (7, 7, 7, 'seven');
COMMIT;

-- DDL
ALTER TYPE mood ADD VALUE 'happy';

-- after DDL
INSERT INTO kinds (id, m, am) VALUES (10, 'happy', '{happy}');

-- DDL
UPDATE changing SET m = id;
ALTER TABLE changing DROP CONSTRAINT changing_pkey;
ALTER TABLE changing ADD PRIMARY KEY (m);
INSERT INTO changing VALUES (8, 8);
UPDATE changing SET late = 'eight' WHERE m = 8;
