//! The tables that are written to, one for each way in which a row can be known: by a small key, a composite one, all of its columns,
//! none; with values out of line; in partitions; with a shape that grows.

/// How many writers there are. Each has rows of its own, so that none waits long for another.
pub(crate) const WRITERS: u64 = 3;

pub(crate) const SCHEMA: &str = "
    CREATE TABLE item (id bigint PRIMARY KEY, owner int NOT NULL, price numeric, value text, tags jsonb, at timestamptz);
    CREATE TABLE big (id int PRIMARY KEY, note text, body text);
    ALTER TABLE big ALTER body SET STORAGE EXTERNAL;
    CREATE TABLE pair (a int, b int, n int NOT NULL, v text, PRIMARY KEY (a, b));
    CREATE TABLE whole (id int PRIMARY KEY, v text, body text);
    ALTER TABLE whole REPLICA IDENTITY FULL;
    ALTER TABLE whole ALTER body SET STORAGE EXTERNAL;
    CREATE TABLE part (id int, region int, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE part_0 PARTITION OF part FOR VALUES IN (0);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
    CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2);
    CREATE TABLE grows (id int PRIMARY KEY, v text);
    CREATE TABLE line (number int, text text);
    ALTER TABLE line REPLICA IDENTITY FULL;
    CREATE SEQUENCE item_id;";

/// All of them, as history names them.
pub(crate) const ALL: [&str; 7] = [
    "public.item",
    "public.big",
    "public.pair",
    "public.whole",
    "public.part",
    "public.grows",
    "public.line",
];

/// Those with a key and a shape that stays: what a recorder can follow.
pub(crate) const RECORDED: [&str; 5] =
    ["public.item", "public.big", "public.pair", "public.whole", "public.part"];

/// The table under which history has the rows of this one.
pub(crate) fn root_of(table: &str) -> &str {
    if table.starts_with("public.part_") { "public.part" } else { table }
}
