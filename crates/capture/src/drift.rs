//! What changed tables at the source without a change in the stream: the catalog's looks at their physical state, compared
//! with what history holds of it. Pure.
//!
//! A look that shows a difference is not decided at once. Where the source has the event trigger, the trigger's message
//! says the same at its exact place in the stream, so a look waits until all is stored that was written before it ended:
//! then the table is known to need repair. Without the trigger, the table is other than its changes say from
//! the look before on.
//!
//! The state that a table is known to have moves only together with the gap that explains the difference; so whenever
//! capture ends in between, the next start finds the difference again.

use std::collections::{HashMap, VecDeque};

use waldelta_history::NewGap;
use waldelta_source::catalog::{Fingerprint, TableFingerprint};
use waldelta_wal::Lsn;

/// Transactions that truncated a table are remembered: so many of each table.
const TRUNCATIONS_MAX: usize = 64;

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
    /// When this was the WAL's end, the tables were as they are known.
    known_at: Lsn,
    waiting: Option<Look>,
    /// The transactions (low 32 bits of their ids) that truncated a table by a change, which explains empty partitions.
    truncated_by: HashMap<u32, VecDeque<u32>>,
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
    /// Begins with what history holds. What it holds in a form that is not understood is as if it were not there.
    pub(crate) fn new(stored: HashMap<u32, String>, known_at: Lsn) -> Self {
        let read = |(oid, text): (u32, String)| Some((oid, Fingerprint::from_json(&text)?));
        Drift {
            known: stored.into_iter().filter_map(read).collect(),
            known_at,
            waiting: None,
            truncated_by: HashMap::new(),
        }
    }

    /// When this was the WAL's end, the tables were as they are known.
    pub(crate) fn known_at(&self) -> Lsn {
        self.known_at
    }

    /// A transaction has truncated the table, and told it.
    pub(crate) fn truncated(&mut self, table_oid: u32, xid: u32) {
        let by = self.truncated_by.entry(table_oid).or_default();
        if by.len() == TRUNCATIONS_MAX {
            by.pop_front();
        }
        by.push_back(xid);
    }

    /// Takes a look. While another waits, this one is not needed: the next after that one's decision shows the same.
    pub(crate) fn look(&mut self, look: Look) {
        if self.waiting.is_some() {
            return;
        }
        self.known.retain(|oid, _| look.tables.iter().any(|table| table.oid == *oid));
        if look.tables.iter().any(|table| self.known.get(&table.oid) != Some(&table.fingerprint)) {
            self.waiting = Some(look);
        } else {
            self.known_at = look.before;
        }
    }

    /// What follows from the look that waits, once all is stored that committed below `stored`. A table that needs repair
    /// already needs it from the place that was told.
    pub(crate) fn decide(&mut self, stored: Lsn, needs_repair: impl Fn(u32) -> bool) -> Option<Decision> {
        let look = self.waiting.take_if(|look| look.after <= stored)?;
        let mut decision = Decision::default();
        for TableFingerprint { oid, fingerprint, .. } in look.tables {
            let truncated_by = self.truncated_by.get(&oid).into_iter().flatten().copied().collect::<Vec<_>>();
            let Some(before) = self.known.get(&oid) else {
                decision.fingerprints.push((oid, fingerprint.to_json()));
                self.known.insert(oid, fingerprint);
                continue;
            };
            if *before == fingerprint {
                continue;
            }
            // One gap tells of all: the first reason is the gravest.
            let repairs = Fingerprint::repairs_beside(before, &fingerprint, &truncated_by);
            if let Some(reason) = repairs.first().filter(|_| !needs_repair(oid)) {
                let reason = reason.as_str().to_owned();
                decision.gaps.push(NewGap { table_oid: oid, from: self.known_at, reason });
            }
            if Fingerprint::tells_new_shape(before, &fingerprint) {
                decision.forgotten.push(oid);
            }
            decision.fingerprints.push((oid, fingerprint.to_json()));
            self.known.insert(oid, fingerprint);
        }
        self.known_at = look.before;
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
    fn new_tables_and_other_names_need_no_repair() {
        let first = table(1, "t", 7, 3);
        let mut drift = Drift::new(HashMap::from([(1, "of another version".into())]), Lsn(100));
        drift.look(look(200, 210, &[&first]));
        let decision = drift.decide(Lsn(210), |_| false).unwrap();
        assert!(decision.gaps.is_empty() && decision.forgotten.is_empty());
        assert_eq!(decision.fingerprints, [(1, first.fingerprint.to_json())]);

        let (renamed, second) = (table(1, "u", 9, 3), table(2, "v", 8, 3));
        drift.look(look(300, 310, &[&renamed, &second]));
        let decision = drift.decide(Lsn(310), |_| false).unwrap();
        assert!(decision.gaps.is_empty(), "another file alone is nobody's business");
        assert_eq!(decision.forgotten, [1]);
        assert_eq!(decision.fingerprints.len(), 2);

        // One that is gone is forgotten, and new when it comes back.
        drift.look(look(400, 410, &[&renamed]));
        assert_eq!(drift.known_at(), Lsn(400));
        drift.look(look(500, 510, &[&renamed, &table(2, "v", 10, 9)]));
        assert!(drift.decide(Lsn(510), |_| false).unwrap().gaps.is_empty());
    }
}
