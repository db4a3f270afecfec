//! Whether rules fit the tables that there are: for whoever writes them, before anybody is shown less than was meant.
//!
//! It looks at every rule that can come to decide about a table, for whomever. What a claim will be is not known: that it fits
//! its column is taken for granted.

use std::collections::HashSet;

use waldelta_wal::{Code, ReplicaIdentity, Table, TableName};

use super::permission::{Unfit, decidable};
use super::{Parsed, RowsOf, Rules};
use crate::subscription::Pattern;

/// What does not fit. Its texts have no values of claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule, counted from 1.
    pub rule: usize,
    /// The table that it is about.
    pub table: TableName,
    /// `RuleUndecidable` and `RuleMisfit`: nobody to whom the rule applies sees the table, or not the column. `TableNotCaptured`:
    /// there is no table of this name, or not yet.
    pub code: Code,
    /// What it is, with names of columns and types.
    pub message: String,
    /// The statement that mends it, for the owner of the table, where there is one.
    pub fix: Option<String>,
}

impl Rules {
    /// What of the rules does not fit these tables, which are all that are captured. In the order of the rules.
    pub fn check(&self, tables: &[Table]) -> Vec<Finding> {
        let Some(set) = &self.0 else { return Vec::new() };
        let mut findings = Vec::new();
        // Tables about which an earlier rule decides for everybody.
        let mut decided: HashSet<&TableName> = HashSet::new();
        for (number, rule) in (1..).zip(&set.rules) {
            let of_rule: Vec<&Table> =
                tables.iter().filter(|table| rule.pattern.matches(&table.name)).collect();
            if let (Pattern::Table(name), []) = (&rule.pattern, &of_rule[..]) {
                let message = "no table of this name is captured".to_owned();
                let code = Code::TableNotCaptured;
                findings.push(Finding { rule: number, table: name.clone(), code, message, fix: None });
            }
            for table in of_rule.into_iter().filter(|table| !decided.contains(&table.name)) {
                findings.extend(rule.check(number, table));
            }
            if rule.claims.is_empty() {
                decided
                    .extend(tables.iter().map(|table| &table.name).filter(|name| rule.pattern.matches(name)));
            }
        }
        findings
    }
}

impl Parsed {
    fn check(&self, number: usize, table: &Table) -> Option<Finding> {
        let finding = |code, message, fix| {
            Some(Finding { rule: number, table: table.name.clone(), code, message, fix })
        };
        let filter = match &self.rows {
            RowsOf::All => None,
            RowsOf::Fixed(filter) => Some(filter.clone()),
            RowsOf::Claims(template) => template.sample(table),
        };
        match filter.map(|filter| decidable(&filter, table)) {
            None | Some(Ok(_)) => {}
            Some(Err(unfit @ Unfit::Undecidable { .. })) => {
                let fix = format!("ALTER TABLE {} REPLICA IDENTITY FULL", table.name);
                let of_parts = match table.identity {
                    ReplicaIdentity::Mixed => {
                        ", which it does where each of its partitions has REPLICA IDENTITY FULL"
                    }
                    _ => "",
                };
                return finding(unfit.code(), format!("{unfit}{of_parts}"), Some(fix));
            }
            Some(Err(unfit)) => return finding(unfit.code(), unfit.to_string(), None),
        }
        // A rule for several tables may name columns that only some of them have.
        let has = |name: &String| table.columns.iter().any(|column| column.name == *name);
        let missing = self.columns.iter().flat_map(|columns| columns.iter()).find(|name| !has(name))?;
        match self.pattern {
            Pattern::Table(_) => {
                let message = format!(
                    "`columns` names {}, which the table has not, or does not publish",
                    waldelta_wal::quote_ident(missing)
                );
                finding(Code::RuleMisfit, message, None)
            }
            Pattern::All | Pattern::Schema(_) => None,
        }
    }
}
