//! Writes to the table of which each row belongs to somebody: rows come, change, go, and go over from one owner to another. Its texts
//! say whose they are, so that a text at somebody else is seen at once.

use waldelta_testkit::Dice;

use crate::tables::WRITERS;

/// Whole old rows are sent: so it can be decided whose a row was.
pub(crate) const SCHEMA: &str =
    "CREATE TABLE owned (id int PRIMARY KEY, owner int NOT NULL, n int NOT NULL, v text, hidden text);
    ALTER TABLE owned REPLICA IDENTITY FULL;";
/// In texts of rows: no log, error or metric may have it.
pub(crate) const MARK: &str = "marked-value-7f3a";
/// In the column that tenants may not see.
pub(crate) const HIDDEN: &str = "hidden-column";

/// Rows that one writer has, about.
const ROWS: u64 = 50;

/// With what the texts of rows begin that belong to this owner.
pub(crate) fn text_of(owner: u64) -> String {
    format!("text-of-{owner}-only")
}

/// One statement. Writers have rows of their own; whoever owns these is another question.
pub(super) fn change(writer: u64, dice: &mut Dice) -> String {
    let [id, other] = [0, 1].map(|_| dice.roll(ROWS) * WRITERS + writer);
    let (owner, n) = (dice.roll(WRITERS), dice.roll(1000));
    let text = format!("'{}-{n}-{MARK}'", text_of(owner));
    let hidden = format!("'{HIDDEN}-{n}-{MARK}'");
    match dice.roll(12) {
        0..=3 => format!(
            "INSERT INTO owned VALUES ({id}, {owner}, {n}, {text}, {hidden})
             ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, n = excluded.n, v = excluded.v"
        ),
        4 | 5 => {
            format!(
                "UPDATE owned SET owner = {owner}, v = {text} WHERE id % {WRITERS} = {writer} AND id < {id}"
            )
        }
        6 => format!("UPDATE owned SET n = {n} WHERE id % {WRITERS} = {writer} AND id < {id}"),
        7 => format!("UPDATE owned SET hidden = {hidden} WHERE id % {WRITERS} = {writer} AND id > {id}"),
        8 => format!("UPDATE owned SET v = NULL WHERE id = {id}"),
        // Under another key, and of another owner at once.
        9 => format!(
            "UPDATE owned SET id = {other}, owner = {owner}, v = {text} WHERE id = {id}
             AND NOT EXISTS (SELECT FROM owned WHERE id = {other})"
        ),
        _ => format!("DELETE FROM owned WHERE id = {id}"),
    }
}
