//! The tables that are written to, one for each way in which a row can be known: by a small key, a composite one, an index, all of its
//! columns, none; with values out of line; in partitions; with values of every type; with shapes that change, with messages and
//! without.

use std::fmt::Write;

use crate::workload::owned;
use crate::workload::values::EVERY;

/// How many writers there are. Each has rows of its own, so that none waits long for another.
pub(crate) const WRITERS: u64 = 6;

/// Clients whose changes some transactions are: some of a round's recorders, and one that never comes.
pub(crate) const AUTHORS: [&str; 5] =
    ["recorder 0", "recorder 1", "recorder of parts", "recorder of tenant 0", "somebody else"];

const TYPES: &str = "
    CREATE EXTENSION hstore;
    CREATE EXTENSION citext;
    CREATE EXTENSION ltree;
    CREATE TYPE mood AS ENUM ('sad', 'o k', 'say \"hi\"', 'it''s');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN cash AS positive;
    CREATE DOMAIN tags AS text[];
    CREATE TYPE point3 AS (x float8, y numeric, label text);
    CREATE TYPE line3 AS (a point3, b point3[], m mood, at timestamptz, doc jsonb);
    CREATE TYPE span AS RANGE (subtype = float8);
    CREATE FUNCTION as_jsonb(doc json) RETURNS jsonb LANGUAGE plpgsql AS
        'BEGIN RETURN doc::jsonb; EXCEPTION WHEN OTHERS THEN RETURN to_jsonb(doc::text); END';";

const TABLES: &str = "
    CREATE TABLE item (id bigint PRIMARY KEY, owner int NOT NULL, price numeric, value text, tags jsonb, at timestamptz);
    CREATE TABLE big (id int PRIMARY KEY, note text, body text);
    ALTER TABLE big ALTER body SET STORAGE EXTERNAL;
    CREATE TABLE pair (a int, b int, n int NOT NULL, v text, PRIMARY KEY (a, b));
    CREATE TABLE child (id int PRIMARY KEY, a int, b int, v text,
        FOREIGN KEY (a, b) REFERENCES pair ON UPDATE CASCADE ON DELETE CASCADE);
    CREATE TABLE indexed (code text NOT NULL, n numeric NOT NULL, v text, body text);
    ALTER TABLE indexed ALTER body SET STORAGE EXTERNAL;
    CREATE UNIQUE INDEX indexed_key ON indexed (code, n);
    ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_key;
    CREATE TABLE whole (id int PRIMARY KEY, v text, body text);
    ALTER TABLE whole REPLICA IDENTITY FULL;
    ALTER TABLE whole ALTER body SET STORAGE EXTERNAL;
    CREATE TABLE part (id int, region int, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE part_0 PARTITION OF part FOR VALUES IN (0);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
    CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2);
    CREATE TABLE odd (id int PRIMARY KEY, doc json);
    CREATE TABLE line (number int, text text);
    ALTER TABLE line REPLICA IDENTITY FULL;
    CREATE TABLE log (n int, text text);
    ALTER TABLE log REPLICA IDENTITY NOTHING;
    CREATE TABLE grows (id int PRIMARY KEY, v text);
    CREATE TABLE recast (id int PRIMARY KEY, v bigint);
    CREATE TABLE leaves (id int, region int, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE leaves_0 PARTITION OF leaves FOR VALUES IN (0);
    CREATE TABLE leaves_1 PARTITION OF leaves FOR VALUES IN (1);
    CREATE SEQUENCE item_id;";

/// What makes all of them, in the source and wherever they are copied to by SQL.
pub(crate) fn schema() -> String {
    let mut columns = String::new();
    for (name, kind, _) in EVERY {
        write!(columns, ", {name} {kind}").unwrap_or_default();
    }
    format!("{TYPES}{TABLES} {} CREATE TABLE every (id int PRIMARY KEY{columns});", owned::SCHEMA)
}

/// All whose changes add up to their rows, as history names them.
pub(crate) const ALL: [&str; 13] = [
    "public.item",
    "public.big",
    "public.pair",
    "public.child",
    "public.indexed",
    "public.whole",
    "public.part",
    "public.every",
    "public.odd",
    "public.line",
    "public.log",
    "public.grows",
    "public.owned",
];

/// Those with a key and a shape that stays: what a recorder can follow.
pub(crate) const RECORDED: [&str; 10] = [
    "public.item",
    "public.big",
    "public.pair",
    "public.child",
    "public.indexed",
    "public.whole",
    "public.part",
    "public.every",
    "public.odd",
    "public.owned",
];

/// Those whose rows change unseen, by DDL: they are repaired, and reset at clients.
pub(crate) const REPAIRED: [&str; 2] = ["public.recast", "public.leaves"];

/// Those that may be reset at clients: these, and one whose columns come and go so fast that it cannot always be known which of them
/// a row has that was written in between.
pub(crate) const MAY_BE_RESET: [&str; 3] = [REPAIRED[0], REPAIRED[1], "public.grows"];

/// The table under which history has the rows of this one.
pub(crate) fn root_of(table: &str) -> &str {
    if table.starts_with("public.part_") { "public.part" } else { table }
}

/// What the rows of a table are selected from so that they read as they are to be told.
pub(crate) fn source_of(table: &str) -> &str {
    match table {
        // What jsonb refuses is told as a string of its text.
        "public.odd" => "(SELECT id, as_jsonb(doc) AS doc FROM public.odd)",
        other => other,
    }
}
