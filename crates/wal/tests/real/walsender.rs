//! What the captured walsender said, and a stand-in for the catalog that a caller of the assembler would ask.

use std::collections::HashMap;
use std::sync::Arc;

use waldelta_wal::{
    ArrayKind, AssembleError, Assembler, Change, ColumnFacts, CompositeKind, EndLsn, Epoch, Field, Kind,
    Message, Output, Piece, Relation, RelationColumn, ReplicaIdentity, Scalar, Table, ValuePolicy,
};

/// Bytes beyond which a transaction is cut: more than any has here.
pub(crate) const NO_CUT: usize = 1 << 20;

/// The messages captured, in order.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    recorded(include_str!("../../fixtures/stream.hex"))
}

/// What servers of each major version sent for one and the same small workload (see `fixtures/versions/capture.sh`).
pub(crate) fn recorded_by() -> impl Iterator<Item = (u32, Vec<Vec<u8>>)> {
    let all = [
        (14, include_str!("../../fixtures/versions/14.hex")),
        (15, include_str!("../../fixtures/versions/15.hex")),
        (16, include_str!("../../fixtures/versions/16.hex")),
        (17, include_str!("../../fixtures/versions/17.hex")),
        (18, include_str!("../../fixtures/versions/18.hex")),
    ];
    all.into_iter().map(|(version, text)| (version, recorded(text)))
}

/// A message in each line, in hexadecimal.
pub(crate) fn recorded(text: &str) -> Vec<Vec<u8>> {
    text.lines().map(unhex).collect()
}

/// The messages up to the transaction that cannot be followed.
pub(crate) fn followed_messages() -> Vec<Vec<u8>> {
    let mut messages = messages();
    let last = messages.iter().rposition(|message| message[0] == b'B').unwrap();
    messages.truncate(last);
    messages
}

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// What the catalog of the captured database knows and the stream does not say, and the versions that history would count.
#[derive(Default)]
pub(crate) struct Catalog {
    versions: HashMap<u32, Vec<Table>>,
    /// Names of the tables that were asked for.
    pub(crate) asked: Vec<String>,
}

impl Catalog {
    /// As it is when these pieces are in history.
    pub(crate) fn after(pieces: &[Piece]) -> Self {
        let mut versions: HashMap<u32, Vec<Table>> = HashMap::new();
        for table in pieces.iter().flat_map(|piece| &piece.new_tables) {
            versions.entry(table.oid).or_default().push(Table::clone(table));
        }
        Catalog { versions, asked: Vec::new() }
    }

    /// Does what a caller does on [`Output::Undefined`].
    pub(crate) fn define(
        &mut self,
        assembler: &mut Assembler,
        relation: &Relation,
    ) -> Result<(), AssembleError> {
        self.asked.push(relation.name.clone());
        let (table, changed) = self.number(table(relation));
        assembler.define(Arc::new(table), changed)
    }

    /// As history does: a shape that is not the last one known is a new version.
    fn number(&mut self, mut table: Table) -> (Table, bool) {
        let versions = self.versions.entry(table.oid).or_default();
        let known = versions.last().map(|last| last.version);
        table.version = known.unwrap_or(1);
        if versions.last() == Some(&table) {
            return (table, false);
        }
        table.version = known.map_or(1, |known| known + 1);
        versions.push(table.clone());
        (table, known.is_some())
    }
}

/// The table of a shape.
pub(crate) fn table(relation: &Relation) -> Table {
    let key = primary_key(&relation.name);
    let is_key = |name: &str| key.as_ref().is_some_and(|key| key.iter().any(|known| known == name));
    let facts = |column: &RelationColumn| {
        let (name, kind) = match Kind::builtin(column.type_oid) {
            Some(kind) => (waldelta_wal::type_name(column.type_oid).unwrap(), kind),
            None => kind_of(&column.name),
        };
        let position = relation.columns.iter().position(|other| other == column).unwrap();
        let number = if column.name == "b" && relation.name.starts_with("chang") { 4 } else { position + 1 };
        Some(ColumnFacts {
            number: i16::try_from(number).unwrap(),
            type_name: name.into(),
            kind,
            nullable: !is_key(&column.name),
        })
    };
    let mut table = relation.to_table(key.as_deref(), facts);
    if relation.name == "parted" {
        table.identity = ReplicaIdentity::Mixed;
    }
    table
}

/// The primary keys as the catalog of the captured database has them.
fn primary_key(table: &str) -> Option<Vec<String>> {
    let names: &[&str] = match table {
        "keyless" => return None,
        "pair" => &["b", "a"],
        "Odd \"Näme\".x" => &["a.b"],
        "parted" | "crossed" => &["id", "day"],
        _ => &["id"],
    };
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

/// The types that are not built in, by the columns of the table nested.
pub(crate) fn kind_of(column: &str) -> (&'static str, Kind) {
    let array = |element| Kind::Array(Arc::new(ArrayKind { element, delimiter: b',' }));
    let composite = |fields: &[(i16, &str, &str, Kind)]| {
        let field = |(number, name, type_name, kind): &(i16, &str, &str, Kind)| Field {
            number: *number,
            name: (*name).into(),
            type_name: (*type_name).into(),
            kind: kind.clone(),
        };
        Kind::Composite(Arc::new(CompositeKind {
            type_oid: 16_400,
            fields: fields.iter().map(field).collect(),
        }))
    };
    let number = Kind::Scalar(Scalar::Number);
    let place = composite(&[
        (1, "street", "text", Kind::TEXT),
        (3, "number", "integer", number.clone()),
        (4, "seen", "timestamp with time zone", Kind::Scalar(Scalar::TimestampTz)),
        (5, "feeling", "mood", Kind::TEXT),
        (6, "extra", "json", Kind::Scalar(Scalar::Json)),
    ]);
    let one = composite(&[(1, "alone", "text", Kind::TEXT)]);
    let ints = array(number.clone());
    match column {
        "feeling" => ("mood", Kind::TEXT),
        "feelings" => ("mood[]", array(Kind::TEXT)),
        "place" => ("place", place),
        "places" => ("place[]", array(place)),
        "trip" => {
            let trip = composite(&[
                (1, "name", "text", Kind::TEXT),
                (2, "stops", "place[]", array(place.clone())),
                (3, "tags", "hstore", Kind::Hstore),
                (4, "best", "place", place),
            ]);
            ("trip", trip)
        }
        "one" => ("one", one),
        "ones" => ("one[]", array(one)),
        "small" => ("small", number),
        "grid" => ("ints", ints),
        "grids" => ("ints[]", array(ints)),
        "home" => ("home", place),
        "homes" => ("home[]", array(place)),
        "tags" => ("hstore", Kind::Hstore),
        "tag_list" => ("hstore[]", array(Kind::Hstore)),
        "loud" => ("citext", Kind::TEXT),
        "label" => ("information_schema.sql_identifier", Kind::TEXT),
        // Of a stream that was damaged.
        _ => ("unknown", Kind::TEXT),
    }
}

/// Pushes messages and defines tables as they are asked for, and returns the pieces.
pub(crate) fn pieces(assembler: &mut Assembler, messages: &[Vec<u8>]) -> Result<Vec<Piece>, AssembleError> {
    pieces_with(&mut Catalog::default(), assembler, messages)
}

/// As [`pieces`], with a catalog that is known afterwards.
pub(crate) fn pieces_with(
    catalog: &mut Catalog,
    assembler: &mut Assembler,
    messages: &[Vec<u8>],
) -> Result<Vec<Piece>, AssembleError> {
    let mut pieces = Vec::new();
    for message in messages {
        loop {
            match assembler.push(message)? {
                Some(Output::Undefined(relation)) => catalog.define(assembler, &relation)?,
                Some(Output::Piece(piece)) => break pieces.push(piece),
                None => break,
            }
        }
    }
    Ok(pieces)
}

/// An assembler that has nothing yet.
pub(crate) fn assembler(durable: EndLsn, piece_bytes_max: usize) -> Assembler {
    Assembler::new(Epoch(1), durable, 1 << 32, piece_bytes_max, ValuePolicy::default())
}

/// The captured transactions, each in one piece.
pub(crate) fn transactions() -> Vec<Piece> {
    pieces(&mut assembler(EndLsn::default(), NO_CUT), &followed_messages()).unwrap()
}

/// The changes of these pieces to the table of this name.
pub(crate) fn changes_of<'a>(pieces: &'a [Piece], table: &str) -> Vec<&'a Change> {
    let of_table = |change: &&Change| change.table.as_ref().is_some_and(|known| known.name.name == table);
    pieces.iter().flat_map(|piece| &piece.changes).filter(of_table).collect()
}

/// The data of a change.
pub(crate) fn data(change: &Change) -> &str {
    std::str::from_utf8(change.data.as_ref().unwrap()).unwrap()
}

/// The first byte of a message tells its type.
pub(crate) fn is(message: &[u8], kind: u8) -> bool {
    Message::parse(message).is_ok() && message[0] == kind
}
