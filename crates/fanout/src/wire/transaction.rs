//! The `tx` frame: written straight into one buffer around images that are JSON text already.
//!
//! Which changes go into it (scope, own changes, snapshots) is decided by whoever calls; as what they are told, by their route.

use bytes::Bytes;
use waldelta_wal::{Author, Change, Position, TransactionHead};

use super::json::{self, write_string, write_text};
use super::oversize::Image;
use super::projection::{self, write_image};
use super::server::{NotText, finish};
use super::timestamp::Timestamp;
use crate::subscription::{Key, Route, Telling};
use crate::wire::Utf8Bytes;

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

/// Bytes of a change's images: about what it takes in a frame.
pub(crate) fn image_bytes(change: &Change) -> usize {
    [&change.data, &change.old_data].into_iter().flatten().map(Bytes::len).sum()
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
    pub(crate) fn of(changes: impl IntoIterator<Item = &'a Change>) -> Self {
        changes.into_iter().filter_map(|change| change.author.as_deref()).fold(
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

/// A change and as what it is told.
#[derive(Clone, Debug)]
pub(crate) struct Told<'a> {
    pub change: &'a Change,
    pub route: &'a Route,
    pub telling: Telling<'a>,
}

/// Writes a frame of these changes, each with how its table looks to the client; those that are not told to it are left out. A
/// frame without any change is one for an author: others are not sent it.
pub(crate) fn encode<'a>(
    envelope: &Envelope<'_>,
    changes: impl Iterator<Item = (&'a Change, &'a Route)>,
) -> Result<Utf8Bytes, NotText> {
    let told =
        changes.filter_map(|(change, route)| Some(Told { change, route, telling: route.telling(change)? }));
    encode_told(envelope, told.collect::<Vec<_>>().iter())
}

/// Writes a frame. Changes that tell a shape are left out: `schema` frames do that.
pub(crate) fn encode_told<'a>(
    envelope: &Envelope<'_>,
    changes: impl Iterator<Item = &'a Told<'a>>,
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
    for (index, told) in changes.filter(|told| told.telling != Telling::Shape).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let author = if envelope.author == TxAuthor::Several { told.change.author.as_deref() } else { None };
        write_change(&mut out, head, told, author);
    }
    out.extend_from_slice(b"]}");
    finish(out)
}

fn write_change(out: &mut Vec<u8>, head: &TransactionHead, told: &Told<'_>, author: Option<&Author>) {
    let Told { change, route, telling } = told;
    // Where no key names the row, the image before is all that tells which row it was.
    let names_the_row = route.key().len() == 0 && !matches!(telling, Telling::Insert(_));
    let old = change.old_data.as_ref().filter(|_| route.has_old() || names_the_row);
    let at = Position { index: change.seq, ..head.position() };
    let fields = Fields { at, change, route, author };
    let key: Option<Key<'_>> = change.row_key.as_ref().map(|key| json::elements(key).collect());
    let (key, data) = (key.as_deref(), change.data.as_ref());
    match telling {
        // The row before was none of the client's.
        Telling::Insert(sub) => fields.write(out, "insert", Images { key, data, ..Images::default() }, sub),
        Telling::Update(sub) => fields.write(out, "update", Images { key, data, old, moved_from: None }, sub),
        Telling::Delete { key: before, sub } => {
            let key = before.as_deref().or(key);
            fields.write(out, "delete", Images { key, old, ..Images::default() }, sub);
        }
        Telling::Moved { from, delete, insert } => {
            let from = Some(&from[..]);
            fields.write(out, "delete", Images { key: from, old, ..Images::default() }, delete);
            out.push(b',');
            fields.write(out, "insert", Images { key, data, old: None, moved_from: from }, insert);
        }
        Telling::Truncate(sub) => fields.write(out, "truncate", Images::default(), sub),
        Telling::Message(sub) => fields.write_message(out, sub),
        // Left out.
        Telling::Shape => {}
    }
}

/// What is written of a change beside what is told of the row.
struct Fields<'a> {
    at: Position,
    change: &'a Change,
    route: &'a Route,
    author: Option<&'a Author>,
}

/// What is told of the row.
#[derive(Default)]
struct Images<'a> {
    key: Option<&'a [&'a [u8]]>,
    data: Option<&'a Bytes>,
    old: Option<&'a Bytes>,
    moved_from: Option<&'a [&'a [u8]]>,
}

impl Fields<'_> {
    fn write(&self, out: &mut Vec<u8>, op: &str, row: Images<'_>, sub: &[u8]) {
        let projection = self.route.projection();
        write_text(out, format_args!("{{\"seq\":{},\"op\":\"{op}\",\"table\":", self.change.seq));
        out.extend_from_slice(self.route.name());
        out.extend_from_slice(b",\"key\":");
        self.write_key(out, row.key);
        if let Some(data) = row.data {
            out.extend_from_slice(b",\"data\":");
            write_image(out, projection, data, Some((self.at, Image::Data)));
        }
        if let Some(old) = row.old {
            out.extend_from_slice(b",\"old\":");
            write_image(out, projection, old, Some((self.at, Image::Old)));
        }
        if row.moved_from.is_some() {
            out.extend_from_slice(b",\"moved_from\":");
            self.write_key(out, row.moved_from);
        }
        if row.data.is_some() {
            self.write_names(out, "unchanged", &self.change.unchanged);
        }
        self.write_names(out, "flagged", &self.change.flagged);
        for (option, given) in [
            ("cascade", self.change.truncate.cascade),
            ("restart_identity", self.change.truncate.restart_identity),
        ] {
            if given {
                write_text(out, format_args!(",\"{option}\":true"));
            }
        }
        self.write_end(out, sub);
    }

    /// A logical message: it has no table and no key.
    fn write_message(&self, out: &mut Vec<u8>, sub: &[u8]) {
        write_text(out, format_args!("{{\"seq\":{},\"op\":\"message\"", self.change.seq));
        if let Some(data) = &self.change.data {
            out.extend_from_slice(b",\"data\":");
            write_image(out, None, data, Some((self.at, Image::Data)));
        }
        self.write_end(out, sub);
    }

    fn write_key(&self, out: &mut Vec<u8>, key: Option<&[&[u8]]>) {
        let Some(values) = key.filter(|_| self.route.key().len() > 0) else {
            out.extend_from_slice(b"null");
            return;
        };
        out.push(b'{');
        for (index, ((name, is_string), value)) in self.route.key().zip(values).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name);
            out.push(b':');
            match is_string {
                true => projection::write_as_string(out, value),
                false => out.extend_from_slice(value),
            }
        }
        out.push(b'}');
    }

    /// A list of columns, where any of them is told.
    fn write_names(&self, out: &mut Vec<u8>, member: &str, columns: &[String]) {
        let projection = self.route.projection();
        let told = columns.iter().filter(|column| projection.is_none_or(|projection| projection.has(column)));
        json::write_names(out, member, told);
    }

    fn write_end(&self, out: &mut Vec<u8>, sub: &[u8]) {
        if let Some(author) = self.author {
            write_author(out, author);
        }
        out.extend_from_slice(b",\"sub\":");
        out.extend_from_slice(sub);
        out.push(b'}');
    }
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

#[cfg(test)]
mod tests;
