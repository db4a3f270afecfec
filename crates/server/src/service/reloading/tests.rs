//! Which rules that do not fit stand in the way of others.

use super::*;

fn rules(text: &str) -> Vec<RuleConfig> {
    toml::from_str::<Config>(text).unwrap().rules
}

fn finding(rule: usize, message: &str) -> Finding {
    let (table, message) = ("public.a".parse().unwrap(), message.to_owned());
    Finding { rule, table, code: Code::RuleMisfit, message, fix: None }
}

/// It may be elsewhere in the file; once it is edited, it is another rule.
#[test]
fn a_rule_that_does_not_fit_already_is_known_again() {
    let (bad, good) = ("[[rules]]\ntable = 'a'\nwhere = 'x = 1'\n", "[[rules]]\ntable = 'b'\n");
    let before = rules(bad);
    let after = rules(&format!("{good}{bad}"));
    let edited = rules(&format!("{good}{}", bad.replace('1', "2")));
    let known = finding(1, "no column x");
    assert!(is_same((&known, &before), (&finding(2, "no column x"), &after)));
    assert!(!is_same((&known, &before), (&finding(2, "another type"), &after)));
    assert!(!is_same((&known, &before), (&finding(2, "no column x"), &edited)));
    assert!(!is_same((&known, &before), (&finding(1, "no column x"), &after)));
}
