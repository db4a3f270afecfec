//! What a transaction does: text that the dice decide.

use std::fmt::Write;

use crate::dice::Dice;
use crate::tables::WRITERS;

/// Rows of a table that one writer has, about.
const ROWS: u64 = 60;
/// More than fits into a page, and is not compressed.
const LONG: &str = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 120))";

/// One transaction of a writer.
pub(crate) fn transaction(writer: u64, dice: &mut Dice) -> String {
    match dice.roll(200) {
        0 => return add_column(dice),
        1 => return truncate(dice),
        // One that is sent and stored in many pieces.
        2..=4 => return many_rows(writer, dice),
        5..=7 => return copy_like(writer, dice),
        _ => {}
    }
    let mut sql = String::from("BEGIN;");
    for _ in 0..dice.between(1, 6) {
        if dice.once_in(6) {
            let end = if dice.once_in(3) { "RELEASE s;" } else { "ROLLBACK TO s;" };
            write!(sql, "SAVEPOINT s; {}; {end}", change(writer, dice)).unwrap();
        } else {
            write!(sql, "{};", change(writer, dice)).unwrap();
        }
    }
    sql += if dice.once_in(12) { "ROLLBACK" } else { "COMMIT" };
    sql
}

/// One statement.
fn change(writer: u64, dice: &mut Dice) -> String {
    match dice.roll(24) {
        0..=4 => item(writer, dice),
        5..=9 => big(writer, dice),
        10..=13 => pair(writer, dice),
        14..=16 => whole(writer, dice),
        17..=20 => part(writer, dice),
        21 => grows(writer, dice),
        22 => format!(
            "INSERT INTO line SELECT {}, 'line' FROM generate_series(1, {})",
            dice.roll(9),
            dice.between(1, 4)
        ),
        _ => format!("SELECT pg_logical_emit_message(true, 'torture', 'of {writer}: {}')", dice.roll(1000)),
    }
}

/// A row's number that belongs to this writer.
fn own(writer: u64, dice: &mut Dice) -> u64 {
    dice.roll(ROWS) * WRITERS + writer
}

fn item(writer: u64, dice: &mut Dice) -> String {
    let (n, rows) = (dice.roll(1_000_000), dice.between(1, 12));
    let mine =
        format!("SELECT id FROM item WHERE owner = {writer} ORDER BY id DESC OFFSET {} LIMIT {rows}", n % 9);
    match dice.roll(5) {
        0 | 1 => format!(
            "INSERT INTO item SELECT nextval('item_id'), {writer}, {n} / 100.0, 'v{n} é \"\\', '{{\"n\": [{n}, null]}}', now()
             FROM generate_series(1, {rows})"
        ),
        2 => format!("UPDATE item SET value = value || '-{n}', price = price * 1.10 WHERE id IN ({mine})"),
        3 => format!("UPDATE item SET tags = NULL, at = 'infinity' WHERE id IN ({mine})"),
        _ => format!("DELETE FROM item WHERE id IN ({mine})"),
    }
}

fn big(writer: u64, dice: &mut Dice) -> String {
    let (id, other) = (own(writer, dice), own(writer, dice));
    match dice.roll(6) {
        0 | 1 => format!(
            "INSERT INTO big VALUES ({id}, 'new', {LONG}) ON CONFLICT (id) DO UPDATE SET body = excluded.body"
        ),
        // What is out of line stays there, and is not sent.
        2 | 3 => format!(
            "UPDATE big SET note = 'n{}' WHERE id % {WRITERS} = {writer} AND id < {id}",
            dice.roll(1000)
        ),
        4 => format!(
            "UPDATE big SET id = {other} WHERE id = {id} AND NOT EXISTS (SELECT FROM big WHERE id = {other})"
        ),
        _ => format!("DELETE FROM big WHERE id = {id}"),
    }
}

fn pair(writer: u64, dice: &mut Dice) -> String {
    let (b, n) = (dice.roll(ROWS), dice.roll(10_000));
    match dice.roll(5) {
        0 | 1 => format!("INSERT INTO pair VALUES ({writer}, {b}, {n}, 'p') ON CONFLICT (a, b) DO UPDATE SET n = excluded.n"),
        2 => format!("UPDATE pair SET n = n + 1, v = 'p{n}' WHERE a = {writer} AND b > {b}"),
        // Keys move in a row: each may go where another one was.
        3 => format!(
            "UPDATE pair SET b = b + 1000 WHERE a = {writer} AND b = {b}; UPDATE pair SET b = b - 1000 WHERE a = {writer} AND b >= 1000
             AND NOT EXISTS (SELECT FROM pair other WHERE other.a = pair.a AND other.b = pair.b - 1000)"
        ),
        _ => format!("DELETE FROM pair WHERE a = {writer} AND b % 7 = {}", b % 7),
    }
}

fn whole(writer: u64, dice: &mut Dice) -> String {
    let (id, other) = (own(writer, dice), own(writer, dice));
    match dice.roll(5) {
        0 | 1 => format!(
            "INSERT INTO whole VALUES ({id}, 'w', {LONG}) ON CONFLICT (id) DO UPDATE SET v = whole.v || '+'"
        ),
        2 => format!("UPDATE whole SET v = NULL WHERE id = {id}"),
        3 => format!(
            "UPDATE whole SET id = {other} WHERE id = {id} AND NOT EXISTS (SELECT FROM whole WHERE id = {other})"
        ),
        _ => format!("DELETE FROM whole WHERE id = {id}"),
    }
}

fn part(writer: u64, dice: &mut Dice) -> String {
    let (id, region) = (own(writer, dice), dice.roll(3));
    match dice.roll(5) {
        0 | 1 => format!(
            "INSERT INTO part VALUES ({id}, {region}, 'r') ON CONFLICT (id, region) DO UPDATE SET v = part.v || '{region}'"
        ),
        2 => format!("UPDATE part SET v = 'u' WHERE id = {id}"),
        // To another partition: a delete there, an insert here.
        3 => format!(
            "UPDATE part SET region = {region} WHERE id = {id} AND region = {} AND NOT EXISTS (SELECT FROM part WHERE id = {id} AND region = {region})",
            (region + 1) % 3
        ),
        _ => format!("DELETE FROM part WHERE id = {id} AND region = {region}"),
    }
}

fn grows(writer: u64, dice: &mut Dice) -> String {
    let id = own(writer, dice);
    match dice.roll(4) {
        0 | 1 => format!(
            "INSERT INTO grows (id, v) VALUES ({id}, 'g') ON CONFLICT (id) DO UPDATE SET v = grows.v || 'g'"
        ),
        2 => format!("UPDATE grows SET v = 'u{}' WHERE id = {id}", dice.roll(1000)),
        _ => format!("DELETE FROM grows WHERE id = {id}"),
    }
}

/// In one transaction with changes before and after: what lies before it has the old shape.
fn add_column(dice: &mut Dice) -> String {
    let n = dice.roll(12);
    format!(
        "BEGIN; UPDATE grows SET v = 'before {n}' WHERE id < 20; ALTER TABLE grows ADD COLUMN IF NOT EXISTS c{n} int;
         UPDATE grows SET c{n} = id WHERE id % 2 = 0; COMMIT"
    )
}

fn truncate(dice: &mut Dice) -> String {
    let tables = *dice.pick(&["item", "big, whole", "line", "part", "pair, item"]);
    let end = if dice.once_in(3) { "ROLLBACK" } else { "COMMIT" };
    format!("BEGIN; SET LOCAL lock_timeout = '5s'; TRUNCATE {tables}; {end}")
}

fn many_rows(writer: u64, dice: &mut Dice) -> String {
    let rows = dice.between(500, 3000);
    format!(
        "BEGIN; INSERT INTO item SELECT nextval('item_id'), {writer}, i, repeat('x', 80), NULL, now() FROM generate_series(1, {rows}) i;
         UPDATE item SET value = 'many' WHERE owner = {writer} AND id % 3 = 0;
         DELETE FROM item WHERE owner = {writer} AND id < (SELECT max(id) - 400 FROM item); COMMIT"
    )
}

/// Many rows in one WAL record each page, as COPY writes them.
fn copy_like(writer: u64, dice: &mut Dice) -> String {
    let (rows, first) = (dice.between(50, 300), dice.roll(1000));
    format!(
        "COPY item FROM PROGRAM 'seq -f \"{}%06g,{writer},{first}.50,copied,{{}},2026-01-01\" 1 {rows}' WITH (FORMAT csv)",
        dice.between(1_000_000, 9_000_000)
    )
}
