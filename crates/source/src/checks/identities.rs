//! Whether updates and deletes of published tables work, and say which row they are about.

use waldelta_wal::{Code, quote_ident};

use super::{Check, Subject};
use crate::Error;
use crate::setup::survey::{Candidate, Kind, Leaf, candidates};

const NAME: &str = "identities";

/// What was found of one kind, and the statements that mend it.
struct Fault {
    code: Code,
    what: &'static str,
    tables: Vec<String>,
    fixes: Vec<String>,
}

pub(super) async fn identities(subject: &Subject<'_>) -> Result<Check, Error> {
    let mut candidates = candidates(subject.client, &subject.source.publication, false).await?;
    candidates.retain(|table| table.is_published);
    let publication = quote_ident(&subject.source.publication);
    let mut faults = [
        unidentified(&candidates),
        narrowed(&candidates, &publication),
        misfit(&candidates),
        mixed(&candidates),
    ];
    let faults: Vec<_> = faults.iter_mut().filter(|fault| !fault.tables.is_empty()).collect();
    // The gravest comes first.
    let Some(code) = faults.first().map(|fault| fault.code) else {
        return Ok(Check::ok(NAME, "every published table has a replica identity that names its rows"));
    };
    let found: Vec<_> =
        faults.iter().map(|fault| format!("{}: {}", fault.what, fault.tables.join(", "))).collect();
    let fix: Vec<_> = faults.iter().flat_map(|fault| &fault.fixes).map(|sql| format!("{sql};")).collect();
    Ok(Check::warning(NAME, code, found.join("; "), fix.join("\n")))
}

/// The application's own UPDATE and DELETE fail.
fn unidentified(tables: &[Candidate]) -> Fault {
    let by_itself = tables.iter().filter(|table| table.kind == Kind::Table && !table.is_identified);
    let names = by_itself.map(|table| table.name.to_string());
    let fixes = names.clone().map(|name| format!("ALTER TABLE {name} REPLICA IDENTITY FULL"));
    let (mut tables_found, mut statements): (Vec<_>, Vec<_>) = (names.collect(), fixes.collect());
    let leaves = of_leaves(tables, |table| &table.unidentified_leaves);
    tables_found.extend(leaves.0);
    statements.extend(leaves.1);
    Fault {
        code: Code::ReplicaIdentityMissing,
        what: "UPDATE and DELETE fail on published tables without replica identity",
        tables: tables_found,
        fixes: statements,
    }
}

/// They fail because of what the publication leaves out.
fn narrowed(tables: &[Candidate], publication: &str) -> Fault {
    let narrowed: Vec<_> = tables.iter().filter(|table| table.is_narrowed).collect();
    let anew = |table: &&Candidate| {
        let alter =
            |change: &str| format!("ALTER PUBLICATION {publication} {change} TABLE {}", table.by_itself());
        [alter("DROP"), alter("ADD")]
    };
    Fault {
        code: Code::ReplicaIdentityMissing,
        what: "UPDATE and DELETE fail on tables published with a column list or row filter that does not fit their replica identity",
        fixes: narrowed.iter().flat_map(anew).collect(),
        tables: narrowed.iter().map(|table| table.name.to_string()).collect(),
    }
}

/// A delete does not say which row it is about.
fn misfit(tables: &[Candidate]) -> Fault {
    let (tables, fixes) = of_leaves(tables, |table| &table.misfit_leaves);
    Fault {
        code: Code::ReplicaIdentityMissing,
        what: "a delete does not say which row of its root table it is in partitions with another replica identity",
        tables,
        fixes,
    }
}

/// Old rows are not as whole as they could be.
fn mixed(tables: &[Candidate]) -> Fault {
    let (tables, fixes) = of_leaves(tables, |table| &table.mixed_leaves);
    Fault {
        code: Code::ReplicaIdentityMixed,
        what: "old rows are only keys in partitions without REPLICA IDENTITY FULL, which their root table has",
        tables,
        fixes,
    }
}

fn of_leaves(tables: &[Candidate], leaves: impl Fn(&Candidate) -> &Vec<Leaf>) -> (Vec<String>, Vec<String>) {
    // A partition that is published by itself is found once more below its root.
    let mut found: Vec<&Leaf> = tables.iter().flat_map(leaves).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.dedup_by(|a, b| a.name == b.name);
    (
        found.iter().map(|leaf| leaf.name.to_string()).collect(),
        found.into_iter().map(Leaf::statement).collect(),
    )
}
