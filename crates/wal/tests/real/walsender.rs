//! What the captured walsender said, and a stand-in for the catalog that a caller of the assembler would ask.

use std::sync::Arc;

use waldelta_wal::{AssembleError, Assembler, Change, EndLsn, Epoch, Message, Output, Piece, Relation};

/// Bytes beyond which a transaction is cut: more than any has here.
pub(crate) const NO_CUT: usize = 1 << 20;

/// The messages captured, in order.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    include_str!("../../fixtures/stream.hex").lines().map(unhex).collect()
}

/// The messages up to those of the table with a type that is not supported.
pub(crate) fn supported_messages() -> Vec<Vec<u8>> {
    let mut messages = messages();
    let last = messages.iter().rposition(|message| message[0] == b'B').unwrap();
    messages.truncate(last);
    messages
}

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The primary keys as the catalog of the captured database has them.
fn primary_key(table: &str) -> Option<Vec<String>> {
    let names: &[&str] = match table {
        "keyless" => return None,
        "pair" => &["b", "a"],
        "Odd \"Näme\".x" => &["a.b"],
        _ => &["id"],
    };
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

/// Whether a table's primary key can change without a sign in its shape: with any replica identity but DEFAULT.
pub(crate) fn primary_key_is_asked_again(table: &str) -> bool {
    matches!(table, "by_full" | "by_index" | "by_nothing")
}

/// Does what a caller does on [`Output::Relation`].
pub(crate) fn define(assembler: &mut Assembler, relation: &Relation) -> Result<(), AssembleError> {
    let key = primary_key(&relation.name);
    let is_key = |name: &str| key.as_ref().is_some_and(|key| key.iter().any(|known| known == name));
    let table = relation.to_table(key.as_deref(), |name| !is_key(name))?;
    assembler.define(Arc::new(table))
}

/// Pushes messages and defines tables as they come, and returns the pieces.
pub(crate) fn pieces(assembler: &mut Assembler, messages: &[Vec<u8>]) -> Result<Vec<Piece>, AssembleError> {
    let mut pieces = Vec::new();
    for message in messages {
        match assembler.push(message)? {
            None => {}
            Some(Output::Piece(piece)) => pieces.push(piece),
            Some(Output::Relation(relation)) => define(assembler, &relation)?,
        }
    }
    Ok(pieces)
}

/// An assembler that has nothing yet.
pub(crate) fn assembler(durable: EndLsn, piece_bytes_max: usize) -> Assembler {
    Assembler::new(Epoch(1), durable, 1 << 32, piece_bytes_max)
}

/// The captured transactions, each in one piece.
pub(crate) fn transactions() -> Vec<Piece> {
    pieces(&mut assembler(EndLsn::default(), NO_CUT), &supported_messages()).unwrap()
}

/// The data of a change.
pub(crate) fn data(change: &Change) -> &str {
    std::str::from_utf8(change.data.as_ref().unwrap()).unwrap()
}

/// The first byte of a message tells its type.
pub(crate) fn is(message: &[u8], kind: u8) -> bool {
    Message::parse(message).is_ok() && message[0] == kind
}
