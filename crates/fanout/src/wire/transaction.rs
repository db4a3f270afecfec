//! The `tx` frame: written straight into one buffer around images that are JSON text already.
//!
//! Which changes go into it (scope, own changes, snapshots) is decided by whoever calls.

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use waldelta_wal::{Author, Change, Operation, Position, Table, TransactionHead};

use super::json::{self, write_string, write_text};
use super::json_equality;
use super::oversize::{self, Image};
use super::server::{NotText, finish};
use super::timestamp::Timestamp;
use crate::subscription::Route;

/// A frame's fields but its changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope<'a> {
    pub head: &'a TransactionHead,
    /// Everything up to here is given with this frame.
    pub cursor: Position,
    /// Nothing for this client lies between here and this frame.
    pub prev: Position,
    /// Whether the client that gets it is an author.
    pub own: bool,
    pub author: TxAuthor<'a>,
    /// Name of the replication origin, where the source has it from somewhere else.
    pub origin: Option<&'a str>,
    /// Counted from 0 where the transaction is cut into several frames.
    pub part: Option<u32>,
    pub last: bool,
}

/// Who made a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TxAuthor<'a> {
    Nobody,
    /// One author, although some changes may have none.
    One(&'a Author),
    /// Several: then each change names its own.
    Several,
}

impl<'a> TxAuthor<'a> {
    /// The author or authors of changes.
    pub(crate) fn of(changes: &'a [Change]) -> Self {
        changes.iter().filter_map(|change| change.author.as_deref()).fold(
            TxAuthor::Nobody,
            |known, author| match known {
                TxAuthor::Nobody => TxAuthor::One(author),
                TxAuthor::One(other) if other == author => known,
                TxAuthor::One(_) | TxAuthor::Several => TxAuthor::Several,
            },
        )
    }
}

/// The replication origin of a transaction: all of its changes have the same.
pub(crate) fn origin_of(changes: &[Change]) -> Option<&str> {
    changes.iter().find_map(|change| change.origin.as_deref())
}

/// Writes a frame. `changes` are the ones to tell, each with how its table looks to the client; those that tell a shape are
/// left out, as `schema` frames do that.
pub(crate) fn encode<'a>(
    envelope: &Envelope<'_>,
    changes: impl Iterator<Item = (&'a Change, &'a Route)>,
) -> Result<Utf8Bytes, NotText> {
    let mut out = Vec::with_capacity(512);
    let head = envelope.head;
    write_text(
        &mut out,
        format_args!(
            "{{\"type\":\"tx\",\"cursor\":\"{}\",\"prev\":\"{}\",\"lsn\":\"{}\",\"xid\":",
            envelope.cursor, envelope.prev, head.commit_lsn
        ),
    );
    match head.xid {
        // A message that belongs to no transaction.
        0 => out.extend_from_slice(b"null"),
        xid => write_text(&mut out, format_args!("{xid}")),
    }
    write_text(&mut out, format_args!(",\"ts\":\"{}\"", Timestamp(head.committed_at_us)));
    if let Some(origin) = envelope.origin {
        out.extend_from_slice(b",\"origin\":");
        write_string(&mut out, origin);
    }
    if let TxAuthor::One(author) = envelope.author {
        write_author(&mut out, author);
    }
    write_text(&mut out, format_args!(",\"own\":{}", envelope.own));
    if let Some(part) = envelope.part {
        write_text(&mut out, format_args!(",\"part\":{part}"));
    }
    write_text(&mut out, format_args!(",\"last\":{},\"changes\":[", envelope.last));
    let mut names = Names::default();
    let rows = changes.filter(|(change, _)| change.operation != Operation::Schema);
    for (index, (change, route)) in rows.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let author = if envelope.author == TxAuthor::Several { change.author.as_deref() } else { None };
        let at = Position { index: change.seq, ..head.position() };
        match change.table.as_deref() {
            Some(table) => write_change(&mut out, at, change, table, route, author, &mut names),
            None => write_message(&mut out, at, change, route, author),
        }
    }
    out.extend_from_slice(b"]}");
    finish(out)
}

/// The text of a table's name and of its key's names, kept while the table stays the same.
#[derive(Default)]
struct Names {
    table: Option<*const Table>,
    name: Vec<u8>,
    key: Vec<Vec<u8>>,
}

impl Names {
    fn of(&mut self, table: &Table) -> &Self {
        if self.table != Some(std::ptr::from_ref(table)) {
            self.table = Some(std::ptr::from_ref(table));
            self.name = json_text(&table.name.to_string());
            let columns = table.key.iter().filter_map(|index| table.columns.get(usize::from(*index)));
            self.key = columns.map(|column| json_text(&column.name)).collect();
        }
        self
    }
}

fn json_text(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_string(&mut out, text);
    out
}

fn write_change(
    out: &mut Vec<u8>,
    at: Position,
    change: &Change,
    table: &Table,
    route: &Route,
    author: Option<&Author>,
    names: &mut Names,
) {
    let names = names.of(table);
    // Where no key names the row, the image before is all that tells which row it was.
    let names_the_row =
        table.key.is_empty() && matches!(change.operation, Operation::Update | Operation::Delete);
    let old = change.old_data.as_ref().filter(|_| route.old || names_the_row);
    let mut fields = Fields { at, change, names, route, author, old };
    let key: Option<Vec<&[u8]>> = change.row_key.as_ref().map(|key| json::elements(key).collect());
    match (change.operation, &key) {
        (Operation::Update, Some(new_key)) => {
            let old_key = change.old_data.as_deref().and_then(|old| key_of(old, &names.key));
            match old_key.filter(|old_key| !same_key(old_key, new_key)) {
                None => fields.write(out, "update", key.as_deref(), change.data.as_ref(), None),
                Some(old_key) => {
                    fields.write(out, "delete", Some(&old_key), None, None);
                    out.push(b',');
                    fields.old = None;
                    fields.write(out, "insert", Some(new_key), change.data.as_ref(), Some(&old_key));
                }
            }
        }
        (Operation::Update, None) => fields.write(out, "update", None, change.data.as_ref(), None),
        (Operation::Delete, _) => fields.write(out, "delete", key.as_deref(), None, None),
        (Operation::Truncate, _) => fields.write(out, "truncate", None, None, None),
        // To a client, a row from before history is a row that it did not have.
        (Operation::Insert | Operation::Baseline, _) => {
            fields.write(out, "insert", key.as_deref(), change.data.as_ref(), None);
        }
        // None comes here: what has no table is told otherwise, and shapes are left out.
        (Operation::Message | Operation::Schema | Operation::Reset | Operation::Skip, _) => {
            fields.write(out, change.operation.as_str(), None, change.data.as_ref(), None);
        }
    }
}

/// A logical message: it has no table and no key.
fn write_message(out: &mut Vec<u8>, at: Position, change: &Change, route: &Route, author: Option<&Author>) {
    write_text(out, format_args!("{{\"seq\":{},\"op\":\"message\"", change.seq));
    if let Some(data) = &change.data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(&oversize::bounded(data, Some((at, Image::Data))));
    }
    write_author_and_sub(out, author, route);
}

/// What is written of a change beside its operation and key.
struct Fields<'a> {
    at: Position,
    change: &'a Change,
    names: &'a Names,
    route: &'a Route,
    author: Option<&'a Author>,
    old: Option<&'a Bytes>,
}

impl Fields<'_> {
    fn write(
        &self,
        out: &mut Vec<u8>,
        op: &str,
        key: Option<&[&[u8]]>,
        data: Option<&Bytes>,
        moved_from: Option<&[&[u8]]>,
    ) {
        write_text(out, format_args!("{{\"seq\":{},\"op\":\"{op}\",\"table\":", self.change.seq));
        out.extend_from_slice(&self.names.name);
        out.extend_from_slice(b",\"key\":");
        self.write_key(out, key);
        if let Some(data) = data {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(&oversize::bounded(data, Some((self.at, Image::Data))));
        }
        if let Some(old) = self.old {
            out.extend_from_slice(b",\"old\":");
            out.extend_from_slice(&oversize::bounded(old, Some((self.at, Image::Old))));
        }
        if let Some(moved_from) = moved_from {
            out.extend_from_slice(b",\"moved_from\":");
            self.write_key(out, Some(moved_from));
        }
        if data.is_some() {
            write_names(out, "unchanged", &self.change.unchanged);
        }
        write_names(out, "flagged", &self.change.flagged);
        for (option, given) in [
            ("cascade", self.change.truncate.cascade),
            ("restart_identity", self.change.truncate.restart_identity),
        ] {
            if given {
                write_text(out, format_args!(",\"{option}\":true"));
            }
        }
        write_author_and_sub(out, self.author, self.route);
    }

    fn write_key(&self, out: &mut Vec<u8>, key: Option<&[&[u8]]>) {
        let Some(values) = key.filter(|_| !self.names.key.is_empty()) else {
            out.extend_from_slice(b"null");
            return;
        };
        out.push(b'{');
        for (index, (name, value)) in self.names.key.iter().zip(values).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name);
            out.push(b':');
            out.extend_from_slice(value);
        }
        out.push(b'}');
    }
}

/// A list of columns, where there are any.
fn write_names(out: &mut Vec<u8>, member: &str, columns: &[String]) {
    for (index, column) in columns.iter().enumerate() {
        match index {
            0 => write_text(out, format_args!(",\"{member}\":[")),
            _ => out.push(b','),
        }
        write_string(out, column);
    }
    if !columns.is_empty() {
        out.push(b']');
    }
}

/// The end of a change.
fn write_author_and_sub(out: &mut Vec<u8>, author: Option<&Author>, route: &Route) {
    if let Some(author) = author {
        write_author(out, author);
    }
    out.extend_from_slice(b",\"sub\":");
    out.extend_from_slice(&route.sub);
    out.push(b'}');
}

fn write_author(out: &mut Vec<u8>, author: &Author) {
    out.extend_from_slice(b",\"client_id\":");
    write_string(out, &author.client_id);
    // Anybody who may write a logical message writes this text: it goes in only if it is JSON.
    let metadata =
        author.metadata.as_deref().filter(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
    if let Some(metadata) = metadata {
        out.extend_from_slice(b",\"metadata\":");
        out.extend_from_slice(metadata.as_bytes());
    }
}

/// The key's values in an old image, if it has all of them.
fn key_of<'a>(old: &'a [u8], names: &[Vec<u8>]) -> Option<Vec<&'a [u8]>> {
    let mut found: Vec<Option<&[u8]>> = vec![None; names.len()];
    for (name, value) in json::members(old) {
        if let Some(index) = names.iter().position(|key| key == name) {
            found[index] = Some(value);
        }
    }
    found.into_iter().collect::<Option<Vec<_>>>().filter(|key| !key.is_empty())
}

/// Whether two keys are equal: as values, because one may have gone through history, which prints numbers, spaces and
/// members in its own way.
fn same_key(a: &[&[u8]], b: &[&[u8]]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| json_equality::same(a, b))
}

#[cfg(test)]
mod tests;
