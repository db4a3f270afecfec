//! What tells rules from others, for people and the audit: without a word of them.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::rules::Rule;

/// So many bytes of the digest are told.
const BYTES: usize = 8;

/// Equal for equal rules in the same order, in every process.
pub fn fingerprint(rules: &[Rule]) -> String {
    let rules: Vec<_> = rules
        .iter()
        .map(|rule| {
            let Rule { table, claims, columns, filter } = rule;
            serde_json::json!([table, claims, columns, filter])
        })
        .collect();
    let digest = Sha256::digest(serde_json::Value::from(rules).to_string());
    digest.iter().take(BYTES).fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_rules_have_another() {
        let rule = |table: &str| Rule { table: table.into(), ..Rule::default() };
        let both = fingerprint(&[rule("a.b"), rule("a.c")]);
        assert_eq!(both.len(), 2 * BYTES);
        assert_eq!(both, fingerprint(&[rule("a.b"), rule("a.c")]));
        let all_columns = Rule { columns: Some(Vec::new()), ..rule("a.c") };
        for other in
            [vec![], vec![rule("a.b")], vec![rule("a.c"), rule("a.b")], vec![rule("a.b"), all_columns]]
        {
            assert_ne!(fingerprint(&other), both);
        }
    }
}
