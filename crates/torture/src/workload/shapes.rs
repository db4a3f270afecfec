//! DDL on tables that are written to meanwhile: what the rows of the WAL tell, what they do not tell (the table is repaired
//! afterwards), and what changes nothing that could be seen.

use waldelta_testkit::Dice;

use super::sql::Step;

/// Columns come and go, types change without a rewrite, the identity changes: rows before and after are told in the shape that
/// they had. In one transaction with changes before and after.
pub(super) fn told(dice: &mut Dice) -> Vec<Step> {
    let (n, other) = (dice.roll(8), dice.roll(8));
    let change = match dice.roll(6) {
        0 | 1 => format!("ADD COLUMN IF NOT EXISTS c{n} int"),
        2 => format!("DROP COLUMN IF EXISTS c{n}"),
        3 => format!("DROP COLUMN IF EXISTS c{n}, ADD COLUMN IF NOT EXISTS d{other} text"),
        4 => format!("ALTER v TYPE {}", dice.pick(&["text", "varchar"])),
        _ => format!("REPLICA IDENTITY {}", dice.pick(&["DEFAULT", "FULL"])),
    };
    let end = if dice.once_in(4) { "ROLLBACK" } else { "COMMIT" };
    vec![Step::Run(format!(
        "BEGIN; UPDATE grows SET v = 'before {n}' WHERE id < 20; ALTER TABLE grows {change};
         UPDATE grows SET v = 'after {n}' WHERE id % 2 = 0; {end}"
    ))]
}

/// What changes rows and sends no message: values for existing rows, a rewrite, a name, rows that come and go with a partition.
pub(super) fn untold(dice: &mut Dice) -> Vec<Step> {
    let n = dice.roll(8);
    let sql = match dice.roll(7) {
        0 => format!("ALTER TABLE recast ADD COLUMN IF NOT EXISTS k{n} int DEFAULT {n}"),
        1 => format!("ALTER TABLE recast ADD COLUMN IF NOT EXISTS r{n} float8 DEFAULT random()"),
        2 => format!(
            "ALTER TABLE recast ALTER v TYPE {} USING id + {n}",
            dice.pick(&["bigint", "numeric", "text"])
        ),
        3 => format!(
            "DO $$ BEGIN ALTER TABLE recast RENAME COLUMN k{n} TO n{n}; EXCEPTION WHEN undefined_column OR duplicate_column THEN NULL; END $$"
        ),
        4 => "TRUNCATE leaves_0".to_owned(),
        // Two writers may be at it: the second one looks when the first one is done.
        _ => "DO $$ BEGIN
            LOCK TABLE leaves;
            IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = 'leaves_1'::regclass) THEN
                ALTER TABLE leaves DETACH PARTITION leaves_1;
                INSERT INTO leaves_1 SELECT i, 1, 'apart' FROM generate_series(0, 9) i ON CONFLICT DO NOTHING;
            ELSE
                DELETE FROM leaves_1 WHERE id < 5;
                ALTER TABLE leaves ATTACH PARTITION leaves_1 FOR VALUES IN (1);
            END IF;
        END $$"
            .to_owned(),
    };
    vec![Step::Run(sql)]
}

/// Tables and indexes are written anew, and not a row changes. Not of `grows`: a new file and a column of another type, seen by one
/// look at the catalog, may be rows that changed, and capture has to say so.
pub(super) fn upkeep(dice: &mut Dice) -> Vec<Step> {
    let table = *dice.pick(&["big", "whole", "every", "part_1", "indexed"]);
    let sql = match dice.roll(7) {
        0 => format!("VACUUM FULL {table}"),
        1 => "CLUSTER pair USING pair_pkey".to_owned(),
        2 => format!("ANALYZE {table}"),
        3 => format!("VACUUM (FREEZE, ANALYZE) {table}"),
        4 => "CREATE INDEX IF NOT EXISTS big_note ON big (note)".to_owned(),
        5 => "DROP INDEX IF EXISTS big_note".to_owned(),
        _ => "REINDEX TABLE pair".to_owned(),
    };
    vec![Step::Run(sql)]
}
