//! What rules are read, whom they are for, and what they come to.

use serde_json::json;
use waldelta_wal::{Code, Column, Kind, ReplicaIdentity, Table, TableName};

use super::*;
use crate::testing::{grant, identity, rule, table};

fn for_claims(rule: Rule, claims: Value) -> Rule {
    let Value::Object(claims) = claims else { panic!() };
    let values = |value: Value| match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    Rule { claims: claims.into_iter().map(|(name, value)| (name, values(value))).collect(), ..rule }
}

fn name(table: &str) -> TableName {
    table.parse().unwrap()
}

#[test]
fn what_cannot_be_read_names_the_rule_and_what_is_wrong() {
    let good = || rule("t", None, Some("a = :claims.tenant"));
    let long = format!("a = '{}'", "x".repeat(20_000));
    for (bad, why) in [
        (rule("", None, None), "`table` is schema.table, schema.* or *"),
        (rule("a.b.c", None, None), "`table` is schema.table, schema.* or *"),
        (rule("t", Some(&[""]), None), "`columns` has an empty name, or more than 1600 names"),
        (rule("t", None, Some("a =")), "`where`: at character 4: expected a value"),
        (rule("t", None, Some("a = :claims.a; DROP TABLE t")), "`where`: at character 14: expected"),
        (rule("t", None, Some("a = 1 -- :claims.a")), "`where`: at character 7: expected"),
        (rule("t", None, Some("pg_sleep(10) = 1")), "`where`: at character 9: expected"),
        (rule("t", None, Some("a LIKE :claims.a")), "`where`: at character 8: expected a pattern"),
        (rule("t", None, Some(&long)), "`where`: the filter is longer than 16384 bytes"),
        (for_claims(rule("t", None, None), json!({"role": []})), "claim \"role\" needs 1 to 1000 values"),
        (
            for_claims(rule("t", None, None), json!({"role": [null]})),
            "the values of claim \"role\" must be texts, numbers, true or false",
        ),
    ] {
        let error = Rules::parse(&[good(), bad.clone()]).unwrap_err();
        assert_eq!((error.number, &error.table), (2, &bad.table));
        assert!(error.why.starts_with(why), "{error}");
        assert!(error.to_string().starts_with(&format!("rule 2, for {:?}: ", bad.table)), "{error}");
    }
    let many = vec![good(); RULES_MAX + 1];
    assert_eq!(Rules::parse(&many).unwrap_err().why, "there are more than 1000 rules");
    assert!(Rules::parse(&many[1..]).is_ok());
}

/// What a pattern needs to be slow is not accepted; what is, is decided in time.
#[test]
fn a_rule_cannot_be_made_slow_by_a_pattern() {
    let floating = format!("v LIKE '%{}_%'", "a".repeat(10_000));
    let error = Rules::parse(&[rule("t", None, Some(&floating))]).unwrap_err();
    assert!(error.why.contains("LIKE pattern"), "{error}");
    let nested = format!("{}v = :claims.a{}", "NOT (a = 1 AND ".repeat(200), ")".repeat(200));
    assert!(Rules::parse(&[rule("t", None, Some(&nested))]).unwrap_err().why.contains("nested deeper"));
}

#[test]
fn the_first_rule_whose_table_and_claims_match_decides_alone() {
    let rules = [
        for_claims(rule("orders", None, None), json!({"role": ["admin", "auditor"]})),
        rule("orders", Some(&["total"]), Some("tenant = :claims.tenant")),
        rule("secrets", None, Some("owner = :claims.nobody_has_it")),
        for_claims(rule("public.*", None, None), json!({"level": [2, 3], "org.kind": "partner"})),
        rule("open.news", None, None),
    ];
    let rows = |claims: Value, table: &str| {
        let grant = grant(&rules, claims);
        assert!(!grant.is_everything() && !grant.has_messages());
        assert_eq!(grant.has(&name(table)), grant.permit(&name(table)).is_some());
        grant.permit(&name(table)).map(|permit| {
            (permit.filter().map(ToString::to_string), permit.columns.as_ref().map(|all| all.len()))
        })
    };
    let tenant = |value: &str| Some((Some(format!("tenant = {value}")), Some(1)));
    let all = Some((None, None));
    assert_eq!(rows(json!({"role": "admin", "tenant": 7}), "orders"), all);
    assert_eq!(rows(json!({"role": ["clerk", "auditor"]}), "orders"), all);
    assert_eq!(rows(json!({"role": ["clerk"], "tenant": 7}), "orders"), tenant("7"));
    assert_eq!(rows(json!({"role": {"admin": true}, "tenant": "a"}), "orders"), tenant("'a'"));
    assert_eq!(rows(json!({"role": "admins"}), "orders"), None, "no tenant: it decides, and gives nothing");
    let partner = json!({"tenant": 1, "level": 2.0, "org": {"kind": "partner"}});
    assert_eq!(rows(partner.clone(), "orders"), tenant("1"), "a later rule that gives more does not count");
    assert_eq!(rows(partner.clone(), "secrets"), None);
    assert_eq!(rows(partner, "anything"), all);
    assert_eq!(rows(json!({"level": 2, "org.kind": "partner"}), "anything"), all);
    assert_eq!(rows(json!({"level": "2", "org.kind": "partner"}), "anything"), None);
    assert_eq!(rows(json!({"level": 2}), "anything"), None, "each of the claims");
    assert_eq!(rows(json!({}), "open.news"), all);
    assert_eq!(rows(json!({}), "open.other"), None);
    let rules = Rules::parse(&rules).unwrap();
    assert!(rules.grant(None).has(&name("open.news")) && !rules.grant(None).has(&name("orders")));
    assert!(!Rules::parse(&[]).unwrap().grant(None).has(&name("t")), "no rule, nothing");
    assert!(Rules::everything().grant(None).is_everything());
}

#[test]
fn everything_is_what_an_unnarrowed_rule_for_all_tables_gives_where_none_is_before_it() {
    let admin = for_claims(rule("*", None, None), json!({"role": "admin"}));
    let everything = |rules: &[Rule], claims| grant(rules, claims) == Grant::everything();
    let narrow = rule("t", None, Some("a = 1"));
    assert!(everything(&[admin.clone(), narrow.clone()], json!({"role": "admin"})));
    assert!(!everything(&[admin.clone(), narrow.clone()], json!({})));
    assert!(!everything(&[narrow, admin], json!({"role": "admin"})), "of one table it is less");
    assert!(!everything(&[rule("*", Some(&["a"]), None)], json!({})));
    assert!(!everything(&[rule("*", None, Some("a = 1"))], json!({})));
    assert!(!everything(&[rule("public.*", None, None)], json!({})));
}

#[test]
fn grants_are_equal_where_they_grant_the_same() {
    let rules = Rules::parse(&[
        rule("t", None, Some("tenant IN (:claims.tenants)")),
        for_claims(rule("u", None, None), json!({"role": "clerk"})),
        for_claims(rule("u", None, None), json!({"role": "seller"})),
        rule("t", None, None),
    ])
    .unwrap();
    let grant = |claims| rules.grant(Some(&identity(claims)));
    let one = grant(json!({"sub": "a", "tenants": [1, 2], "role": "clerk"}));
    let same = grant(json!({"sub": "b", "tenants": [2, 1, 2], "role": ["seller", "clerk"]}));
    assert_eq!((&one, one.fingerprint()), (&same, same.fingerprint()));
    let less = grant(json!({"tenants": [1, 2]}));
    let other = grant(json!({"tenants": [1, 3], "role": "clerk"}));
    let text = grant(json!({"tenants": ["1", "2"], "role": "clerk"}));
    let nothing = grant(json!({}));
    let all = [one, less, other, text, nothing, Grant::everything()];
    let fingerprints: HashSet<String> = all.iter().map(Grant::fingerprint).collect();
    assert_eq!((fingerprints.len(), all.iter().collect::<HashSet<_>>().len()), (6, 6));
    assert!(fingerprints.iter().all(|one| one.len() == 16 && one.chars().all(|c| c.is_ascii_hexdigit())));
    // Clients come back with it after a restart.
    assert_eq!(Grant::everything().fingerprint(), "a0a44ed8cfc32b7e");
    assert_eq!(all[2].fingerprint(), "0c78d12827381552");
    assert!(!format!("{all:?}").contains("tenant"), "claims are in no log");
}

#[test]
fn equal_grants_are_kept_once_and_no_longer_than_somebody_has_them() {
    let rules = Rules::parse(&[rule("t", None, Some("a = :claims.a"))]).unwrap();
    let grant = |n: usize| rules.grant(Some(&identity(json!({"a": n}))));
    let kept = grant(0);
    for n in 0..10 * GRANTS_KEPT {
        assert_eq!(grant(n), grant(n));
    }
    let made = rules.0.as_ref().unwrap().made.lock().unwrap().grants.len();
    assert!((1..=GRANTS_KEPT + 2).contains(&made), "{made}");
    assert!(grant(0).is_shared() && grant(0) == kept);
}

/// `t (id integer primary key, v text, n integer)`
fn wide(identity: ReplicaIdentity) -> Table {
    let mut table = table("t");
    let kind = Kind::builtin(23).unwrap();
    let id = table.columns[0].clone();
    table.columns.push(Column { number: 3, name: "n".into(), kind, nullable: true, identity: false, ..id });
    Table { identity, ..table }
}

#[test]
fn a_rule_is_decided_on_old_rows_or_its_table_is_not_there() {
    let sees = |filter: &str, table: &Table| {
        let may =
            grant(&[rule("t", None, Some(filter))], json!({"n": 7, "v": "x"})).permission(table).is_some();
        let found =
            Rules::parse(&[rule("t", None, Some(filter))]).unwrap().check(std::slice::from_ref(table));
        assert_eq!(found.is_empty(), may, "{found:?}");
        (may, found.first().map(|finding| finding.code))
    };
    let (yes, undecidable, misfit) =
        ((true, None), (false, Some(Code::RuleUndecidable)), (false, Some(Code::RuleMisfit)));
    use ReplicaIdentity::{Default, Full, Index, Mixed, Nothing};
    for (identity, by_key, by_other) in [
        (Full, yes, yes),
        (Default, yes, undecidable),
        (Index, yes, undecidable),
        (Mixed, undecidable, undecidable),
        (Nothing, yes, yes),
    ] {
        let table = wide(identity);
        assert_eq!(sees("id = :claims.n", &table), by_key, "{identity:?}");
        assert_eq!(sees("id = 1 OR n = :claims.n", &table), by_other, "{identity:?}");
        assert_eq!(sees("missing = :claims.n", &table), misfit);
    }
    let mut unnamed = wide(Default);
    unnamed.columns[0].identity = false;
    unnamed.key.clear();
    assert_eq!(sees("n = :claims.n", &unnamed), yes, "PostgreSQL changes no row that nothing names");
    assert_eq!(sees("v LIKE 'a%' AND n > 1", &wide(Full)), yes);
    assert_eq!(sees("n LIKE 'a%'", &wide(Full)), misfit);
    // What only a claim can be wrong about is found out with it.
    let wrong = grant(&[rule("t", None, Some("n = :claims.v"))], json!({"v": "x"}));
    assert!(wrong.permission(&wide(Full)).is_none());
}

#[test]
fn rules_are_checked_against_the_tables_that_there_are() {
    let rules = Rules::parse(&[
        rule("t", Some(&["v", "nope"]), Some("n = :claims.n AND v IN (:claims.v)")),
        for_claims(rule("missing", None, None), json!({"role": "x"})),
        rule("public.*", Some(&["elsewhere"]), Some("tenant = :claims.n")),
        rule("public.u", None, Some("never = 'looked at'")),
    ])
    .unwrap();
    let (t, u) = (wide(ReplicaIdentity::Default), table("u"));
    let found = |tables: &[Table]| -> Vec<(usize, String, Code, Option<String>)> {
        let findings = rules.check(tables).into_iter();
        findings.map(|one| (one.rule, one.table.to_string(), one.code, one.fix)).collect()
    };
    let missing = (2, "public.missing".to_owned(), Code::TableNotCaptured, None);
    let no_tenant = (3, "public.u".to_owned(), Code::RuleMisfit, None);
    let fix = Some("ALTER TABLE public.t REPLICA IDENTITY FULL".to_owned());
    let undecidable = (1, "public.t".to_owned(), Code::RuleUndecidable, fix);
    assert_eq!(found(&[t.clone(), u.clone()]), [undecidable, missing.clone(), no_tenant.clone()]);
    let full = Table { identity: ReplicaIdentity::Full, ..t };
    let no_column = (1, "public.t".to_owned(), Code::RuleMisfit, None);
    assert_eq!(found(&[full.clone(), u]), [no_column, missing, no_tenant]);
    let messages: Vec<String> = rules.check(&[full]).into_iter().map(|one| one.message).collect();
    assert!(messages[0].contains("nope"), "{messages:?}");
    assert_eq!(Rules::everything().check(&[table("t")]), []);
}
