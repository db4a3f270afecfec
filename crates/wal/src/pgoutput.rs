//! The messages of pgoutput, protocol version 1 (PostgreSQL documentation, "Logical Replication Message Formats").
//!
//! Borrowed from the bytes: rows are copied once, when they become JSON. Messages of streamed and two-phase transactions
//! (versions 2 to 4) are not asked for, so they are unknown here.

use crate::envelope::unix_us;
use crate::lsn::{EndLsn, Lsn};
use crate::reader::{ReadError, Reader};
use crate::relation::{Relation, RelationColumn};
use crate::row::Value;
use crate::table::ReplicaIdentity;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// `B`: a committed transaction begins to arrive.
    Begin {
        /// Where its commit record begins (the protocol calls it the final LSN).
        commit_lsn: Lsn,
        /// Commit time in microseconds since 1970-01-01 UTC, by the source's clock.
        committed_at_us: i64,
        /// Transaction id, as the WAL has it: 32 bits, it wraps around.
        xid: u32,
    },
    /// `C`: the transaction has arrived whole.
    Commit {
        /// Where its commit record begins.
        commit_lsn: Lsn,
        /// Where its commit record ends: what the slot is told.
        end: EndLsn,
        /// Commit time in microseconds since 1970-01-01 UTC, by the source's clock.
        committed_at_us: i64,
    },
    /// `O`: the transaction was replayed on the source from somewhere else.
    Origin {
        /// The commit LSN there.
        commit_lsn: Lsn,
        /// Name of the replication origin. In a database without encoding it need not be UTF-8.
        name: &'a [u8],
    },
    /// `R`: the shape of a table, before its first row and whenever it may have changed.
    Relation(Relation),
    /// `Y`: the name of a type that is not built in, before the first relation that has it. For a domain it is the name
    /// of its base type.
    Type {
        /// Object id.
        oid: u32,
        /// Schema; empty stands for `pg_catalog`.
        schema: &'a str,
        /// Name.
        name: &'a str,
    },
    /// `I`
    Insert {
        /// Object id of the table.
        relation: u32,
        /// The new row.
        new: Tuple<'a>,
    },
    /// `U`
    Update {
        /// Object id of the table.
        relation: u32,
        /// The old row, where the replica identity demands it.
        old: Option<OldTuple<'a>>,
        /// The new row.
        new: Tuple<'a>,
    },
    /// `D`
    Delete {
        /// Object id of the table.
        relation: u32,
        /// What is known of the old row.
        old: OldTuple<'a>,
    },
    /// `T`: several tables at once, when they were truncated by one statement.
    Truncate {
        /// Object ids of the tables.
        relations: Vec<u32>,
        /// `CASCADE` was written.
        cascade: bool,
        /// `RESTART IDENTITY` was written.
        restart_identity: bool,
    },
    /// `M`: what `pg_logical_emit_message` wrote.
    Logical {
        /// Whether it belongs to the transaction that it arrives in. One that does not can arrive anywhere.
        transactional: bool,
        /// Where it is in the WAL.
        lsn: Lsn,
        /// Its prefix. Any bytes but zero: in a database without encoding they need not be UTF-8.
        prefix: &'a [u8],
        /// Its content: any bytes.
        content: &'a [u8],
    },
}

/// What the source sends of a row that was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OldTuple<'a> {
    /// `K`: only the columns of the replica identity mean something; a null elsewhere is not a NULL.
    Key(Tuple<'a>),
    /// `O`: the whole row.
    Full(Tuple<'a>),
}

/// The columns of a row, checked when they were read, still where they arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuple<'a> {
    columns: u16,
    bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
    /// How many columns there are.
    pub fn len(&self) -> usize {
        self.columns.into()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// How many bytes they take on the wire.
    pub(crate) fn wire_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The columns, in order.
    pub fn values(&self) -> impl Iterator<Item = Value<'a>> + Clone + use<'a> {
        let mut reader = Reader::new(self.bytes);
        // Reading cannot fail: `read` went over the same bytes.
        (0..self.columns).map_while(move |_| read_value(&mut reader).ok())
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, ReadError> {
        let columns = reader.count16("tuple: number of columns")?;
        let whole = reader.rest();
        for _ in 0..columns {
            read_value(reader)?;
        }
        let bytes = &whole[..whole.len() - reader.rest().len()];
        Ok(Tuple { columns, bytes })
    }
}

fn read_value<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, ReadError> {
    match reader.u8("tuple column: form")? {
        b'n' => Ok(Value::Null),
        b'u' => Ok(Value::Unchanged),
        b't' => {
            let length = reader.count32("tuple column: length")?;
            Ok(Value::Text(reader.bytes("tuple column: text", length)?))
        }
        b'b' => Err(ReadError::BinaryColumn),
        byte => Err(ReadError::Unknown { what: "tuple column: form", byte }),
    }
}

impl<'a> Message<'a> {
    /// Reads one message: the data of [`Envelope::XLogData`](crate::Envelope::XLogData).
    ///
    /// # Errors
    /// When the bytes have not the documented form, are of an unknown type, or go on after the message's end.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8("message type")? {
            b'B' => Message::Begin {
                commit_lsn: Lsn(reader.u64("begin: commit LSN")?),
                committed_at_us: unix_us(reader.i64("begin: commit time")?),
                xid: reader.u32("begin: transaction id")?,
            },
            b'C' => read_commit(&mut reader)?,
            b'O' => Message::Origin {
                commit_lsn: Lsn(reader.u64("origin: commit LSN")?),
                name: reader.terminated("origin: name")?,
            },
            b'R' => Message::Relation(read_relation(&mut reader)?),
            b'Y' => Message::Type {
                oid: reader.u32("type: object id")?,
                schema: reader.text("type: schema")?,
                name: reader.text("type: name")?,
            },
            b'I' => {
                let relation = reader.u32("insert: relation")?;
                match reader.u8("insert: tuple")? {
                    b'N' => Message::Insert { relation, new: Tuple::read(&mut reader)? },
                    byte => return Err(ReadError::Unknown { what: "insert: tuple", byte }),
                }
            }
            b'U' => read_update(&mut reader)?,
            b'D' => {
                let relation = reader.u32("delete: relation")?;
                let form = reader.u8("delete: tuple")?;
                match read_old(&mut reader, form)? {
                    Some(old) => Message::Delete { relation, old },
                    None => return Err(ReadError::Unknown { what: "delete: tuple", byte: form }),
                }
            }
            b'T' => read_truncate(&mut reader)?,
            b'M' => read_logical(&mut reader)?,
            byte => return Err(ReadError::Unknown { what: "message type", byte }),
        };
        reader.finish("message")?;
        Ok(message)
    }
}

fn read_commit<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, ReadError> {
    match reader.u8("commit: flags")? {
        0 => Ok(Message::Commit {
            commit_lsn: Lsn(reader.u64("commit: commit LSN")?),
            end: EndLsn(Lsn(reader.u64("commit: end LSN")?)),
            committed_at_us: unix_us(reader.i64("commit: time")?),
        }),
        byte => Err(ReadError::Unknown { what: "commit: flags", byte }),
    }
}

fn read_relation(reader: &mut Reader<'_>) -> Result<Relation, ReadError> {
    let oid = reader.u32("relation: object id")?;
    let schema = match reader.text("relation: schema")? {
        "" => "pg_catalog",
        schema => schema,
    };
    let name = reader.text("relation: name")?;
    let identity = match reader.u8("relation: replica identity")? {
        b'd' => ReplicaIdentity::Default,
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        byte => return Err(ReadError::Unknown { what: "relation: replica identity", byte }),
    };
    let count = reader.count16("relation: number of columns")?;
    // Not reserved from the count: that is the sender's word, and ten bytes a column must follow.
    let mut columns = Vec::new();
    for _ in 0..count {
        let identity = match reader.u8("relation column: flags")? {
            0 => false,
            1 => true,
            byte => return Err(ReadError::Unknown { what: "relation column: flags", byte }),
        };
        columns.push(RelationColumn {
            identity,
            name: reader.text("relation column: name")?.to_owned(),
            type_oid: reader.u32("relation column: type")?,
            type_modifier: reader.i32("relation column: type modifier")?,
            type_name: None,
        });
    }
    Ok(Relation { oid, schema: schema.to_owned(), name: name.to_owned(), identity, columns })
}

fn read_update<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, ReadError> {
    let relation = reader.u32("update: relation")?;
    let mut form = reader.u8("update: tuple")?;
    let old = read_old(reader, form)?;
    if old.is_some() {
        form = reader.u8("update: new tuple")?;
    }
    match form {
        b'N' => Ok(Message::Update { relation, old, new: Tuple::read(reader)? }),
        byte => Err(ReadError::Unknown { what: "update: tuple", byte }),
    }
}

fn read_old<'a>(reader: &mut Reader<'a>, form: u8) -> Result<Option<OldTuple<'a>>, ReadError> {
    Ok(match form {
        b'K' => Some(OldTuple::Key(Tuple::read(reader)?)),
        b'O' => Some(OldTuple::Full(Tuple::read(reader)?)),
        _ => None,
    })
}

fn read_truncate<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, ReadError> {
    let count = reader.count32("truncate: number of relations")?;
    let options = reader.u8("truncate: options")?;
    if options & !0b11 != 0 {
        return Err(ReadError::Unknown { what: "truncate: options", byte: options });
    }
    let mut relations = Vec::new();
    for _ in 0..count {
        relations.push(reader.u32("truncate: relation")?);
    }
    Ok(Message::Truncate { relations, cascade: options & 1 != 0, restart_identity: options & 2 != 0 })
}

fn read_logical<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, ReadError> {
    let transactional = match reader.u8("logical message: flags")? {
        0 => false,
        1 => true,
        byte => return Err(ReadError::Unknown { what: "logical message: flags", byte }),
    };
    let lsn = Lsn(reader.u64("logical message: LSN")?);
    let prefix = reader.terminated("logical message: prefix")?;
    let length = reader.count32("logical message: length")?;
    let content = reader.bytes("logical message: content", length)?;
    Ok(Message::Logical { transactional, lsn, prefix, content })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The other direction, for tests only: what a walsender would send.
    fn tuple(columns: &[Option<&[u8]>]) -> Vec<u8> {
        let mut bytes = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
        for column in columns {
            match column {
                None => bytes.push(b'n'),
                Some(text) => {
                    bytes.push(b't');
                    bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                    bytes.extend(*text);
                }
            }
        }
        bytes
    }

    fn valid_messages() -> Vec<Vec<u8>> {
        let oid = 7u32.to_be_bytes();
        let row = tuple(&[Some(b"1"), None, Some("é".as_bytes())]);
        let mut unchanged = vec![0, 2];
        unchanged.extend(b"ut\0\0\0\x01x");
        let mut relation = [b"R".as_slice(), &oid, b"\0t\0d\0\x02"].concat();
        relation.extend(b"\x01id\0\0\0\0\x17\xff\xff\xff\xff\0body\0\0\0\0\x19\xff\xff\xff\xff");
        vec![
            [b"B".as_slice(), &[0; 20]].concat(),
            [b"C\0".as_slice(), &[0; 24]].concat(),
            [b"O".as_slice(), &[0; 8], b"elsewhere\0"].concat(),
            relation,
            [b"Y".as_slice(), &oid, b"public\0mood\0"].concat(),
            [b"I".as_slice(), &oid, b"N", &row].concat(),
            [b"U".as_slice(), &oid, b"N", &unchanged].concat(),
            [b"U".as_slice(), &oid, b"K", &row, b"N", &row].concat(),
            [b"U".as_slice(), &oid, b"O", &row, b"N", &row].concat(),
            [b"D".as_slice(), &oid, b"K", &row].concat(),
            [b"D".as_slice(), &oid, b"O", &row].concat(),
            [b"T\0\0\0\x02\x03".as_slice(), &oid, &oid].concat(),
            [b"M\x01".as_slice(), &[0; 8], b"prefix\0\0\0\0\x03abc"].concat(),
        ]
    }

    #[test]
    fn every_kind_of_message_is_read() {
        for bytes in valid_messages() {
            Message::parse(&bytes).unwrap();
        }
    }

    #[test]
    fn a_message_ends_where_it_ends() {
        for mut bytes in valid_messages() {
            for cut in 0..bytes.len() {
                assert!(Message::parse(&bytes[..cut]).is_err(), "{:?} cut at {cut}", bytes[0] as char);
            }
            bytes.push(0);
            assert_eq!(Message::parse(&bytes), Err(ReadError::Trailing { what: "message", left: 1 }));
        }
    }

    #[test]
    fn an_unknown_type_is_an_error() {
        assert_eq!(Message::parse(b"S"), Err(ReadError::Unknown { what: "message type", byte: b'S' }));
    }

    #[test]
    fn a_binary_column_is_an_error() {
        let bytes = b"I\0\0\0\x07N\0\x01b\0\0\0\x01\x01";
        assert_eq!(Message::parse(bytes), Err(ReadError::BinaryColumn));
    }

    #[test]
    fn null_unchanged_and_empty_are_three_things() {
        let Ok(Message::Insert { new, .. }) = Message::parse(b"I\0\0\0\x07N\0\x03nut\0\0\0\0") else {
            panic!("an insert")
        };
        assert_eq!(new.values().collect::<Vec<_>>(), [Value::Null, Value::Unchanged, Value::Text(b"")]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(kind in prop::sample::select(b"BCORYIUDTM?".to_vec()), mut bytes: Vec<u8>) {
            bytes.insert(0, kind);
            if let Ok(Message::Insert { new, .. }) = Message::parse(&bytes) {
                prop_assert_eq!(new.values().count(), new.len());
            }
        }

        #[test]
        fn no_damage_makes_it_panic(which in 0..13usize, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut bytes = valid_messages().swap_remove(which);
            let index = at.index(bytes.len());
            bytes[index] = byte;
            let _ = Message::parse(&bytes);
            bytes.truncate(cut.index(bytes.len() + 1));
            let _ = Message::parse(&bytes);
        }
    }
}
