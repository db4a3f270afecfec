//! Single statements that change rows: of each table in the ways that are of interest there.

use waldelta_testkit::Dice;

use super::owned::{self, MARK};
use super::values;
use crate::tables::WRITERS;

/// Rows of a table that one writer has, about.
const ROWS: u64 = 40;
/// More than fits into a page, and is not compressed.
const LONG: &str = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 120))";

/// One statement.
pub(super) fn change(writer: u64, dice: &mut Dice) -> String {
    match dice.roll(46) {
        0..=4 => item(writer, dice),
        5..=8 => big(writer, dice),
        9..=12 => pair(writer, dice),
        13 | 14 => child(writer, dice),
        15..=17 => indexed(writer, dice),
        18..=20 => whole(writer, dice),
        21..=24 => part(writer, dice),
        25..=28 => every(writer, dice),
        29 => odd(writer, dice),
        30 | 31 => grows(writer, dice),
        32 => recast(writer, dice),
        33 | 34 => leaves(writer, dice),
        35 => format!(
            "INSERT INTO line SELECT {}, 'line' FROM generate_series(1, {})",
            dice.roll(9),
            dice.between(1, 4)
        ),
        36 => format!("INSERT INTO log SELECT i, 'log' FROM generate_series(1, {}) i", dice.between(1, 4)),
        37 => format!("DELETE FROM line WHERE number = {}", dice.roll(9)),
        38..=43 => owned::change(writer, dice),
        44 => format!(
            "SELECT pg_logical_emit_message(false, 'torture', 'of {writer}, at once: {}')",
            dice.roll(1000)
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
            "INSERT INTO item SELECT nextval('item_id'), {writer}, {n} / 100.0, 'v{n} é \"\\ {MARK}', '{{\"n\": [{n}, null]}}', now()
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

/// Its rows go and move with those of `pair`, by triggers.
fn child(writer: u64, dice: &mut Dice) -> String {
    let (id, rows) = (own(writer, dice), dice.between(1, 3));
    format!(
        "INSERT INTO child SELECT {id}, a, b, 'c' FROM pair WHERE a = {writer} ORDER BY b DESC LIMIT 1
         ON CONFLICT (id) DO UPDATE SET a = excluded.a, b = excluded.b, v = repeat('c', {rows})"
    )
}

fn indexed(writer: u64, dice: &mut Dice) -> String {
    let (n, code) = (own(writer, dice), *dice.pick(&["a", "it''s", "\"q\"", "é 漢", "b\\"]));
    match dice.roll(6) {
        0 | 1 => format!(
            "INSERT INTO indexed VALUES ('{code}', {n}, {}, {LONG}) ON CONFLICT (code, n) DO UPDATE SET v = excluded.v",
            values::text(dice)
        ),
        2 | 3 => format!("UPDATE indexed SET v = {} WHERE n = {n}", values::text(dice)),
        // Text after text: what another one of the same number has stays.
        4 => format!(
            "UPDATE indexed SET code = '{code}' WHERE n = {n} AND code = 'a' AND NOT EXISTS (SELECT FROM indexed WHERE n = {n} AND code = '{code}')"
        ),
        _ => format!("DELETE FROM indexed WHERE n = {n} AND code = '{code}'"),
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

fn every(writer: u64, dice: &mut Dice) -> String {
    let (id, other) = (own(writer, dice), own(writer, dice));
    match dice.roll(8) {
        0..=3 => values::put(id, dice),
        4 | 5 => values::set(id, dice),
        6 => format!(
            "UPDATE every SET id = {other} WHERE id = {id} AND NOT EXISTS (SELECT FROM every WHERE id = {other})"
        ),
        _ => format!("DELETE FROM every WHERE id = {id}"),
    }
}

fn odd(writer: u64, dice: &mut Dice) -> String {
    let (id, doc) = (own(writer, dice), values::odd(dice));
    format!("INSERT INTO odd VALUES ({id}, {doc}) ON CONFLICT (id) DO UPDATE SET doc = excluded.doc")
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

fn recast(writer: u64, dice: &mut Dice) -> String {
    let id = own(writer, dice);
    match dice.roll(4) {
        0..=2 => {
            format!("INSERT INTO recast (id) VALUES ({id}) ON CONFLICT (id) DO UPDATE SET id = excluded.id")
        }
        _ => format!("DELETE FROM recast WHERE id = {id}"),
    }
}

/// One of its partitions may be away, and its rows with it.
fn leaves(writer: u64, dice: &mut Dice) -> String {
    let (id, region) = (own(writer, dice), dice.roll(2));
    match dice.roll(4) {
        0 | 1 => format!(
            "INSERT INTO leaves VALUES ({id}, 0, 'l') ON CONFLICT (id, region) DO UPDATE SET v = leaves.v || 'l'"
        ),
        2 => format!("UPDATE leaves SET v = 'u{}' WHERE id = {id}", dice.roll(1000)),
        _ => format!("DELETE FROM leaves WHERE id = {id} AND region = {region}"),
    }
}
