//! Who may see what (`[[rules]]`), and how much one may take of what all share (`[limits]`): what can be changed while the service
//! runs. What a rule means is the client side's to say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use waldelta_fanout::{Limits, Rule, RuleError, Rules};

/// One rule. Of those for a table, the first whose claims match decides, alone.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RuleConfig {
    /// `schema.table`, `schema.*` or `*`.
    pub table: String,
    /// Claims, by name, with the value, or the values of which one, the token must have.
    pub claims: BTreeMap<String, OneOrMany>,
    /// Columns that may be seen beside the key; left out: all.
    pub columns: Option<Vec<String>>,
    /// Rows that may be seen; left out: all.
    #[serde(rename = "where")]
    pub filter: Option<String>,
}

/// What a claim may be.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(Scalar),
    Many(Vec<Scalar>),
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl RuleConfig {
    /// A rule with everything that one can have: what is not in it is no setting.
    pub(super) fn complete() -> Self {
        RuleConfig { columns: Some(Vec::new()), filter: Some(String::new()), ..RuleConfig::default() }
    }

    /// Whom it is for, in words.
    pub(crate) fn whom(&self) -> String {
        if self.claims.is_empty() {
            return "everybody".to_owned();
        }
        let claim = |(name, values): (&String, &OneOrMany)| match values {
            OneOrMany::One(value) => format!("{name} = {}", value.json()),
            OneOrMany::Many(values) => {
                let values: Vec<String> = values.iter().map(|value| value.json().to_string()).collect();
                format!("{name} = {}", values.join(" | "))
            }
        };
        self.claims.iter().map(claim).collect::<Vec<_>>().join(", ")
    }

    /// Whether it looks at claims.
    pub(crate) fn asks_for_claims(&self) -> bool {
        !self.claims.is_empty() || self.filter.as_ref().is_some_and(|filter| filter.contains(":claims"))
    }

    pub(crate) fn rule(&self) -> Rule {
        let values = |values: &OneOrMany| match values {
            OneOrMany::One(value) => vec![value.json()],
            OneOrMany::Many(values) => values.iter().map(Scalar::json).collect(),
        };
        Rule {
            table: self.table.clone(),
            claims: self.claims.iter().map(|(name, claim)| (name.clone(), values(claim))).collect(),
            columns: self.columns.clone(),
            filter: self.filter.clone(),
        }
    }
}

impl Scalar {
    pub(super) fn json(&self) -> serde_json::Value {
        match self {
            Scalar::Bool(value) => (*value).into(),
            Scalar::Integer(value) => (*value).into(),
            Scalar::Float(value) => (*value).into(),
            Scalar::Text(value) => value.as_str().into(),
        }
    }
}

/// What the rules say. Without any, everybody sees everything where nobody authenticates, and nobody anything where one must.
pub(super) fn rules(rules: &[RuleConfig], is_required: bool) -> Result<Rules, RuleError> {
    if rules.is_empty() && !is_required {
        return Ok(Rules::everything());
    }
    Rules::parse(&rules.iter().map(RuleConfig::rule).collect::<Vec<_>>())
}

/// The first limit that makes no sense, and why.
pub(super) fn nonsense(limits: &Limits) -> Option<String> {
    let (seconds, burst) = (limits.requests_per_second_max, limits.requests_burst_max);
    (burst < seconds).then(|| {
        format!(
            "limits.requests_burst_max is {burst}, less than the {seconds} requests of one second that \
             limits.requests_per_second_max allows"
        )
    })
}

/// The limits that cannot be 0, by name.
pub(super) fn at_least_one(limits: &Limits) -> [(&'static str, u64); 5] {
    [
        ("limits.sessions_per_address_max", limits.sessions_per_address_max as u64),
        ("limits.sessions_per_subject_max", limits.sessions_per_subject_max as u64),
        ("limits.sessions_per_tenant_max", limits.sessions_per_tenant_max as u64),
        ("limits.requests_per_second_max", limits.requests_per_second_max.into()),
        ("limits.requests_burst_max", limits.requests_burst_max.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_says_what_it_says() {
        let text = "table = 'public.*'\nwhere = 'tenant = :claims.tenant'\ncolumns = ['a']\n\
            claims = { role = ['clerk', 7], admin = true }";
        let rule = toml::from_str::<RuleConfig>(text).unwrap().rule();
        assert_eq!(
            (rule.table.as_str(), rule.filter.as_deref()),
            ("public.*", Some("tenant = :claims.tenant"))
        );
        assert_eq!(rule.columns, Some(vec!["a".to_owned()]));
        assert_eq!(rule.claims["role"], ["clerk".into(), serde_json::Value::from(7)]);
        assert_eq!(rule.claims["admin"], [true]);
    }

    #[test]
    fn a_limit_that_makes_no_sense_is_refused() {
        let limits = Limits { requests_burst_max: 1, ..Default::default() };
        assert!(nonsense(&limits).unwrap().contains("limits.requests_burst_max is 1"));
        assert_eq!(nonsense(&Limits::default()), None);
    }
}
