//! What changed tables at the source without a change in the stream: the catalog's looks at their physical state, compared
//! with what history holds of it. Pure.
//!
//! A look that shows a difference is not decided at once. Where the source has the event trigger, the trigger's message
//! says the same at its exact place in the stream, so a look waits until all is stored that was written before it ended:
//! then the table is known to need repair. Without the trigger, the table is other than its changes say from
//! the look before on.
//!
//! A table that was not known before was added to the publication. Transactions that were open then can be captured in part,
//! so it gets a gap too, which ends when it has joined (see `joining`). One that leaves the publication is noted as gone: it
//! is another one when it comes back, whoever captures then.
//!
//! The state that a table is known to have moves only together with the gap that explains the difference; so whenever
//! capture ends in between, the next start finds the difference again.

use std::collections::{HashMap, HashSet, VecDeque};

use waldelta_history::{Gap, NewGap};
use waldelta_source::catalog::{Fingerprint, TableFingerprint};
use waldelta_wal::Lsn;

/// Transactions that truncated a table are remembered: so many of each table.
const TRUNCATIONS_MAX: usize = 64;
/// What history holds of a table that is not published any more, before the place at which it was last there.
const GONE: &str = "gone";

/// One look at the catalog.
#[derive(Debug)]
pub(crate) struct Look {
    /// The WAL's end before it.
    pub(crate) before: Lsn,
    /// And after it.
    pub(crate) after: Lsn,
    /// The published tables.
    pub(crate) tables: Vec<TableFingerprint>,
}

/// What is known of the tables, and the look that waits to be decided.
#[derive(Debug)]
pub(crate) struct Drift {
    known: HashMap<u32, Fingerprint>,
    /// Tables that history knows in a form that is not understood here: they were not added.
    unread: HashSet<u32>,
    /// Tables that have left, and when they were last there.
    gone: HashMap<u32, Lsn>,
    /// Whether it was known at all which tables there are; else none of those found was added.
    is_begun: bool,
    /// When this was the WAL's end, the tables were as they are known.
    known_at: Lsn,
    waiting: Option<Look>,
    /// The transactions (low 32 bits of their ids) that truncated a table by a change, which explains empty partitions.
    truncated_by: HashMap<u32, VecDeque<u32>>,
    /// Commits that reset tables: who reads past them has the table as it was then.
    reset_at: HashMap<u32, Lsn>,
}

/// What follows from a look.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    /// Tables that need repair.
    pub(crate) gaps: Vec<NewGap>,
    /// What history is to hold of tables from now on.
    pub(crate) fingerprints: Vec<(u32, String)>,
    /// Tables to be asked for anew before their next row.
    pub(crate) forgotten: Vec<u32>,
}

impl Drift {
    /// Begins with what history holds. What it holds in a form that is not understood is compared with nothing.
    pub(crate) fn new(stored: HashMap<u32, String>, known_at: Lsn) -> Self {
        let is_begun = !stored.is_empty();
        let (mut known, mut unread, mut gone) = (HashMap::new(), HashSet::new(), HashMap::new());
        for (oid, text) in stored {
            if let Some(since) = text.strip_prefix(GONE) {
                gone.extend(since.trim().parse().ok().map(|since: Lsn| (oid, since)));
                continue;
            }
            match Fingerprint::from_json(&text) {
                Some(fingerprint) => drop(known.insert(oid, fingerprint)),
                None => drop(unread.insert(oid)),
            }
        }
        Drift {
            known,
            unread,
            gone,
            is_begun,
            known_at,
            waiting: None,
            truncated_by: HashMap::new(),
            reset_at: HashMap::new(),
        }
    }

    /// When this was the WAL's end, the tables were as they are known.
    pub(crate) fn known_at(&self) -> Lsn {
        self.known_at
    }

    /// Whether it is known what state the table was in.
    pub(crate) fn knows(&self, table_oid: u32) -> bool {
        self.known.contains_key(&table_oid)
    }

    /// A transaction has truncated the table, and told it.
    pub(crate) fn truncated(&mut self, table_oid: u32, xid: u32) {
        let by = self.truncated_by.entry(table_oid).or_default();
        if by.len() == TRUNCATIONS_MAX {
            by.pop_front();
        }
        by.push_back(xid);
    }

    /// A transaction has reset the table: what a look saw of it before that needs no repair.
    pub(crate) fn reset(&mut self, table_oid: u32, commit_lsn: Lsn) {
        if self.knows(table_oid) {
            self.reset_at.insert(table_oid, commit_lsn);
        }
    }

    /// Takes a look. While another waits, this one is not needed: the next after that one's decision shows the same.
    pub(crate) fn look(&mut self, look: Look) {
        if self.waiting.is_some() {
            return;
        }
        // So many tables that are all as they are known are all that are known.
        let is_known = |table: &TableFingerprint| self.known.get(&table.oid) == Some(&table.fingerprint);
        let so_many = self.known.len() + self.unread.len();
        if look.tables.len() == so_many && look.tables.iter().all(is_known) {
            self.known_at = look.before;
            self.is_begun = true;
        } else {
            self.waiting = Some(look);
        }
    }

    /// Whether a look waits for [`Self::decide`].
    pub(crate) fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// What follows from the look that waits, once all is stored that committed below `stored`. A table that needs repair
    /// already needs it from the place that was told.
    pub(crate) fn decide(&mut self, stored: Lsn, needs_repair: impl Fn(u32) -> bool) -> Option<Decision> {
        let look = self.waiting.take_if(|look| look.after <= stored)?;
        let mut decision = Decision::default();
        let there: HashSet<u32> = look.tables.iter().map(|table| table.oid).collect();
        let known = self.known.extract_if(|oid, _| !there.contains(oid)).map(|(oid, _)| oid);
        let unread = self.unread.extract_if(|oid| !there.contains(oid));
        for oid in known.chain(unread) {
            self.gone.insert(oid, self.known_at);
            decision.fingerprints.push((oid, format!("{GONE} {}", self.known_at)));
        }
        for TableFingerprint { oid, fingerprint, .. } in look.tables {
            let truncated_by = self.truncated_by.get(&oid).into_iter().flatten().copied().collect::<Vec<_>>();
            let Some(before) = self.known.get(&oid) else {
                let was_added = self.is_begun && !self.unread.remove(&oid);
                // While it was away its changes were not told.
                let from = self.gone.remove(&oid).unwrap_or(self.known_at);
                if was_added && !needs_repair(oid) {
                    let reason = Gap::JOINING.to_owned();
                    decision.gaps.push(NewGap { table_oid: oid, from, reason });
                }
                decision.fingerprints.push((oid, fingerprint.to_json()));
                self.known.insert(oid, fingerprint);
                continue;
            };
            if *before == fingerprint {
                continue;
            }
            // One gap tells of all: the first reason is the gravest. A table that joins is read afresh in any case.
            let repairs = Fingerprint::repairs_beside(before, &fingerprint, &truncated_by);
            let reason = match Fingerprint::was_published_anew(before, &fingerprint) {
                true => Some(Gap::JOINING),
                false => repairs.first().map(|reason| reason.as_str()),
            };
            let was_reset = self.reset_at.get(&oid).is_some_and(|at| *at >= look.after);
            if let Some(reason) = reason.filter(|_| !needs_repair(oid) && !was_reset) {
                decision.gaps.push(NewGap { table_oid: oid, from: self.known_at, reason: reason.to_owned() });
            }
            if Fingerprint::tells_new_shape(before, &fingerprint) {
                decision.forgotten.push(oid);
            }
            decision.fingerprints.push((oid, fingerprint.to_json()));
            self.known.insert(oid, fingerprint);
        }
        self.reset_at.retain(|_, at| *at > look.before);
        self.known_at = look.before;
        self.is_begun = true;
        Some(decision)
    }
}

#[cfg(test)]
mod tests {
    use waldelta_wal::TableName;

    use super::*;

    /// A table of one column. A new `file` with `written` unchanged is what VACUUM FULL makes, with a new one a rewrite.
    fn table(oid: u32, name: &str, file: u32, written: u32) -> TableFingerprint {
        let json = format!(
            r#"{{"schema":"public","name":"{name}","identity":"d","primary_key":[1],"file":{file},"columns":[{{"number":1,
                "name":"id","type":23,"is_string":false,"modifier":-1,"collation":0,"not_null":true,"missing":false,
                "written":{written},"published":true}}]}}"#
        );
        let name = TableName { schema: "public".into(), name: name.into() };
        TableFingerprint { oid, name, fingerprint: Fingerprint::from_json(&json).unwrap() }
    }

    fn look(before: u64, after: u64, tables: &[&TableFingerprint]) -> Look {
        Look { before: Lsn(before), after: Lsn(after), tables: tables.iter().copied().cloned().collect() }
    }

    fn stored(tables: &[&TableFingerprint]) -> HashMap<u32, String> {
        tables.iter().map(|table| (table.oid, table.fingerprint.to_json())).collect()
    }

    #[test]
    fn a_difference_waits_until_all_before_it_is_stored() {
        let (then, now) = (table(1, "t", 7, 3), table(1, "t", 8, 4));
        let mut drift = Drift::new(stored(&[&then]), Lsn(100));
        drift.look(look(200, 210, &[&then]));
        assert_eq!(drift.known_at(), Lsn(200), "as it is known");
        drift.look(look(300, 310, &[&now]));
        drift.look(look(320, 330, &[&now]));
        assert!(drift.decide(Lsn(309), |_| false).is_none());
        assert_eq!(drift.known_at(), Lsn(200), "not before it is decided");
        let decision = drift.decide(Lsn(310), |_| false).unwrap();
        let gap = NewGap { table_oid: 1, from: Lsn(200), reason: "rewritten".into() };
        assert_eq!(decision.gaps, [gap], "from where it was as it is known");
        assert_eq!(decision.fingerprints, [(1, now.fingerprint.to_json())]);
        assert_eq!(drift.known_at(), Lsn(300));
        drift.look(look(400, 410, &[&now]));
        assert!(drift.decide(Lsn(500), |_| false).is_none(), "it is told once");
    }

    #[test]
    fn what_the_event_trigger_told_is_not_found_again() {
        let mut drift = Drift::new(stored(&[&table(1, "t", 7, 3)]), Lsn(100));
        let now = table(1, "t", 8, 4);
        drift.look(look(200, 210, &[&now]));
        let decision = drift.decide(Lsn(210), |oid| oid == 1).unwrap();
        assert_eq!((decision.gaps, decision.fingerprints.len()), (Vec::new(), 1));
    }

    #[test]
    fn what_was_seen_before_a_reset_needs_no_repair() {
        for (reset_at, gaps) in [(309, 1), (310, 0), (400, 0)] {
            let mut drift = Drift::new(stored(&[&table(1, "t", 7, 3)]), Lsn(100));
            drift.look(look(300, 310, &[&table(1, "t", 8, 4)]));
            drift.reset(1, Lsn(reset_at));
            let decision = drift.decide(Lsn(410), |_| false).unwrap();
            assert_eq!((decision.gaps.len(), decision.fingerprints.len()), (gaps, 1), "reset at {reset_at}");
            drift.look(look(500, 510, &[&table(1, "t", 9, 5)]));
            assert_eq!(drift.decide(Lsn(510), |_| false).unwrap().gaps.len(), 1, "what came later does");
        }
    }

    #[test]
    fn other_names_and_files_need_no_repair() {
        let first = table(1, "t", 7, 3);
        let mut drift = Drift::new(stored(&[&first]), Lsn(100));
        drift.look(look(300, 310, &[&table(1, "u", 9, 3)]));
        let decision = drift.decide(Lsn(310), |_| false).unwrap();
        assert!(decision.gaps.is_empty(), "another file alone is nobody's business");
        assert_eq!((decision.forgotten, decision.fingerprints.len()), (vec![1], 1));
    }

    fn added(table_oid: u32, from: u64) -> NewGap {
        NewGap { table_oid, from: Lsn(from), reason: "added".into() }
    }

    #[test]
    fn a_table_that_was_not_known_joins_unless_it_was_the_first_look() {
        let (first, second, third) = (table(1, "t", 7, 3), table(2, "u", 8, 3), table(3, "v", 9, 3));
        let mut drift = Drift::new(HashMap::new(), Lsn(100));
        drift.look(look(200, 210, &[&first]));
        let decision = drift.decide(Lsn(210), |_| false).unwrap();
        assert!(decision.gaps.is_empty(), "nobody knows what there was before");
        assert_eq!(decision.fingerprints, [(1, first.fingerprint.to_json())]);
        drift.look(look(300, 310, &[&first, &second, &third]));
        let decision = drift.decide(Lsn(310), |oid| oid == 3).unwrap();
        assert_eq!(decision.gaps, [added(2, 200)], "the other has a gap already");
        assert_eq!(decision.fingerprints.len(), 2, "noted together with the gaps");

        let mut drift = Drift::new(HashMap::new(), Lsn(100));
        drift.look(look(200, 210, &[]));
        drift.look(look(300, 310, &[&first]));
        assert_eq!(
            drift.decide(Lsn(310), |_| false).unwrap().gaps,
            [added(1, 200)],
            "there were none before"
        );
    }

    #[test]
    fn what_is_known_in_another_form_was_not_added() {
        let (first, second) = (table(1, "t", 7, 3), table(2, "u", 8, 3));
        let mut drift = Drift::new(HashMap::from([(1, "of another version".into())]), Lsn(100));
        drift.look(look(200, 210, &[&first, &second]));
        let decision = drift.decide(Lsn(210), |_| false).unwrap();
        assert_eq!(decision.gaps, [added(2, 100)]);
        assert_eq!(decision.fingerprints.len(), 2);
        drift.look(look(300, 310, &[&first, &second]));
        assert!(drift.decide(Lsn(310), |_| false).is_none());
    }

    #[test]
    fn a_table_that_leaves_the_publication_joins_when_it_comes_back() {
        let (first, second) = (table(1, "t", 7, 3), table(2, "u", 8, 3));
        let mut drift = Drift::new(stored(&[&first, &second]), Lsn(100));
        drift.look(look(200, 210, &[&first]));
        let decision = drift.decide(Lsn(210), |_| false).unwrap();
        assert!(decision.gaps.is_empty());
        assert_eq!(decision.fingerprints, [(2, "gone 0/64".into())]);
        drift.look(look(300, 310, &[&first]));
        assert!(drift.decide(Lsn(310), |_| false).is_none(), "it is told once");
        drift.look(look(400, 410, &[&first, &second]));
        assert_eq!(
            drift.decide(Lsn(410), |_| false).unwrap().gaps,
            [added(2, 100)],
            "when it was last there"
        );

        // As well to whoever captures next. What was noted without a place was gone at the last look.
        for (noted, from) in [("gone 0/64", 100), ("gone", 500)] {
            let mut drift = Drift::new(HashMap::from([(2, noted.into())]), Lsn(500));
            drift.look(look(600, 610, &[&second]));
            assert_eq!(drift.decide(Lsn(610), |_| false).unwrap().gaps, [added(2, from)]);
        }
    }
}
