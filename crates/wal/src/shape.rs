//! A table's shape as JSON: what history's `schema` changes hold and clients are told.

use crate::json;
use crate::kind::{CompositeKind, Kind};
use crate::table::Table;

/// Writes `{"version":…,"columns":[{"name":…,"type":…,"nullable":…,"key":…,"number":…,"fields":[…]}]}`, columns in their
/// order; `number` only where it is known, `fields` (each with `name` and `type`) only for composites and arrays of them.
pub fn schema_json(table: &Table, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"version\":{},\"columns\":[", table.version).as_bytes());
    for (index, column) in (0u16..).zip(&table.columns) {
        if index > 0 {
            out.push(b',');
        }
        name_and_type(&column.name, &column.type_name, out);
        let (nullable, key) = (column.nullable, table.key.contains(&index));
        out.extend_from_slice(format!(",\"nullable\":{nullable},\"key\":{key}").as_bytes());
        if column.number != 0 {
            out.extend_from_slice(format!(",\"number\":{}", column.number).as_bytes());
        }
        if let Some(composite) = composite(&column.kind) {
            fields(composite, out);
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

fn fields(composite: &CompositeKind, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"fields\":[");
    for (index, field) in composite.fields.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        name_and_type(&field.name, &field.type_name, out);
        if let Some(composite) = self::composite(&field.kind) {
            fields(composite, out);
        }
        out.push(b'}');
    }
    out.push(b']');
}

fn name_and_type(name: &str, type_name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":");
    json::write_string(name.as_bytes(), out);
    out.extend_from_slice(b",\"type\":");
    json::write_string(type_name.as_bytes(), out);
}

fn composite(kind: &Kind) -> Option<&CompositeKind> {
    match kind {
        Kind::Composite(composite) => Some(composite),
        Kind::Array(array) => composite(&array.element),
        Kind::Scalar(_) | Kind::Hstore => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kind::{ArrayKind, Field};
    use crate::table::{Column, ReplicaIdentity, TableName};

    #[test]
    fn a_shape_has_the_fields_of_its_composites() {
        let composite = |name: &str, kind| {
            let field = Field { number: 3, name: name.into(), type_name: "x".into(), kind };
            Kind::Composite(Arc::new(CompositeKind { type_oid: 16_400, fields: vec![field] }))
        };
        let inner = composite("b\"", Kind::TEXT);
        let array = Kind::Array(Arc::new(ArrayKind { element: composite("a", inner), delimiter: b',' }));
        let column = |number, name: &str, kind| Column {
            number,
            name: name.into(),
            type_oid: 16_400,
            type_modifier: -1,
            type_name: "t".into(),
            kind,
            nullable: number == 0,
            identity: true,
        };
        let table = Table {
            oid: 1,
            version: 7,
            name: TableName { schema: "public".into(), name: "t".into() },
            columns: vec![column(2, "id", Kind::TEXT), column(0, "list", array)],
            key: vec![0],
            identity: ReplicaIdentity::Default,
        };
        let mut out = Vec::new();
        schema_json(&table, &mut out);
        let expected = concat!(
            r#"{"version":7,"columns":[{"name":"id","type":"t","nullable":false,"key":true,"number":2},"#,
            r#"{"name":"list","type":"t","nullable":true,"key":false,"#,
            r#""fields":[{"name":"a","type":"x","fields":[{"name":"b\"","type":"x"}]}]}]}"#
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
