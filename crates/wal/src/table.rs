//! What a row belongs to: one version of one table's shape.
//!
//! Rows are decoded with the version that was valid at their place in the WAL, never with what the catalog says today.

use std::fmt;

use crate::kind::Kind;

/// One version of a table's shape, as the rows that follow it have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The table's object id: its identity through renames.
    pub oid: u32,
    /// Version of the shape, counted from 1 per table by history; 0 while history has not numbered it.
    pub version: u32,
    /// Schema and name.
    pub name: TableName,
    /// Published columns, in the order in which the source sends them.
    pub columns: Vec<Column>,
    /// Indexes into `columns` of what names a row: the primary key, else the identity index; empty where there is
    /// neither. In the order of the columns. Never the columns of REPLICA IDENTITY FULL. With USING INDEX of columns
    /// that lack some of the primary key it is that index, since a delete then names nothing else.
    pub key: Vec<u16>,
    /// What the source sends of the old row.
    pub identity: ReplicaIdentity,
}

/// One published column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its number (`attnum`), its identity through renames; 0 where only the stream knows the column.
    pub number: i16,
    /// Its name, unquoted.
    pub name: String,
    /// Object id of its type.
    pub type_oid: u32,
    /// The type modifier (`atttypmod`), -1 where there is none.
    pub type_modifier: i32,
    /// The type as `format_type` prints it, without modifier: `integer`, `text[]`.
    pub type_name: String,
    /// How its values become JSON.
    pub kind: Kind,
    /// False only where the catalog said NOT NULL.
    pub nullable: bool,
    /// Whether the source sends it in a key-only old row (`K`).
    pub identity: bool,
}

/// `REPLICA IDENTITY` of a table: what an update or delete carries of the old row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    Default,
    /// Nothing.
    Nothing,
    /// The whole row.
    Full,
    /// Of a partitioned table: FULL by itself, but not in all of its partitions. What comes as a whole old row may be only
    /// its key, with nulls in place of the rest.
    Mixed,
    /// The columns of a chosen unique index.
    Index,
}

/// Schema and name of a table. Prints as `schema.table`, each part quoted where SQL would need it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", quote_ident(&self.schema), quote_ident(&self.name))
    }
}

/// The text is not `schema.table`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a table name: expected schema.table, a part in double quotes where SQL would need them")]
pub struct ParseTableNameError;

impl std::str::FromStr for TableName {
    type Err = ParseTableNameError;

    /// Reads `schema.table` as SQL would: unquoted parts fold to lower case; a name alone is in `public`.
    fn from_str(text: &str) -> Result<Self, ParseTableNameError> {
        let (first, rest) = take_ident(text)?;
        match rest.strip_prefix('.') {
            None if rest.is_empty() => Ok(TableName { schema: "public".into(), name: first }),
            None => Err(ParseTableNameError),
            Some(rest) => match take_ident(rest)? {
                (name, "") => Ok(TableName { schema: first, name }),
                _ => Err(ParseTableNameError),
            },
        }
    }
}

/// Reads one identifier and returns it unquoted, with what follows it.
fn take_ident(text: &str) -> Result<(String, &str), ParseTableNameError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(['.', '"']).unwrap_or(text.len());
        let bare = &text[..end];
        let legal = !bare.is_empty()
            && !bare.starts_with(|c: char| c.is_ascii_digit() || c == '$')
            && bare.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii());
        return if legal { Ok((bare.to_ascii_lowercase(), &text[end..])) } else { Err(ParseTableNameError) };
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"').ok_or(ParseTableNameError)?;
        // No name of PostgreSQL's has it, and none of its texts: a query with it would fail.
        if rest[..end].contains('\0') {
            return Err(ParseTableNameError);
        }
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None if name.is_empty() => return Err(ParseTableNameError),
            None => return Ok((name, rest)),
        }
    }
}

/// Quotes an identifier where SQL would need it: anything but a plain lower-case word that is no reserved word.
pub fn quote_ident(ident: &str) -> String {
    let plain = ident.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && ident.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && RESERVED.binary_search(&ident).is_err();
    if plain { ident.to_owned() } else { format!("\"{}\"", ident.replace('"', "\"\"")) }
}

/// Words that PostgreSQL quotes as identifiers (`pg_get_keywords()`, all categories but "unreserved"), sorted.
#[rustfmt::skip]
const RESERVED: [&str; 164] = [
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization",
    "between", "bigint", "binary", "bit", "boolean", "both", "case", "cast", "char", "character", "check",
    "coalesce", "collate", "collation", "column", "concurrently", "constraint", "create", "cross",
    "current_catalog", "current_date", "current_role", "current_schema", "current_time",
    "current_timestamp", "current_user", "dec", "decimal", "default", "deferrable", "desc", "distinct",
    "do", "else", "end", "except", "exists", "extract", "false", "fetch", "float", "for", "foreign",
    "freeze", "from", "full", "grant", "greatest", "group", "grouping", "having", "ilike", "in",
    "initially", "inner", "inout", "int", "integer", "intersect", "interval", "into", "is", "isnull",
    "join", "json", "json_array", "json_arrayagg", "json_exists", "json_object", "json_objectagg",
    "json_query", "json_scalar", "json_serialize", "json_table", "json_value", "lateral", "leading",
    "least", "left", "like", "limit", "localtime", "localtimestamp", "merge_action", "national", "natural",
    "nchar", "none", "normalize", "not", "notnull", "null", "nullif", "numeric", "offset", "on", "only",
    "or", "order", "out", "outer", "overlaps", "overlay", "placing", "position", "precision", "primary",
    "real", "references", "returning", "right", "row", "select", "session_user", "setof", "similar",
    "smallint", "some", "substring", "symmetric", "system_user", "table", "tablesample", "then", "time",
    "timestamp", "to", "trailing", "treat", "trim", "true", "union", "unique", "user", "using", "values",
    "varchar", "variadic", "verbose", "when", "where", "window", "with", "xmlattributes", "xmlconcat",
    "xmlelement", "xmlexists", "xmlforest", "xmlnamespaces", "xmlparse", "xmlpi", "xmlroot", "xmlserialize",
    "xmltable",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reserved_word_is_quoted() {
        assert!(RESERVED.is_sorted());
        assert!(RESERVED.iter().all(|word| quote_ident(word) == format!("\"{word}\"")));
        assert_eq!(quote_ident("orders"), "orders");
    }

    #[test]
    fn names_survive_a_round_trip() {
        for (schema, name, text) in [
            ("public", "orders", "public.orders"),
            ("a.b", "c", "\"a.b\".c"),
            ("public", "Say \"hi\"; drop", "public.\"Say \"\"hi\"\"; drop\""),
            ("public", "user", "public.\"user\""),
            ("caf\u{e9}", "1st", "\"caf\u{e9}\".\"1st\""),
        ] {
            let table = TableName { schema: schema.into(), name: name.into() };
            assert_eq!(table.to_string(), text);
            assert_eq!(text.parse::<TableName>().unwrap(), table);
        }
    }

    #[test]
    fn a_bare_name_is_public_and_folds() {
        let table: TableName = "Orders".parse().unwrap();
        assert_eq!(table.to_string(), "public.orders");
    }

    #[test]
    fn no_name_has_a_nul() {
        for text in ["\0", "a\0b", "\"a\0b\"", "public.\"\0\"", "\"\0\".a", "\"a\"\"\0\""] {
            assert_eq!(text.parse::<TableName>(), Err(ParseTableNameError), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_table_name() {
        for text in ["", ".", "a.", ".a", "a.b.c", "a b", "\"a", "\"\"", "1a", "a;b", "public.*"] {
            assert_eq!(text.parse::<TableName>(), Err(ParseTableNameError), "{text:?}");
        }
    }
}
