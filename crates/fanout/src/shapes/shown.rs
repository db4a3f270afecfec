//! Which tables a client has from its snapshots, and which those left out because their rules did not fit them. Only of tables whose
//! rules may not fit.
//!
//! History tells when a table gets another shape. It does not tell the one before the first change, nor one that came and went
//! between two changes: a snapshot shows those. What was left out goes to the client too, as a part of the name of what its copy is
//! of; so it is known again when the client comes back.

use std::fmt::Write;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use waldelta_wal::{Table, TableName};

use crate::subscription::Selection;

/// Tables that the name of a copy tells at most. With more of them it cannot be resumed.
const TOLD_MAX: usize = 64;
/// In place of the tables, where there are more.
const TOO_MANY: &str = "*";

/// What is known of a client's tables. Cheap to clone: who took the same snapshot shares it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The tables that it has, by object id, each with a digest of its name.
    had: Arc<[(u32, u64)]>,
    /// The object ids of those that were left out.
    left_out: Arc<[u32]>,
    /// Whether a snapshot of everything was among them: of a table that is in neither, the client has nothing.
    is_whole: bool,
}

impl Shown {
    /// What a snapshot of these tables shows of them.
    pub(crate) fn of<'t>(selection: &Selection, tables: impl Iterator<Item = &'t Table>) -> Self {
        let may_not_fit = |table: &&Table| selection.grant().depends_on_shape(&table.name);
        let (had, left_out): (Vec<_>, Vec<_>) =
            tables.filter(may_not_fit).partition(|table| selection.may_see(table));
        let mut had: Vec<_> = had.iter().map(|table| (table.oid, digest(&table.name))).collect();
        let mut left_out: Vec<_> = left_out.iter().map(|table| table.oid).collect();
        had.sort_unstable();
        left_out.sort_unstable();
        Shown { had: had.into(), left_out: left_out.into(), is_whole: false }
    }

    /// The same of a snapshot of everything.
    pub(crate) fn whole(self) -> Self {
        Shown { is_whole: true, ..self }
    }

    /// Whether the client has a table; `None`: no snapshot has said it.
    pub(crate) fn has(&self, oid: u32) -> Option<bool> {
        let left_out = self.left_out.binary_search(&oid).is_ok();
        (left_out || self.place(oid).is_ok()).then_some(!left_out)
    }

    /// Whether the client has this table by another name: what is told under this one lies before the snapshot that had it, or its
    /// next name is told by history.
    pub(crate) fn has_elsewhere(&self, table: &Table) -> bool {
        let known = self.place(table.oid).ok().and_then(|place| self.had.get(place));
        known.is_some_and(|(_, known)| *known != digest(&table.name))
    }

    /// Whether it may have, or have had, a table of this name.
    pub(crate) fn has_named(&self, name: &TableName) -> bool {
        let digest = digest(name);
        self.had.iter().any(|(_, known)| *known == digest)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The tables that were left out, by object id.
    pub(crate) fn left_out(&self) -> &[u32] {
        &self.left_out
    }

    /// Whether any table was left out.
    pub(crate) fn lacks_any(&self) -> bool {
        !self.left_out.is_empty()
    }

    /// That a client has this table.
    pub(crate) fn having(table: &Table) -> Self {
        Shown { had: [(table.oid, digest(&table.name))].into(), ..Shown::default() }
    }

    /// That it lacks this one.
    pub(crate) fn lacking(oid: u32) -> Self {
        Shown { left_out: [oid].into(), ..Shown::default() }
    }

    /// Another snapshot has come, which says more of its tables. Says whether something else is left out now.
    pub(crate) fn update(&mut self, newer: &Shown) -> bool {
        self.is_whole |= newer.is_whole;
        let left_out = self.left_out.clone();
        // Who shares it goes on sharing it as long as nothing is another.
        let lost = self.had.iter().any(|(oid, _)| newer.has(*oid) == Some(false));
        if lost || newer.had.iter().any(|one| self.had.binary_search(one).is_err()) {
            let kept = self.had.iter().filter(|(oid, _)| newer.has(*oid).is_none());
            let mut had: Vec<_> = kept.chain(&*newer.had).copied().collect();
            had.sort_unstable();
            self.had = had.into();
        }
        let found = self.left_out.iter().any(|oid| newer.has(*oid) == Some(true));
        if found || newer.left_out.iter().any(|oid| self.left_out.binary_search(oid).is_err()) {
            let kept = self.left_out.iter().filter(|oid| newer.has(**oid).is_none());
            let mut left_out: Vec<_> = kept.chain(&*newer.left_out).copied().collect();
            left_out.sort_unstable();
            self.left_out = left_out.into();
        }
        left_out != self.left_out
    }

    /// The name of a copy of what `fingerprint` names, with what is not in it.
    pub(crate) fn access(&self, fingerprint: &str) -> String {
        let mut name = fingerprint.to_owned();
        if self.left_out.len() > TOLD_MAX {
            name.push('.');
            name.push_str(TOO_MANY);
            return name;
        }
        for oid in &*self.left_out {
            // Writing into a text does not fail.
            let _ = write!(name, ".{oid:x}");
        }
        name
    }

    /// What a client has that names its copy so; `None` where that is not one of what `fingerprint` names, or it is not known
    /// what it lacks.
    pub(crate) fn of_access(access: &str, fingerprint: &str) -> Option<Self> {
        let mut parts = access.split('.');
        if parts.next() != Some(fingerprint) {
            return None;
        }
        let oids = parts.map(|oid| u32::from_str_radix(oid, 16).ok());
        let mut left_out: Vec<u32> = oids.take(TOLD_MAX + 1).collect::<Option<_>>()?;
        left_out.sort_unstable();
        left_out.dedup();
        (left_out.len() <= TOLD_MAX).then(|| Shown { left_out: left_out.into(), ..Shown::default() })
    }

    fn place(&self, oid: u32) -> Result<usize, usize> {
        self.had.binary_search_by_key(&oid, |(oid, _)| *oid)
    }
}

/// Tells names apart, in this process.
fn digest(name: &TableName) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{grant, rule, subscription, table};

    /// Of tables of which these fit the rule.
    fn shown(fitting: &[&str], others: &[&str]) -> Shown {
        let granted = grant(&[rule("public.*", None, Some("id = 1"))], serde_json::json!({}));
        let selection = Selection::new(vec![subscription("all", "*")], granted);
        let mut tables: Vec<Table> = fitting.iter().map(|name| table(name)).collect();
        for name in others {
            let mut unfit = table(name);
            unfit.columns[0].name = "number".into();
            tables.push(unfit);
        }
        Shown::of(&selection, tables.iter())
    }

    fn has(shown: &Shown) -> [Option<bool>; 3] {
        ["t", "u", "v"].map(|name| shown.has(table(name).oid))
    }

    #[test]
    fn a_snapshot_says_what_a_client_has_and_the_next_says_more() {
        let mut it = shown(&["t"], &["u"]);
        assert_eq!(has(&it), [Some(true), Some(false), None]);
        assert!(it.has_named(&table("t").name) && !it.has_named(&table("u").name) && it.lacks_any());
        let before = it.clone();
        assert!(!it.update(&shown(&["t"], &[])) && Arc::ptr_eq(&before.had, &it.had), "nothing new");
        assert!(!it.update(&shown(&["v"], &["u"])));
        assert_eq!(has(&it), [Some(true), Some(false), Some(true)]);
        assert!(it.update(&shown(&["u"], &["t"])));
        assert_eq!(has(&it), [Some(false), Some(true), Some(true)]);
        it.update(&Shown::lacking(table("v").oid));
        assert_eq!(has(&it), [Some(false), Some(true), Some(false)]);
        let renamed = Table { name: table("w").name, ..table("u") };
        assert!(
            it.has_elsewhere(&renamed) && !it.has_elsewhere(&table("u")) && !it.has_elsewhere(&table("x"))
        );
        assert!(!it.is_whole() && shown(&[], &[]).whole().is_whole());
        // Where no rule can fail to fit, nothing is kept.
        let everything = crate::testing::everything(vec![subscription("all", "*")]);
        assert_eq!(Shown::of(&everything, [table("t")].iter()), Shown::default());
    }

    #[test]
    fn what_is_left_out_comes_back_with_the_client() {
        let it = shown(&["t"], &["u", "v"]);
        let name = it.access("0123456789abcdef");
        let back = Shown::of_access(&name, "0123456789abcdef").unwrap();
        assert_eq!(has(&back), [None, Some(false), Some(false)]);
        assert_eq!(Shown::default().access("0123"), "0123");
        assert_eq!(Shown::of_access("0123", "0123"), Some(Shown::default()));
        for other in ["", "0124", "0123.x", "0123.", "0123.*", "0123.100000000", ".1"] {
            assert_eq!(Shown::of_access(other, "0123"), None, "{other}");
        }
        let many = Shown { left_out: (0..65).collect(), ..Shown::default() };
        assert_eq!(Shown::of_access(&many.access("0123"), "0123"), None);
        let many: String = (0..65).map(|oid| format!(".{oid:x}")).collect();
        assert_eq!(Shown::of_access(&format!("0123{many}"), "0123"), None);
        assert_eq!(Shown::of_access("0123.2.1.2", "0123").unwrap().access("0123"), "0123.1.2");
    }
}
