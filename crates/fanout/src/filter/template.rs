//! A filter with claims in the place of values: what a permission rule says, before it is known of whom.
//!
//! Claims are put in as values, into what was parsed; no text is ever read again. What is made of it has the limits of any
//! filter. It decides nothing about rows, and knows no identities: only their claims.

use serde_json::{Map, Number, Value};
use waldelta_wal::Table;

use super::condition::{Condition, Literal};
use super::decimal::Decimal;
use super::family::Family;
use super::{DIGITS_MAX, Filter, FilterError, Parsed, VALUES_MAX, check_length, parser};

/// From here on a number in double precision may stand for several.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A filter in which `:claims.name` may stand for a value, and in an IN list, or behind `=`, for several.
#[derive(Clone)]
pub(crate) struct Template(std::sync::Arc<Parsed>);

impl std::str::FromStr for Template {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        check_length(text)?;
        Parsed::new(parser::parse(text, true)?).map(|parsed| Template(parsed.into()))
    }
}

impl Template {
    /// The filter that it is for whoever has these claims; `None` where one of them is missing, null or an object, or is a list
    /// that is empty or stands where one value has to, or where a value is none that a filter may have.
    pub(crate) fn filter(&self, claims: &Map<String, Value>) -> Option<Filter> {
        self.with(&|_, path| match claim(claims, path)? {
            Value::Array(values) if values.len() > VALUES_MAX => None,
            Value::Array(values) => values.iter().map(literal).collect(),
            value => literal(value).map(|literal| vec![literal]),
        })
    }

    /// Whether it is the same for everybody.
    pub(crate) fn is_settled(&self) -> bool {
        self.0.condition.is_settled()
    }

    /// A filter as it could be for somebody whose claims fit the table, to look at what it asks for.
    pub(crate) fn sample(&self, table: &Table) -> Option<Filter> {
        self.with(&|column, _| {
            let column = table.columns.iter().find(|known| known.name == column);
            Some(vec![column.map_or(Literal::Bool(true), |column| Family::of(column).sample())])
        })
    }

    fn with(&self, values: &impl Fn(&str, &[String]) -> Option<Vec<Literal>>) -> Option<Filter> {
        let condition: Condition = self.0.condition.with_values(&|column, literal| match literal {
            Literal::Claim(path) => values(column, path),
            literal => Some(vec![literal.clone()]),
        })?;
        let fits = condition.values() <= VALUES_MAX;
        fits.then(|| Parsed::new(condition).ok()).flatten().map(|parsed| Filter(parsed.into()))
    }
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Template").field(&self.0.text).finish()
    }
}

/// The claim at the end of a path of names.
pub(crate) fn claim<'c>(claims: &'c Map<String, Value>, path: &[String]) -> Option<&'c Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(claims.get(first)?, |value, name| value.as_object()?.get(name))
}

/// One value as a filter has it.
fn literal(value: &Value) -> Option<Literal> {
    match value {
        Value::Bool(value) => Some(Literal::Bool(*value)),
        Value::Number(value) => number(value).map(Literal::Number),
        // PostgreSQL has no text with NUL.
        Value::String(text) => (!text.contains('\0')).then(|| Literal::Text(None, text.clone())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A number that is exactly what the token said: of one that was rounded, another tenant's may have become the same.
fn number(number: &Number) -> Option<Decimal<'static>> {
    let is_exact = !number.is_f64() || number.as_f64().is_some_and(|value| value.abs() < EXACT_MAX);
    let text = number.to_string();
    let number = Decimal::parse(text.as_bytes()).filter(|number| number.extent() <= DIGITS_MAX)?;
    is_exact.then(|| number.into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims() -> Map<String, Value> {
        let claims = json!({
            "tenant": 7, "name": "o'brien' OR 1=1", "flag": true, "nothing": null, "groups": ["b", "a", "b"],
            "none": [], "deep": {"er": {"x-y": 1.5}}, "mixed": ["a", null], "nested": [["a"]], "nul": "a\u{0}b",
            "many": (0..=VALUES_MAX).collect::<Vec<_>>(), "long": "x".repeat(super::super::TEXT_BYTES_MAX),
            "https://example.com/t": "quoted",
        });
        let Value::Object(mut claims) = claims else { panic!() };
        // What a JSON text with a long number becomes.
        claims.insert("rounded".into(), serde_json::from_str("18446744073709551617").unwrap());
        claims
    }

    fn filter(text: &str) -> Option<String> {
        Some(text.parse::<Template>().unwrap().filter(&claims())?.to_string())
    }

    #[test]
    fn claims_are_put_in_as_values() {
        for (template, expected) in [
            ("t = :claims.tenant", "t = 7"),
            (":claims.tenant < t", "t > 7"),
            ("n = :claims.name", "n = 'o''brien'' OR 1=1'"),
            ("f = :claims.flag AND t <> :claims.tenant", "t <> 7 AND f = true"),
            ("g IN (:claims.groups, 'z')", "g IN ('a', 'b', 'z')"),
            ("g = :claims.groups", "g IN ('a', 'b')"),
            ("g <> :claims.groups", "g NOT IN ('a', 'b')"),
            ("d = :claims.deep.er.\"x-y\"", "d = 1.5"),
            ("q = :claims.\"https://example.com/t\"", "q = 'quoted'"),
            ("t BETWEEN 1 AND :claims.tenant", "t >= 1 AND t <= 7"),
            ("a = 1 OR a = :claims.tenant OR a = 7", "a = 1 OR a = 7"),
        ] {
            assert_eq!(filter(template).as_deref(), Some(expected), "{template}");
            assert_eq!(expected.parse::<Filter>().unwrap().to_string(), expected, "it is a filter");
        }
    }

    #[test]
    fn what_is_no_value_makes_no_filter_whatever_stands_beside_it() {
        for claim in [
            "missing",
            "nothing",
            "deep",
            "deep.missing",
            "tenant.x",
            "none",
            "mixed",
            "nested",
            "nul",
            "many",
            "long",
            "rounded",
        ] {
            assert_eq!(filter(&format!("public = true OR t = :claims.{claim}")), None, "{claim}");
            assert_eq!(filter(&format!("t NOT IN (1, :claims.{claim})")), None, "{claim}");
        }
        assert_eq!(filter("g < :claims.groups"), None, "one value has to stand there");
    }

    #[test]
    fn a_clients_filter_has_no_claims() {
        for text in ["t = :claims.tenant", "t IN (1, :claims.tenant)", ":claims.tenant = t", "t = :claims"] {
            assert!(matches!(text.parse::<Filter>(), Err(FilterError::Syntax { .. })), "{text}");
        }
        for text in [
            "t LIKE :claims.tenant",
            "t = :claims",
            "t = :claims.",
            "t = :claim.x",
            "t = :claims.a.b.c.d.e.f.g.h.i",
        ] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
        assert!("t = :claims.a".parse::<Template>().is_ok_and(|template| !template.is_settled()));
        assert!("NOT (t > 1 AND u LIKE 'x')".parse::<Template>().is_ok_and(|template| template.is_settled()));
    }
}
