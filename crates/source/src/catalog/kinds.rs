//! What the types of columns are made of, asked from the catalog.

use std::collections::{BTreeSet, HashMap};

use tokio_postgres::Client;
use waldelta_wal::Kind;

use super::resolve::{Attribute, Definition, resolve};
use crate::Error;
use crate::ask::{Answer, ask};

/// How values of these types become JSON, as the catalog has them now: one question for all of them, and none where all
/// are built in. A type that is gone, or that nobody knows, is its text.
///
/// # Errors
/// When the question fails.
pub async fn kinds(
    client: &Client,
    type_oids: impl IntoIterator<Item = u32>,
) -> Result<HashMap<u32, Kind>, Error> {
    let mut kinds = HashMap::new();
    let mut unknown = BTreeSet::new();
    for type_oid in type_oids {
        match Kind::builtin(type_oid) {
            Some(kind) => drop(kinds.insert(type_oid, kind)),
            None => drop(unknown.insert(type_oid)),
        }
    }
    if unknown.is_empty() {
        return Ok(kinds);
    }
    let asked: Vec<u32> = unknown.iter().copied().collect();
    let sql = include_str!("../../../../sql/source/types.sql");
    let rows = ask(client, "read what types are made of", sql, &[&asked]).await?;
    let definitions: HashMap<u32, Definition> = rows.iter().map(definition).collect::<Result<_, _>>()?;
    kinds.extend(unknown.into_iter().map(|type_oid| (type_oid, resolve(&definitions, type_oid))));
    Ok(kinds)
}

fn definition(row: &Answer) -> Result<(u32, Definition), Error> {
    let definition = if let Some(base) = row.read::<Option<u32>>("base")? {
        Definition::Domain(base)
    } else if let Some(element) = row.read::<Option<u32>>("element")? {
        let delimiter = row.read::<Option<&str>>("delimiter")?.and_then(|delimiter| delimiter.bytes().next());
        Definition::Array { element, delimiter: delimiter.unwrap_or(b',') }
    } else if row.read("is_composite")? {
        Definition::Composite(attributes(row)?)
    } else if row.read("is_hstore")? {
        Definition::Hstore
    } else {
        Definition::Opaque
    };
    Ok((row.read("oid")?, definition))
}

fn attributes(row: &Answer) -> Result<Vec<Attribute>, Error> {
    let numbers: Vec<i16> = row.read("numbers")?;
    let names: Vec<String> = row.read("names")?;
    let type_oids: Vec<u32> = row.read("type_oids")?;
    let type_names: Vec<String> = row.read("type_names")?;
    let attributes = numbers.into_iter().zip(names).zip(type_oids).zip(type_names);
    let attribute = |(((number, name), type_oid), type_name)| Attribute { number, name, type_oid, type_name };
    Ok(attributes.map(attribute).collect())
}
