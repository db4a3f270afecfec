//! Arrays, composites and hstores in each other, written as PostgreSQL's output functions write them (array_out, record_out,
//! hstore_out), come out as what they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use waldelta_wal::{
    ArrayKind, Column, CompositeKind, Field, Kind, ReplicaIdentity, RowEncoder, RowNotes, Scalar, Table,
    TableName, Value, ValuePolicy,
};

/// A value and, by its form, its type. Elements of an array are of one type.
#[derive(Clone, Debug)]
enum Nested {
    Text(String),
    Number(i32),
    Hstore(BTreeMap<String, Option<String>>),
    Array(Vec<Option<Nested>>),
    /// Of two dimensions.
    Grid(Vec<[Option<Nested>; 2]>),
    Composite(Vec<Option<Nested>>),
}

/// Types, of which values are made.
#[derive(Clone, Debug)]
enum Shape {
    Text,
    Number,
    Hstore,
    Array(Box<Shape>),
    Grid(Box<Shape>),
    Composite(Vec<Shape>),
}

fn shape() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![Just(Shape::Text), Just(Shape::Number), Just(Shape::Hstore)];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|element| Shape::Array(Box::new(element))),
            inner.clone().prop_map(|element| Shape::Grid(Box::new(element))),
            prop::collection::vec(inner, 0..4).prop_map(Shape::Composite),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    "([a(){},;\"\\\\' é\n\t=>]|NULL|null){0,6}"
}

fn value(shape: &Shape) -> BoxedStrategy<Nested> {
    let maybe = |shape: &Shape| prop::option::weighted(0.8, value(shape));
    match shape {
        Shape::Text => text().prop_map(Nested::Text).boxed(),
        Shape::Number => any::<i32>().prop_map(Nested::Number).boxed(),
        Shape::Hstore => prop::collection::btree_map(text(), prop::option::of(text()), 0..3)
            .prop_map(Nested::Hstore)
            .boxed(),
        Shape::Array(element) => prop::collection::vec(maybe(element), 0..3).prop_map(Nested::Array).boxed(),
        Shape::Grid(element) => {
            prop::collection::vec([maybe(element), maybe(element)], 1..3).prop_map(Nested::Grid).boxed()
        }
        Shape::Composite(fields) => {
            fields.iter().map(maybe).collect::<Vec<_>>().prop_map(Nested::Composite).boxed()
        }
    }
}

fn kind(shape: &Shape) -> Kind {
    match shape {
        Shape::Text => Kind::TEXT,
        Shape::Number => Kind::Scalar(Scalar::Number),
        Shape::Hstore => Kind::Hstore,
        Shape::Array(element) | Shape::Grid(element) => {
            Kind::Array(Arc::new(ArrayKind { element: kind(element), delimiter: b',' }))
        }
        Shape::Composite(fields) => {
            let field = |(number, shape): (i16, &Shape)| Field {
                number,
                name: format!("f{number}"),
                type_name: "t".into(),
                kind: kind(shape),
            };
            let fields = (1..).zip(fields).map(field).collect();
            Kind::Composite(Arc::new(CompositeKind { type_oid: 16_400, fields }))
        }
    }
}

/// What the output function of the type prints.
fn printed(value: &Nested) -> String {
    match value {
        Nested::Text(text) => text.clone(),
        Nested::Number(number) => number.to_string(),
        Nested::Hstore(pairs) => {
            let quoted = |text: &String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let pair = |(key, value): (&String, &Option<String>)| {
                format!("{}=>{}", quoted(key), value.as_ref().map_or("NULL".into(), quoted))
            };
            pairs.iter().map(pair).collect::<Vec<_>>().join(", ")
        }
        Nested::Array(elements) => braces(elements.iter().map(element)),
        Nested::Grid(rows) => braces(rows.iter().map(|row| braces(row.iter().map(element)))),
        Nested::Composite(fields) => {
            let field = |field: &Option<Nested>| {
                field.as_ref().map_or(String::new(), |value| quoted_field(&printed(value)))
            };
            format!("({})", fields.iter().map(field).collect::<Vec<_>>().join(","))
        }
    }
}

fn braces(elements: impl Iterator<Item = String>) -> String {
    format!("{{{}}}", elements.collect::<Vec<_>>().join(","))
}

fn element(element: &Option<Nested>) -> String {
    let Some(value) = element else { return "NULL".into() };
    let text = printed(value);
    let needs_quotes = text.is_empty()
        || text.eq_ignore_ascii_case("NULL")
        || text.contains(|c: char| "\"\\{},".contains(c) || c.is_ascii_whitespace());
    if needs_quotes { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) } else { text }
}

fn quoted_field(text: &str) -> String {
    let needs_quotes =
        text.is_empty() || text.contains(|c: char| "\"\\(),".contains(c) || c.is_ascii_whitespace());
    if needs_quotes {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""))
    } else {
        text.into()
    }
}

/// What `to_jsonb` makes of it.
fn expected(value: &Nested) -> Json {
    let maybe = |value: &Option<Nested>| value.as_ref().map_or(Json::Null, expected);
    match value {
        Nested::Text(text) => json!(text),
        Nested::Number(number) => json!(number),
        Nested::Hstore(pairs) => json!(pairs),
        Nested::Array(elements) => elements.iter().map(maybe).collect(),
        Nested::Grid(rows) => rows.iter().map(|row| row.iter().map(maybe).collect::<Json>()).collect(),
        Nested::Composite(fields) => {
            (1..).zip(fields).map(|(number, field)| (format!("f{number}"), maybe(field))).collect()
        }
    }
}

fn encoder(kind: Kind) -> RowEncoder {
    let column = Column {
        number: 1,
        name: "v".into(),
        type_oid: 16_400,
        type_modifier: -1,
        type_name: "t".into(),
        kind,
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

proptest! {
    #[test]
    fn a_nested_value_comes_out_as_it_is((shape, value) in shape().prop_flat_map(|shape| (Just(shape.clone()), value(&shape)))) {
        // An array of no rows prints as one of no elements.
        let mut out = Vec::new();
        let notes = encoder(kind(&shape)).encode_object([Value::Text(printed(&value).as_bytes())], &mut out);
        prop_assert_eq!(notes, Ok(RowNotes::default()));
        let found: Json = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(&found["v"], &expected(&value), "{}", printed(&value));
    }

    #[test]
    fn no_text_makes_it_panic(shape in shape(), bytes: Vec<u8>, text in "[(){}\",;\\\\=> aNUL1]{0,40}") {
        for text in [&bytes[..], text.as_bytes()] {
            let mut out = Vec::new();
            if encoder(kind(&shape)).encode_object([Value::Text(text)], &mut out).is_ok() {
                prop_assert!(serde_json::from_slice::<Json>(&out).is_ok());
            }
        }
    }
}
