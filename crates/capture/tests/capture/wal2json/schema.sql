CREATE EXTENSION hstore;
CREATE EXTENSION citext;

CREATE TABLE by_default (id int PRIMARY KEY, name text, big text);
ALTER TABLE by_default ALTER COLUMN big SET STORAGE EXTERNAL;
CREATE TABLE big_key (k text PRIMARY KEY, n int);
ALTER TABLE big_key ALTER COLUMN k SET STORAGE EXTERNAL;
CREATE TABLE by_full (id int PRIMARY KEY, name text, big text);
ALTER TABLE by_full ALTER COLUMN big SET STORAGE EXTERNAL;
ALTER TABLE by_full REPLICA IDENTITY FULL;
CREATE TABLE by_index (id int PRIMARY KEY, email text NOT NULL UNIQUE, name text);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_email_key;
CREATE TABLE composed_key (b text, n int, a date, PRIMARY KEY (a, b));
CREATE TABLE generated (id int PRIMARY KEY, double int GENERATED ALWAYS AS (id * 2) STORED, name text);
CREATE TABLE "Odd ""Näme"".x\, y" ("a.b" int, "c ""d""" text, PRIMARY KEY ("a.b"));
CREATE TABLE changing (id int PRIMARY KEY, a text, n int);

CREATE TABLE parted (region text, id int, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE parted_north PARTITION OF parted FOR VALUES IN ('north');
CREATE TABLE parted_south PARTITION OF parted FOR VALUES IN ('south');

CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE SCHEMA "My App";
CREATE DOMAIN "My App"."Money" AS numeric(8,2);
CREATE DOMAIN ratio AS float8;
CREATE DOMAIN flag AS bool;
CREATE DOMAIN bytes AS bytea;
CREATE DOMAIN word AS text;
CREATE DOMAIN words AS word[];
CREATE TYPE pair AS (a int, b text);
CREATE TYPE nested AS (p pair, m mood[], f float8);
CREATE TABLE kinds (
    id int PRIMARY KEY, i2 int2, i8 int8, f4 float4, f8 float8, n numeric, o oid, b bool, by bytea, c "char", na name, ch char(3), t varchar(9),
    d date, ti time, ttz timetz, ts timestamp, tstz timestamptz, iv interval, j json, jb jsonb, x xml,
    u uuid, ip inet, ci cidr, mac macaddr, bi bit(3), vb varbit, mo money, xi xid, po point, bx box, l pg_lsn, tv tsvector, tq tsquery,
    r int4range, mr nummultirange, rc regclass,
    ai int[], af float8[], ab bool[], aby bytea[], at text[], am mood[], aj jsonb[], ap pair[],
    m mood, dn "My App"."Money", df ratio, db flag, dby bytes, dt word, dw words, co pair, ne nested, hs hstore, ct citext
);
