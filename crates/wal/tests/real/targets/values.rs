//! Texts of values: of every built-in type, of arrays, composites and hstores, and of those in each other.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::value::RawValue;
use waldelta_wal::{
    ArrayKind, Column, CompositeKind, CopyText, Kind, ReplicaIdentity, RowEncoder, Scalar, Table, TableName,
    Value, ValuePolicy, type_name,
};

use crate::walsender::kind_of;

/// Columns of the table nested, in order, but for its id.
const NESTED: [&str; 16] = [
    "feeling", "feelings", "place", "places", "trip", "one", "ones", "small", "grid", "grids", "home",
    "homes", "tags", "tag_list", "loud", "label",
];

/// Types of values, by the first byte of an input: built-in ones by their object ids, then those of the table nested.
pub(crate) fn kinds() -> &'static [(u32, String, Kind)] {
    static KINDS: LazyLock<Vec<(u32, String, Kind)>> = LazyLock::new(|| {
        let builtin = |oid| Some((oid, type_name(oid)?.to_owned(), Kind::builtin(oid)?));
        let nested = NESTED.map(|column| {
            let (name, kind) = kind_of(column);
            (16_400, name.to_owned(), kind)
        });
        (0..10_000).filter_map(builtin).chain(nested).collect()
    });
    &KINDS
}

/// Which type, then a text. What it becomes is JSON; and that, printed as the type prints it, becomes the same again.
pub(crate) fn value(data: &[u8]) {
    let Some((which, text)) = data.split_first() else { return };
    let (oid, name, kind) = &kinds()[usize::from(*which) % kinds().len()];
    let encoder = encoder(*oid, name, kind);
    let Some((json, flagged)) = encoded(&encoder, text) else { return };
    let holds_json = format!("{kind:?}").contains("Json");
    if holds_json {
        return; // What PostgreSQL has checked is taken over as it is.
    }
    let told = || format!("{name} {:?}: {json}", String::from_utf8_lossy(text));
    let read: &RawValue = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error} {}", told()));
    let Some(printed) = printed(kind, read).filter(|_| !flagged) else { return };
    if let Kind::Scalar(_) = kind {
        assert_eq!(printed.as_bytes(), text, "{}", told());
    }
    let again = encoded(&encoder, printed.as_bytes()).unwrap_or_else(|| panic!("{printed:?} {}", told()));
    let (once, twice) = (read, serde_json::from_str(&again.0).unwrap());
    assert!(is_same(once, twice), "{printed:?} {}", told());
}

/// The JSON of a value, and whether it stands for something that jsonb cannot hold. `None` where it is refused.
fn encoded(encoder: &RowEncoder, text: &[u8]) -> Option<(String, bool)> {
    let mut out = Vec::new();
    let notes = encoder.encode_object([Value::Text(text)], &mut out).ok()?;
    let row = String::from_utf8(out).unwrap();
    let value = row.strip_prefix("{\"v\":").and_then(|row| row.strip_suffix('}')).unwrap();
    Some((value.to_owned(), !notes.flagged.is_empty()))
}

/// Of a table with one column.
fn encoder(type_oid: u32, type_name: &str, kind: &Kind) -> RowEncoder {
    let column = Column {
        number: 1,
        name: "v".into(),
        type_oid,
        type_modifier: -1,
        type_name: type_name.into(),
        kind: kind.clone(),
        nullable: true,
        identity: true,
    };
    let table = Table {
        oid: 1,
        version: 1,
        name: TableName { schema: "public".into(), name: "t".into() },
        columns: vec![column],
        key: vec![],
        identity: ReplicaIdentity::Default,
    };
    RowEncoder::new(&table, ValuePolicy::default())
}

/// What the type's output function would have printed, as far as the JSON still tells.
fn printed(kind: &Kind, json: &RawValue) -> Option<String> {
    match kind {
        Kind::Scalar(scalar) => printed_scalar(*scalar, json),
        Kind::Array(array) => printed_array(array, json),
        Kind::Composite(composite) => printed_composite(composite, json),
        Kind::Hstore => {
            let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let pairs: BTreeMap<String, Option<String>> = serde_json::from_str(json.get()).ok()?;
            let pair = |(key, value): (&String, &Option<String>)| {
                format!("{}=>{}", quoted(key), value.as_deref().map_or("NULL".into(), quoted))
            };
            Some(pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
    }
}

fn printed_scalar(scalar: Scalar, json: &RawValue) -> Option<String> {
    let string = || serde_json::from_str::<String>(json.get()).ok();
    Some(match scalar {
        Scalar::Bool => json.get().get(..1)?.to_owned(),
        Scalar::Number => string().unwrap_or_else(|| json.get().to_owned()),
        Scalar::Text | Scalar::Bytea | Scalar::Date => string()?,
        Scalar::Timestamp => string()?.replace('T', " "),
        Scalar::TimestampTz => string()?.replace('T', " ").replace("+00:00", "+00"),
        Scalar::Int2Vector => {
            let numbers: Vec<&RawValue> = serde_json::from_str(json.get()).ok()?;
            numbers.iter().map(|number| number.get()).collect::<Vec<_>>().join(" ")
        }
        Scalar::OidVector => serde_json::from_str::<Vec<String>>(json.get()).ok()?.join(" "),
        Scalar::Json | Scalar::Jsonb => return None,
    })
}

fn printed_array(array: &ArrayKind, json: &RawValue) -> Option<String> {
    // Where elements are arrays themselves, the JSON does not tell a dimension from an element.
    let (Kind::Array(_) | Kind::Scalar(Scalar::Int2Vector | Scalar::OidVector)) = array.element else {
        return printed_dimension(array, json);
    };
    None
}

fn printed_dimension(array: &ArrayKind, json: &RawValue) -> Option<String> {
    let elements: Vec<&RawValue> = serde_json::from_str(json.get()).ok()?;
    let mut texts = Vec::new();
    for element in elements {
        texts.push(match element.get().as_bytes()[0] {
            b'[' => printed_dimension(array, element)?,
            b'n' => "NULL".to_owned(),
            _ => {
                let text = printed(&array.element, element)?;
                format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
            }
        });
    }
    Some(format!("{{{}}}", texts.join(&char::from(array.delimiter).to_string())))
}

fn printed_composite(composite: &CompositeKind, json: &RawValue) -> Option<String> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(json.get()).ok()?;
    let mut texts = Vec::new();
    for field in &composite.fields {
        texts.push(match *fields.get(&field.name)? {
            null if null.get() == "null" => String::new(),
            value => {
                let text = printed(&field.kind, value)?;
                format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""))
            }
        });
    }
    Some(format!("({})", texts.join(",")))
}

/// Whatever the order of members, and of several of one name the last.
fn is_same(one: &RawValue, other: &RawValue) -> bool {
    type Members<'a> = BTreeMap<String, &'a RawValue>;
    let members = |json: &'_ RawValue| {
        serde_json::from_str::<Members<'_>>(json.get()).ok().map(|members| {
            members.into_iter().map(|(name, value)| (name, value.to_owned())).collect::<BTreeMap<_, _>>()
        })
    };
    let elements = |json: &'_ RawValue| serde_json::from_str::<Vec<Box<RawValue>>>(json.get()).ok();
    match (members(one), members(other), elements(one), elements(other)) {
        (Some(one), Some(other), ..) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| is_same(value, other)))
        }
        (_, _, Some(one), Some(other)) => {
            one.len() == other.len() && one.iter().zip(&other).all(|(one, other)| is_same(one, other))
        }
        _ => one.get() == other.get(),
    }
}

/// The texts of all built-in types as a real server prints them, and the rows of the table nested.
pub(crate) fn value_seeds() -> Vec<Vec<u8>> {
    let which = |is: &dyn Fn(u32, &str) -> bool| {
        let place = kinds().iter().position(|(oid, name, _)| is(*oid, name));
        place.map(|place| u8::try_from(place).unwrap())
    };
    let (mut copy, mut seeds) = (CopyText::default(), Vec::new());
    for line in include_str!("../../../fixtures/types.txt").lines() {
        let fields: Vec<Value<'_>> = copy.split(line.as_bytes(), 5).unwrap().collect();
        let (Value::Text(oid), Value::Text(text)) = (&fields[0], &fields[2]) else { continue };
        let oid: u32 = std::str::from_utf8(oid).unwrap().parse().unwrap();
        seeds.push([&[which(&|known, _| known == oid).unwrap()], *text].concat());
    }
    for line in include_str!("../../../fixtures/copy.txt").lines() {
        let Ok(values) = copy.split(line.as_bytes(), 1 + NESTED.len()) else { continue };
        for (column, value) in NESTED.iter().zip(values.skip(1)) {
            let Value::Text(text) = value else { continue };
            let name = kind_of(column).0;
            seeds.push([&[which(&|oid, known| oid == 16_400 && known == name).unwrap()], text].concat());
        }
    }
    seeds
}
