//! What a transaction does: text that the dice decide.

use std::fmt::Write;

use waldelta_testkit::Dice;

use super::rows::change;
use super::shapes;
use crate::tables::AUTHORS;

/// One thing that a writer asks of the source.
pub(super) enum Step {
    /// Statements.
    Run(String),
    /// A COPY, with its rows as the client sends them.
    CopyIn { sql: String, rows: String },
}

/// More subtransactions than a backend keeps in the memory that all others look at (64).
const SUBTRANSACTIONS: (u64, u64) = (66, 90);

/// One transaction of a writer; `gid` is a name that no other one has.
pub(super) fn transaction(writer: u64, gid: &str, dice: &mut Dice) -> Vec<Step> {
    match dice.roll(250) {
        0 | 1 => return shapes::told(dice),
        2 => return shapes::untold(dice),
        3 => return vec![truncate(dice)],
        // One that is sent and stored in many pieces.
        4 | 5 => return vec![many_rows(writer, dice)],
        6..=8 => return vec![copy_of_program(writer, dice)],
        9..=12 => return copy_in(writer, dice),
        13..=15 => return vec![many_savepoints(writer, dice)],
        16..=18 => return shapes::upkeep(dice),
        _ => {}
    }
    let mut sql = String::from("BEGIN;");
    let author_at = dice.once_in(3).then(|| dice.roll(3));
    for number in 0..dice.between(1, 6) {
        if author_at == Some(number) {
            write!(sql, "{};", author(dice)).unwrap();
        }
        statement(&mut sql, writer, 0, dice);
    }
    match dice.roll(24) {
        0 | 1 => sql += "ROLLBACK",
        2 | 3 => return prepared(sql, gid, dice),
        _ => sql += "COMMIT",
    }
    vec![Step::Run(sql)]
}

/// A transaction of so many rows.
pub(super) fn bulk(writer: u64, rows: u64) -> Vec<Step> {
    let (inserted, kept) = (rows / 2, 200);
    vec![Step::Run(format!(
        "BEGIN; INSERT INTO item SELECT nextval('item_id'), {writer}, i, repeat('b', 60), NULL, now() FROM generate_series(1, {inserted}) i;
         DELETE FROM item WHERE owner = {writer} AND id <= (SELECT last_value FROM item_id) - {kept}; COMMIT"
    ))]
}

/// From here on the transaction is that client's. When the writer came to it is told, so that it can be known whether the client was
/// there before.
fn author(dice: &mut Dice) -> String {
    let (name, moment) = (dice.pick(&AUTHORS), waldelta_testkit::recorder::moment());
    format!("SELECT waldelta.set_client('{name}', '{{\"begun\": {moment}}}')")
}

/// A change, or a few of them in a subtransaction that stays or goes.
fn statement(sql: &mut String, writer: u64, depth: u64, dice: &mut Dice) {
    if depth > 3 || !dice.once_in(6) {
        write!(sql, "{};", change(writer, dice)).unwrap();
        return;
    }
    write!(sql, "SAVEPOINT s{depth};").unwrap();
    for _ in 0..dice.between(1, 3) {
        statement(sql, writer, depth + 1, dice);
    }
    match dice.roll(4) {
        0 => write!(sql, "RELEASE s{depth};").unwrap(),
        1 | 2 => write!(sql, "ROLLBACK TO s{depth};").unwrap(),
        // It stays open to the end.
        _ => {}
    }
}

/// Prepared, and then either decided at once, or left for somebody else.
fn prepared(mut sql: String, gid: &str, dice: &mut Dice) -> Vec<Step> {
    write!(sql, "PREPARE TRANSACTION '{gid}'").unwrap();
    let mut steps = vec![Step::Run(sql)];
    match dice.roll(4) {
        0 => steps.push(Step::Run(format!("COMMIT PREPARED '{gid}'"))),
        1 => steps.push(Step::Run(format!("ROLLBACK PREPARED '{gid}'"))),
        _ => {}
    }
    steps
}

/// Each a row, in a subtransaction inside the one before.
fn many_savepoints(writer: u64, dice: &mut Dice) -> Step {
    let mut sql = String::from("BEGIN;");
    let mut open: Vec<u64> = Vec::new();
    for number in 0..dice.between(SUBTRANSACTIONS.0, SUBTRANSACTIONS.1) {
        open.push(number);
        write!(
            sql,
            "SAVEPOINT s{number}; INSERT INTO pair VALUES ({writer}, {}, {number}, 's') ON CONFLICT (a, b) DO UPDATE SET n = excluded.n;",
            dice.roll(50)
        )
        .unwrap();
        if dice.once_in(6) {
            let back = 1 + dice.index(4);
            open.truncate(open.len().saturating_sub(back).max(1));
            write!(sql, "ROLLBACK TO s{};", open.last().unwrap()).unwrap();
        }
    }
    sql += "COMMIT";
    Step::Run(sql)
}

fn truncate(dice: &mut Dice) -> Step {
    let tables = *dice.pick(&[
        "item",
        "big, whole",
        "line, log",
        "part",
        "child",
        "pair CASCADE",
        "indexed, every",
        "odd, item RESTART IDENTITY",
    ]);
    let end = if dice.once_in(3) { "ROLLBACK" } else { "COMMIT" };
    Step::Run(format!("BEGIN; TRUNCATE {tables}; {end}"))
}

fn many_rows(writer: u64, dice: &mut Dice) -> Step {
    let rows = dice.between(500, 3000);
    Step::Run(format!(
        "BEGIN; INSERT INTO item SELECT nextval('item_id'), {writer}, i, repeat('x', 80), NULL, now() FROM generate_series(1, {rows}) i;
         UPDATE item SET value = 'many' WHERE owner = {writer} AND id % 3 = 0;
         DELETE FROM item WHERE owner = {writer} AND id < (SELECT max(id) - 400 FROM item); COMMIT"
    ))
}

/// Many rows in one WAL record each page, as COPY writes them.
fn copy_of_program(writer: u64, dice: &mut Dice) -> Step {
    let (rows, first) = (dice.between(50, 300), dice.roll(1000));
    Step::Run(format!(
        "COPY item FROM PROGRAM 'seq -f \"{}%06g,{writer},{first}.50,copied,{{}},2026-01-01\" 1 {rows}' WITH (FORMAT csv)",
        dice.between(1_000_000, 9_000_000)
    ))
}

/// The same from the client, alone or inside a transaction.
fn copy_in(writer: u64, dice: &mut Dice) -> Vec<Step> {
    let (rows, first) = (dice.between(1, 200), dice.between(1_000_000, 9_000_000) * 1_000_000);
    let (sql, lines): (&str, Vec<String>) = match dice.roll(3) {
        0 => ("COPY log FROM STDIN", (0..rows).map(|n| format!("{n}\tline \\\\ {n}")).collect()),
        1 => {
            ("COPY line (text, number) FROM STDIN", (0..rows.min(20)).map(|n| format!("\\N\t{n}")).collect())
        }
        _ => (
            "COPY item (id, owner, value) FROM STDIN",
            (0..rows).map(|n| format!("{}\t{writer}\tin\\t{n}", first + n)).collect(),
        ),
    };
    let copy = Step::CopyIn { sql: sql.to_owned(), rows: lines.join("\n") + "\n" };
    if dice.once_in(2) {
        return vec![copy];
    }
    let mut begun = String::from("BEGIN;");
    statement(&mut begun, writer, 0, dice);
    let mut end = String::new();
    statement(&mut end, writer, 0, dice);
    end += if dice.once_in(5) { "ROLLBACK" } else { "COMMIT" };
    vec![Step::Run(begun), copy, Step::Run(end)]
}
