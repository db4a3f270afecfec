//! Running a plan over rows that are in memory.

use std::cmp::Ordering;

use crate::plan::{Aggregate, Fold, Order, Plan};
use crate::term::{Fault, Of, Term};
use crate::{Refusal, Value};

/// What comes out of these rows.
pub(crate) fn run(
    plan: &Plan,
    rows: Vec<Vec<Value>>,
    parameters: &[Value],
) -> Result<Vec<Vec<Value>>, Refusal> {
    let refused = |(sqlstate, message): Fault| Refusal::new(sqlstate, message);
    let mut kept = Vec::new();
    for row in rows {
        let is_kept = match &plan.filter {
            Some(filter) => {
                let of = Of { row: &row, parameters, aggregates: &[] };
                filter.of(of).map_err(refused)? == Value::Bool(true)
            }
            None => true,
        };
        if is_kept {
            kept.push(row);
        }
    }
    if !plan.order.is_empty() && plan.aggregates.is_empty() {
        kept = in_order(&plan.order, kept, parameters).map_err(refused)?;
    }
    let folded = plan.aggregates.iter().map(|aggregate| fold(aggregate, &kept, parameters));
    let aggregates = folded.collect::<Result<Vec<Value>, Fault>>().map_err(refused)?;
    if !aggregates.is_empty() {
        kept = vec![Vec::new()];
    }
    let limit = bound(plan.limit.as_ref(), parameters, "LIMIT")?.unwrap_or(usize::MAX);
    let offset = bound(plan.offset.as_ref(), parameters, "OFFSET")?.unwrap_or(0);
    let chosen = kept.iter().skip(offset).take(limit);
    let out = chosen.map(|row| {
        let of = Of { row, parameters, aggregates: &aggregates };
        plan.outputs.iter().map(|(_, kind, term)| Ok(widened(term.of(of)?, *kind))).collect()
    });
    out.collect::<Result<_, Fault>>().map_err(refused)
}

/// An integer where a number that may have a fraction was promised.
fn widened(value: Value, kind: crate::Kind) -> Value {
    match value {
        Value::Int(_) if kind == crate::Kind::Float => value.cast(kind).unwrap_or(Value::Null),
        value => value,
    }
}

/// A number of rows; `None` where there is no bound.
fn bound(term: Option<&Term>, parameters: &[Value], what: &str) -> Result<Option<usize>, Refusal> {
    let Some(term) = term else { return Ok(None) };
    let value = term.of(Of { row: &[], parameters, aggregates: &[] });
    match value.map_err(|(sqlstate, message)| Refusal::new(sqlstate, message))? {
        Value::Null => Ok(None),
        Value::Int(count) if count >= 0 => Ok(Some(usize::try_from(count).unwrap_or(usize::MAX))),
        _ => Err(Refusal::new("2201W", format!("{what} must not be negative"))),
    }
}

fn in_order(order: &[Order], rows: Vec<Vec<Value>>, parameters: &[Value]) -> Result<Vec<Vec<Value>>, Fault> {
    let mut keyed = Vec::with_capacity(rows.len());
    for row in rows {
        let of = Of { row: &row, parameters, aggregates: &[] };
        let key = order.iter().map(|order| order.by.of(of)).collect::<Result<Vec<Value>, Fault>>()?;
        keyed.push((key, row));
    }
    keyed.sort_by(|(one, _), (other, _)| {
        let by_each = order.iter().zip(one.iter().zip(other));
        let mut orders = by_each.map(|(order, (one, other))| match (one, other) {
            (Value::Null, Value::Null) => Ordering::Equal,
            (Value::Null, _) if order.nulls_first => Ordering::Less,
            (Value::Null, _) => Ordering::Greater,
            (_, Value::Null) if order.nulls_first => Ordering::Greater,
            (_, Value::Null) => Ordering::Less,
            (one, other) => {
                let ascending = one.compare(other).unwrap_or(Ordering::Equal);
                if order.descends { ascending.reverse() } else { ascending }
            }
        });
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    Ok(keyed.into_iter().map(|(_, row)| row).collect())
}

fn fold(aggregate: &Aggregate, rows: &[Vec<Value>], parameters: &[Value]) -> Result<Value, Fault> {
    let Some(term) = &aggregate.of else { return Ok(Value::from(rows.len() as u64)) };
    let values = rows.iter().map(|row| term.of(Of { row, parameters, aggregates: &[] }));
    let values = values.collect::<Result<Vec<Value>, Fault>>()?;
    let known: Vec<Value> = values.into_iter().filter(|value| *value != Value::Null).collect();
    let sum = || known.iter().filter_map(Value::number).sum::<f64>();
    let extreme = |wanted: Ordering| {
        let better = |best: Value, next: &Value| match next.compare(&best) {
            Some(order) if order == wanted => next.clone(),
            _ => best,
        };
        known.split_first().map_or(Value::Null, |(first, rest)| rest.iter().fold(first.clone(), better))
    };
    Ok(match aggregate.function {
        Fold::Count => Value::from(known.len() as u64),
        _ if known.is_empty() => Value::Null,
        Fold::Min => extreme(Ordering::Less),
        Fold::Max => extreme(Ordering::Greater),
        #[expect(clippy::cast_precision_loss, reason = "a mean of fewer rows than that")]
        Fold::Average => Value::Float(sum() / known.len() as f64),
        Fold::Sum if known.iter().all(|value| matches!(value, Value::Int(_))) => {
            let numbers = known.iter().map(|value| if let Value::Int(number) = value { *number } else { 0 });
            let sum = numbers.into_iter().try_fold(0i64, i64::checked_add);
            Value::Int(sum.ok_or_else(|| ("22003", "bigint out of range".to_owned()))?)
        }
        Fold::Sum => Value::Float(sum()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{around, rows};

    fn asked(sql: &str) -> Result<Vec<String>, Refusal> {
        let [crate::statement::Statement::Query(query)] = &crate::statement::read(sql)?[..] else {
            panic!("{sql}")
        };
        let plan = crate::plan::plan(query, &around(), &[])?;
        let parameters = [Value::Text("live".into()), Value::Int(2)];
        let out = run(&plan, if plan.table.is_some() { rows() } else { vec![vec![]] }, &parameters)?;
        for row in &out {
            for (value, (name, kind, _)) in row.iter().zip(&plan.outputs) {
                assert!(
                    value.kind().is_none_or(|is| is == *kind),
                    "{sql}: {name} is {value:?}, and {kind:?} was told"
                );
            }
        }
        let shown = out.iter().map(|row| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        Ok(shown.collect())
    }

    fn shown(sql: &str) -> Vec<String> {
        asked(sql).unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"))
    }

    #[test]
    fn rows_are_chosen_ordered_and_bounded() {
        assert_eq!(shown("SELECT session FROM clients"), ["s-1", "s-2", "s-3"]);
        assert_eq!(shown("SELECT * FROM public.clients WHERE session = 's-2'"), ["s-2 live 20 0.5 f"]);
        assert_eq!(shown("SELECT session FROM clients ORDER BY sent DESC LIMIT 2"), ["s-3", "s-2"]);
        assert_eq!(shown("SELECT session AS a FROM clients ORDER BY a DESC OFFSET 2"), ["s-1"]);
        assert_eq!(shown("SELECT session FROM clients ORDER BY 1 DESC LIMIT ALL OFFSET 1"), ["s-2", "s-1"]);
        assert_eq!(shown("SELECT lag FROM clients ORDER BY lag"), ["0.5", "7.25", ""], "nulls last");
        assert_eq!(
            shown("SELECT session FROM clients ORDER BY lag DESC"),
            ["s-3", "s-1", "s-2"],
            "nulls first"
        );
        assert_eq!(shown("SELECT c.session FROM clients c WHERE c.sent > 10 AND NOT c.own"), ["s-2"]);
        assert_eq!(shown("SELECT session FROM clients WHERE lag > 1"), ["s-1"]);
        assert_eq!(shown("SELECT session FROM clients WHERE lag IS NULL OR sent = 20"), ["s-2", "s-3"]);
        assert_eq!(shown("SELECT session FROM clients WHERE lag IS NOT NULL"), ["s-1", "s-2"]);
        assert_eq!(
            shown("SELECT session FROM clients WHERE state IN ('live', 'x') AND session LIKE '%2'"),
            ["s-2"]
        );
        assert_eq!(shown("SELECT session FROM clients WHERE state NOT IN ('live')"), ["s-1"]);
        assert_eq!(shown("SELECT session FROM clients WHERE sent BETWEEN 15 AND 20"), ["s-2"]);
        assert_eq!(shown("SELECT session FROM clients WHERE session ILIKE 'S-_' AND own IS TRUE"), ["s-3"]);
        assert_eq!(shown("SELECT session FROM clients WHERE (lag > 100) IS NOT TRUE"), ["s-1", "s-2", "s-3"]);
        assert_eq!(shown("SELECT session FROM clients WHERE state = $1 LIMIT $2"), ["s-2", "s-3"]);
        assert_eq!(
            shown("SELECT session FROM clients WHERE sent = '20'"),
            ["s-2"],
            "a text in quotes is what it meets"
        );
        assert_eq!(shown("SELECT session FROM clients WHERE sent > 19.5"), ["s-2", "s-3"]);
    }

    #[test]
    fn values_are_computed() {
        assert_eq!(shown("SELECT 1"), ["1"]);
        assert_eq!(
            shown("SELECT 1 + 2 * 3, 7 / 2, 7 % 4, 7 / 2.0, -3, 'a' || 1 || 'b'"),
            ["7 3 3 3.5 -3 a1b"]
        );
        assert_eq!(
            shown("SELECT '12'::int + 1, 1.6::int, true::text, cast(5 as float8) / 2"),
            ["13 2 t 2.5"]
        );
        assert_eq!(shown("SELECT coalesce(lag, 0) FROM clients ORDER BY session"), ["7.25", "0.5", "0"]);
        assert_eq!(
            shown("SELECT count(*), count(lag), sum(sent), min(lag), max(session), avg(sent) FROM clients"),
            ["3 2 60 0.5 s-3 20"]
        );
        assert_eq!(shown("SELECT count(*) + 1 AS n, sum(lag) FROM clients WHERE false"), ["1 "]);
        assert_eq!(
            shown("SELECT current_database(), current_user, version()"),
            ["waldelta somebody waldelta test"]
        );
        assert_eq!(shown("SELECT current_setting('server_version_num')::int / 100 AS version"), ["1500"]);
        assert_eq!(shown("SELECT extract(epoch FROM now())"), ["86400"]);
        assert_eq!(shown("SELECT table_name FROM information_schema.tables LIMIT 0"), [""; 0]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        for (sql, sqlstate) in [
            ("SELECT * FROM nothing", "42P01"),
            ("SELECT * FROM pg_catalog.pg_class", "42P01"),
            ("SELECT nothing FROM clients", "42703"),
            ("SELECT x.session FROM clients", "42P01"),
            ("SELECT session FROM clients WHERE session", "42804"),
            ("SELECT session FROM clients WHERE session > 1", "42883"),
            ("SELECT session FROM clients WHERE sent = 'x'", "22P02"),
            ("SELECT session FROM clients, clients", "0A000"),
            ("SELECT session FROM clients JOIN clients x ON true", "0A000"),
            ("SELECT DISTINCT state FROM clients", "0A000"),
            ("SELECT state, count(*) FROM clients GROUP BY state", "0A000"),
            ("SELECT state, count(*) FROM clients", "0A000"),
            ("SELECT session FROM clients WHERE count(*) > 1", "42803"),
            ("SELECT session FROM clients LIMIT -1", "2201W"),
            ("SELECT session FROM clients LIMIT sent", "42P10"),
            ("SELECT session FROM clients ORDER BY 2", "42P10"),
            ("SELECT 1 UNION SELECT 2", "0A000"),
            ("SELECT (SELECT 1)", "0A000"),
            ("WITH a AS (SELECT 1) SELECT * FROM a", "0A000"),
            ("SELECT nothing()", "42883"),
            ("SELECT 1 / 0", "22012"),
            ("SELECT 9223372036854775807 + 1", "22003"),
            ("SELECT 'x'::int", "22P02"),
            ("SELECT 1::json", "42704"),
            ("SELECT *", "42601"),
            ("SELECT session FROM clients FOR UPDATE", "0A000"),
            ("SELECT $0", "42P02"),
        ] {
            assert_eq!(asked(sql).map_err(|refusal| refusal.sqlstate), Err(sqlstate), "{sql}");
        }
    }
}
