//! Whether a table is captured, and what is to be said about it. Decides only; nothing is asked or changed here.

use waldelta_wal::quote_ident;

use super::plan::{Step, StepKind, Wish};
use super::survey::{Candidate, Kind, Leaf};

/// What becomes of a table.
#[derive(Default)]
pub(super) struct Verdict {
    /// Whether it is to be in the publication.
    pub(super) is_captured: bool,
    /// What its owner should know.
    pub(super) remark: Option<String>,
    /// A statement that would make it better.
    pub(super) suggestion: Option<Step>,
}

impl Verdict {
    fn left_out(remark: String) -> Self {
        Verdict { remark: Some(remark), ..Verdict::default() }
    }

    fn suggesting(mut self, why: impl Into<String>, sql: String) -> Self {
        self.suggestion = Some(Step::new(StepKind::Publication, why, sql));
        self
    }
}

/// Judges a table that is wanted: by name, or because no names were given.
pub(super) fn judge(table: &Candidate, wish: &Wish) -> Verdict {
    let name = &table.name;
    let is_named = !wish.tables.is_empty();
    if let Some(hindrance) = hindrance(table) {
        // A view or a partition is no omission that anybody has to be told of, unless they named it.
        let goes_without_saying = !is_named && (table.kind == Kind::View || table.is_partition);
        return if goes_without_saying { Verdict::default() } else { Verdict::left_out(hindrance) };
    }
    if table.of_extension && !is_named {
        return Verdict::left_out(format!(
            "{name} belongs to an extension and is left out unless it is named"
        ));
    }
    if !table.has_primary_key && !table.has_identity_index {
        return judge_keyless(table, wish);
    }
    if !table.unidentified_leaves.is_empty() {
        return Verdict::left_out(format!(
            "{name} is left out: once published, UPDATE and DELETE would fail (55000) in partitions without a replica identity: {}",
            names(&table.unidentified_leaves)
        ))
        .suggesting(format!("give the partitions of {name} their replica identity"), statements(&table.unidentified_leaves));
    }
    if !table.misfit_leaves.is_empty() {
        return Verdict::left_out(format!(
            "{name} is left out: a delete in a partition with another replica identity would not say which row of {name} it is: {}",
            names(&table.misfit_leaves)
        ))
        .suggesting(
            format!("give the partitions of {name} the replica identity that it has"),
            statements(&table.misfit_leaves),
        );
    }
    if table.kind == Kind::Table && !table.is_identified {
        return Verdict::left_out(format!(
            "{name} is left out: it has REPLICA IDENTITY NOTHING or a deferrable primary key, so that once published its UPDATE and DELETE would fail (55000)"
        ))
        .suggesting(
            format!("give {name} a replica identity (FULL, if its primary key is deferrable)"),
            format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT"),
        );
    }
    let verdict = Verdict { is_captured: true, remark: generated(table), suggestion: None };
    with_mixed(verdict, table)
}

/// Whether it has rows of its own in this server's WAL.
pub(super) fn has_rows(table: &Candidate) -> bool {
    hindrance(table).is_none()
}

/// What makes it impossible to publish.
fn hindrance(table: &Candidate) -> Option<String> {
    let name = &table.name;
    match table.kind {
        Kind::View => {
            Some(format!("{name} is left out: a view has no changes of its own; capture its tables"))
        }
        Kind::Foreign => Some(format!("{name} is left out: a foreign table is not in this server's WAL")),
        Kind::Table | Kind::Partitioned if table.is_partition => Some(format!(
            "{name} is left out: it is a partition; its rows are captured as those of its root table"
        )),
        Kind::Table | Kind::Partitioned if table.is_unlogged => {
            Some(format!("{name} is left out: an unlogged table is not in the WAL"))
        }
        Kind::Table | Kind::Partitioned => None,
    }
}

fn judge_keyless(table: &Candidate, wish: &Wish) -> Verdict {
    let name = &table.name;
    let breaks_writes = !table.has_full_identity || !table.unidentified_leaves.is_empty();
    let mend = |verdict: Verdict| {
        verdict.suggesting(format!("give {name} a key"), format!("ALTER TABLE {name} ADD PRIMARY KEY (…)"))
    };
    if !wish.allow_keyless {
        let consequence =
            if breaks_writes { " and once published its UPDATE and DELETE would fail (55000)" } else { "" };
        return mend(Verdict::left_out(format!(
            "{name} has no primary key and is left out: its rows cannot be told apart{consequence}"
        )));
    }
    let consequence = if breaks_writes {
        "; WHILE IT IS PUBLISHED, UPDATE AND DELETE ON IT FAIL with SQLSTATE 55000, in the application too"
    } else {
        ""
    };
    let remark = format!("{name} has no primary key and is captured insert-only{consequence}");
    mend(Verdict { is_captured: true, remark: Some(remark), suggestion: None })
}

/// Says of a captured table that old rows will not always be whole.
fn with_mixed(verdict: Verdict, table: &Candidate) -> Verdict {
    if table.mixed_leaves.is_empty() {
        return verdict;
    }
    let name = &table.name;
    let mixed = format!(
        "{name} has REPLICA IDENTITY FULL and these partitions have not, so that their old rows are only keys: {}",
        names(&table.mixed_leaves)
    );
    let remark = verdict.remark.map_or_else(|| mixed.clone(), |remark| format!("{remark}; {mixed}"));
    Verdict { remark: Some(remark), ..verdict }
        .suggesting(format!("have whole old rows of all of {name}"), statements(&table.mixed_leaves))
}

fn names(leaves: &[Leaf]) -> String {
    leaves.iter().map(|leaf| leaf.name.to_string()).collect::<Vec<_>>().join(", ")
}

fn statements(leaves: &[Leaf]) -> String {
    leaves.iter().map(Leaf::statement).collect::<Vec<_>>().join(";\n")
}

fn generated(table: &Candidate) -> Option<String> {
    if table.generated.is_empty() {
        return None;
    }
    let columns: Vec<_> = table.generated.iter().map(|column| quote_ident(column)).collect();
    Some(format!("{} is captured without its generated columns: {}", table.name, columns.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use waldelta_wal::TableName;

    fn table() -> Candidate {
        Candidate {
            name: TableName { schema: "public".into(), name: "t".into() },
            kind: Kind::Table,
            is_unlogged: false,
            is_partition: false,
            has_children: false,
            has_full_identity: false,
            has_primary_key: true,
            is_identified: true,
            has_identity_index: false,
            unidentified_leaves: Vec::new(),
            misfit_leaves: Vec::new(),
            mixed_leaves: Vec::new(),
            of_extension: false,
            is_published: false,
            is_member: false,
            is_narrowed: false,
            generated: Vec::new(),
        }
    }

    fn named() -> Wish {
        Wish { tables: vec![table().name], allow_keyless: false }
    }

    #[track_caller]
    fn check(table: &Candidate, wish: &Wish, is_captured: bool, remark: &str) {
        let verdict = judge(table, wish);
        assert_eq!(verdict.is_captured, is_captured);
        let said = verdict.remark.unwrap_or_default();
        assert!(said.contains(remark) && said.is_empty() == remark.is_empty(), "{said}");
    }

    #[test]
    fn a_plain_table_is_captured_without_a_word() {
        check(&table(), &Wish::default(), true, "");
        check(
            &Candidate { generated: vec!["Sum".into()], ..table() },
            &Wish::default(),
            true,
            "generated columns: \"Sum\"",
        );
    }

    #[test]
    fn what_is_not_in_the_wal_is_left_out() {
        check(&Candidate { is_unlogged: true, ..table() }, &Wish::default(), false, "unlogged");
        check(&Candidate { kind: Kind::Foreign, ..table() }, &Wish::default(), false, "foreign");
        check(&Candidate { kind: Kind::View, ..table() }, &Wish::default(), false, "");
        check(&Candidate { kind: Kind::View, ..table() }, &named(), false, "a view");
        check(&Candidate { is_partition: true, ..table() }, &Wish::default(), false, "");
        check(&Candidate { is_partition: true, ..table() }, &named(), false, "a partition");
        check(&Candidate { of_extension: true, ..table() }, &Wish::default(), false, "an extension");
        check(&Candidate { of_extension: true, ..table() }, &named(), true, "");
    }

    #[test]
    fn a_table_without_key_is_left_out_or_comes_with_its_consequence() {
        let keyless = || Candidate { has_primary_key: false, is_identified: false, ..table() };
        let allowed = Wish { allow_keyless: true, ..Wish::default() };
        check(&keyless(), &Wish::default(), false, "no primary key and is left out");
        check(&keyless(), &allowed, true, "UPDATE AND DELETE ON IT FAIL");
        let full = Candidate { has_full_identity: true, is_identified: true, ..keyless() };
        let verdict = judge(&full, &allowed);
        assert!(verdict.is_captured && verdict.remark.is_some_and(|remark| remark.ends_with("insert-only")));
        let indexed = Candidate { has_identity_index: true, is_identified: true, ..keyless() };
        check(&indexed, &Wish::default(), true, "");
    }

    #[test]
    fn a_table_whose_writes_would_break_is_left_out() {
        let verdict = judge(&Candidate { is_identified: false, ..table() }, &Wish::default());
        assert!(!verdict.is_captured);
        assert_eq!(verdict.suggestion.unwrap().sql, "ALTER TABLE public.t REPLICA IDENTITY DEFAULT");
        let parted = Candidate { kind: Kind::Partitioned, unidentified_leaves: leaves("DEFAULT"), ..table() };
        let verdict = judge(&parted, &Wish::default());
        assert!(!verdict.is_captured && verdict.remark.unwrap().contains("public.\"Leaf\""));
    }

    #[test]
    fn partitions_with_another_identity_are_told_apart() {
        let parted = || Candidate { kind: Kind::Partitioned, ..table() };
        let misfit = Candidate { misfit_leaves: leaves("USING INDEX i"), ..parted() };
        let verdict = judge(&misfit, &Wish::default());
        assert!(!verdict.is_captured);
        assert_eq!(
            verdict.suggestion.unwrap().sql,
            "ALTER TABLE public.\"Leaf\" REPLICA IDENTITY USING INDEX i"
        );
        let mixed = Candidate { has_full_identity: true, mixed_leaves: leaves("FULL"), ..parted() };
        let verdict = judge(&mixed, &Wish::default());
        assert!(verdict.is_captured && verdict.remark.unwrap().contains("only keys: public.\"Leaf\""));
        assert_eq!(verdict.suggestion.unwrap().sql, "ALTER TABLE public.\"Leaf\" REPLICA IDENTITY FULL");
    }

    fn leaves(mend: &str) -> Vec<Leaf> {
        vec![Leaf { name: TableName { schema: "public".into(), name: "Leaf".into() }, mend: mend.into() }]
    }
}
