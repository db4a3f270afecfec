//! What clients ask a PostgreSQL about itself: its tables, as far as they look into `information_schema`, and a few settings.

use crate::{Column, Kind, Table, Value};

const fn text(name: &'static str, about: &'static str) -> Column {
    Column { name, kind: Kind::Text, about }
}

const TABLES: Table = Table {
    name: "tables",
    about: "Tables of this console.",
    columns: &[
        text("table_catalog", "The database."),
        text("table_schema", "Always public."),
        text("table_name", "Name."),
        text("table_type", "Always VIEW."),
    ],
};

const COLUMNS: Table = Table {
    name: "columns",
    about: "Columns of the tables of this console.",
    columns: &[
        text("table_catalog", "The database."),
        text("table_schema", "Always public."),
        text("table_name", "Name of the table."),
        text("column_name", "Name."),
        Column { name: "ordinal_position", kind: Kind::Int, about: "Its number, from 1." },
        text("data_type", "Type."),
        text("udt_name", "Type, as PostgreSQL calls it inside."),
        text("is_nullable", "Always YES."),
    ],
};

static INFORMATION_SCHEMA: [Table; 2] = [TABLES, COLUMNS];

/// The table of this name.
pub(crate) fn table(tables: &'static [Table], name: &str) -> Option<&'static Table> {
    tables.iter().find(|table| table.name == name)
}

/// A table of PostgreSQL's own schemas.
pub(crate) fn of_schema(schema: &str, name: &str) -> Option<&'static Table> {
    (schema == "information_schema").then(|| table(&INFORMATION_SCHEMA, name)).flatten()
}

/// The rows, where it is one of those.
pub(crate) fn rows(
    asked: &'static Table,
    tables: &'static [Table],
    database: &str,
) -> Option<Vec<Vec<Value>>> {
    let listed = tables.iter();
    if std::ptr::eq(asked, &raw const INFORMATION_SCHEMA[0]) {
        return Some(
            listed
                .map(|table| vec![database.into(), "public".into(), table.name.into(), "VIEW".into()])
                .collect(),
        );
    }
    if !std::ptr::eq(asked, &raw const INFORMATION_SCHEMA[1]) {
        return None;
    }
    let of_table = |table: &'static Table| {
        table.columns.iter().zip(1..).map(|(column, number)| {
            vec![
                database.into(),
                "public".into(),
                table.name.into(),
                column.name.into(),
                Value::Int(number),
                column.kind.name().into(),
                internal_name(column.kind).into(),
                "YES".into(),
            ]
        })
    };
    Some(listed.flat_map(of_table).collect())
}

fn internal_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Int => "int8",
        Kind::Float => "float8",
        Kind::Bool => "bool",
        Kind::Time => "timestamptz",
    }
}

/// The version of PostgreSQL whose protocol is spoken. Drivers decide by it what they may ask.
pub(crate) const SERVER_VERSION: &str = "15.0";

/// A setting that drivers ask for.
pub(crate) fn setting(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "server_version" => SERVER_VERSION,
        "server_version_num" => "150000",
        "server_encoding" | "client_encoding" => "UTF8",
        "standard_conforming_strings" | "integer_datetimes" => "on",
        "transaction_isolation" | "transaction_isolation_level" | "default_transaction_isolation" => {
            "read committed"
        }
        "transaction_read_only" | "default_transaction_read_only" => "on",
        "is_superuser" => "off",
        "datestyle" => "ISO, MDY",
        "timezone" => "UTC",
        "search_path" => "public",
        "max_identifier_length" => "63",
        _ => return None,
    })
}
