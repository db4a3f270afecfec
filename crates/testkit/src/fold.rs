//! History folded: what the tables must be if nothing in it is lost, doubled or out of order. Written from the meaning of
//! the columns alone; it uses nothing of the code that wrote them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use tokio_postgres::Client;
use waldelta_wal::Position;

use crate::canonical::canonical;

/// Rows of a table's history in order. A key is the JSON array of the key's values; `old_key` is the one before an update,
/// where the source tells it.
const HISTORY_SQL: &str = "
    SELECT h.operation, h.row_key::jsonb::text AS key, s.columns::text AS columns, s.key AS key_columns, o.key AS old_key, h.data::text AS data, h.old_data::text AS old,
           ARRAY(SELECT jsonb_array_elements_text(h.metadata->'unchanged')) AS unchanged,
           (SELECT count(*) FROM waldelta.epochs WHERE NOT continues AND epoch <= h.epoch) AS breaks
    FROM waldelta.change_history h
    LEFT JOIN waldelta.table_schemas s ON (s.table_oid, s.version) = (h.table_oid, h.schema_version)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN bool_and(h.old_data ? (s.columns->at->>'name'))
                    THEN jsonb_agg(h.old_data->(s.columns->at->>'name') ORDER BY ordinality)::text END AS key
        FROM unnest(s.key::int[]) WITH ORDINALITY AS key (at, ordinality)
        WHERE h.operation = 'update' AND h.old_data IS NOT NULL
    ) o
    JOIN waldelta.epochs e ON e.epoch = h.epoch AND (e.end_lsn IS NULL OR h.lsn < e.end_lsn)
    WHERE h.table_oid = (SELECT table_oid FROM waldelta.change_history WHERE table_name = $1 LIMIT 1) AND (h.epoch, h.lsn) <= ($2::text::int, $3::text::pg_lsn)
      AND (h.epoch, h.lsn) > ($4::text::int, $5::text::pg_lsn)
    ORDER BY h.epoch, h.lsn, h.seq";

/// The rows that a table has after folding its history up to a position (`None`: all of it), as canonical JSON, sorted.
/// Rows that were there before history began are only known if there is a baseline, or once they have changed; so are those that
/// were there when the table was reset, or before a gap of all tables. What an epoch has at or beyond its end did not survive.
pub async fn folded(history: &Client, table: &str, until: Option<Position>) -> Vec<String> {
    fold(history, table, None, until).await
}

/// The same of what follows a place at which the table had no rows, whatever there was before.
pub async fn folded_since(history: &Client, table: &str, since: Position) -> Vec<String> {
    fold(history, table, Some(since), None).await
}

async fn fold(
    history: &Client,
    table: &str,
    since: Option<Position>,
    until: Option<Position>,
) -> Vec<String> {
    let place = |position: Option<Position>, otherwise: (i32, &str)| {
        let (epoch, lsn) = (otherwise.0.to_string(), otherwise.1.to_owned());
        position
            .map_or((epoch, lsn), |position| (position.epoch.0.to_string(), position.commit_lsn.to_string()))
    };
    let (epoch, lsn) = place(until, (i32::MAX, "FFFFFFFF/FFFFFFFF"));
    let (since_epoch, since_lsn) = place(since, (-1, "0/0"));
    let rows = history.query(HISTORY_SQL, &[&table, &epoch, &lsn, &since_epoch, &since_lsn]).await;
    let rows = rows.unwrap_or_else(|error| panic!("fold {table}: {error:?}"));
    let mut keyed: BTreeMap<String, String> = BTreeMap::new();
    let mut keyless: Vec<String> = Vec::new();
    let mut before_shape: Vec<Column> = Vec::new();
    let mut breaks: i64 = 0;
    for row in &rows {
        if std::mem::replace(&mut breaks, row.get("breaks")) != breaks {
            keyed.clear();
            keyless.clear();
        }
        let (operation, key): (&str, Option<String>) = (row.get("operation"), row.get("key"));
        let data: Option<String> = row.get("data");
        match (operation, key) {
            ("insert" | "baseline", None) => keyless.push(data.unwrap()),
            ("insert" | "baseline", Some(key)) => {
                let before = keyed.insert(key.clone(), data.unwrap());
                assert!(before.is_none(), "{table} {key} is inserted, and was there");
            }
            ("update", Some(key)) => {
                let old_key: Option<String> = row.get("old_key");
                let old_key = old_key.as_ref().unwrap_or(&key);
                let before = keyed.remove(old_key);
                let row = filled(&data.unwrap(), before.as_deref(), &row.get::<_, Vec<String>>("unchanged"));
                let other = keyed.insert(key.clone(), row);
                assert!(other.is_none(), "{table} {old_key} becomes {key}, which was there");
            }
            ("delete", Some(key)) => {
                keyed.remove(&key);
            }
            // Without a key the row before is all that tells which one it was.
            ("update" | "delete", None) => {
                let old: String = row.get("old");
                let is_it = |row: &String| canonical(row).unwrap() == canonical(&old).unwrap();
                if let Some(at) = keyless.iter().position(is_it) {
                    keyless.swap_remove(at);
                }
                let unchanged = row.get::<_, Vec<String>>("unchanged");
                keyless.extend(data.map(|data| filled(&data, Some(&old), &unchanged)));
            }
            ("truncate", _) => {
                keyed.clear();
                keyless.clear();
            }
            ("schema", _) => {
                let shape: Vec<Column> = serde_json::from_str(row.get("columns")).unwrap();
                keyless.iter_mut().for_each(|row| *row = reshaped(row, &before_shape, &shape));
                let key_columns: Vec<i16> = row.get("key_columns");
                for row in std::mem::take(&mut keyed).into_values() {
                    let row = reshaped(&row, &before_shape, &shape);
                    keyed.insert(key_of(&row, &shape, &key_columns), row);
                }
            }
            ("reset", _) => {
                // Up to here its changes do not add up to its rows, which readers have from elsewhere.
                keyed.clear();
                keyless.clear();
            }
            // What was left out changed something that nobody knows.
            ("skip", _) => {}
            (operation, key) => panic!("{table}: {operation} of {key:?}"),
        }
        // A reset, and what was left out, may show no shape.
        let Some(shape) = row.get::<_, Option<&str>>("columns") else { continue };
        before_shape = serde_json::from_str(shape).unwrap();
    }
    let all = keyed.values().chain(&keyless);
    let mut rows: Vec<String> = all.map(|row| canonical(row).unwrap()).collect();
    rows.sort();
    rows
}

/// A column as `table_schemas` has it.
#[derive(serde::Deserialize)]
struct Column {
    /// 0 where it is not known.
    #[serde(default)]
    number: i16,
    name: String,
}

/// A row in another shape of its table: a column is the same where its number is, or its name where a number is not known.
fn reshaped(row: &str, before: &[Column], after: &[Column]) -> String {
    let mut row: BTreeMap<String, Box<RawValue>> = serde_json::from_str(row).unwrap();
    let null = || RawValue::from_string("null".to_owned()).unwrap();
    let mut value = |column: &Column| {
        let is_it = |before: &&Column| match (before.number, column.number) {
            (0, _) | (_, 0) => before.name == column.name,
            (before, number) => before == number,
        };
        let before = before.iter().find(is_it);
        before.and_then(|before| row.remove(&before.name)).unwrap_or_else(null)
    };
    let row: BTreeMap<_, _> = after.iter().map(|column| (&column.name, value(column))).collect();
    serde_json::to_string(&row).unwrap()
}

/// The key of a row, in the form in which the database prints it.
fn key_of(row: &str, shape: &[Column], key: &[i16]) -> String {
    let row: BTreeMap<String, Box<RawValue>> = serde_json::from_str(row).unwrap();
    let values: Vec<&str> =
        key.iter().map(|at| row[&shape[usize::try_from(*at).unwrap()].name].get()).collect();
    format!("[{}]", values.join(", "))
}

/// A row with the columns that the source did not send again taken from the row before.
fn filled(data: &str, before: Option<&str>, unchanged: &[String]) -> String {
    if unchanged.is_empty() {
        return data.to_owned();
    }
    let mut row: BTreeMap<String, Box<RawValue>> = serde_json::from_str(data).unwrap();
    let before = before.unwrap_or_else(|| panic!("{unchanged:?} are unchanged, and were never there"));
    let mut before: BTreeMap<String, Box<RawValue>> = serde_json::from_str(before).unwrap();
    for column in unchanged {
        let value =
            before.remove(column).unwrap_or_else(|| panic!("{column} is unchanged, and was not there"));
        row.insert(column.clone(), value);
    }
    serde_json::to_string(&row).unwrap()
}

/// Compares rows both ways; shows some of the difference instead of everything.
#[track_caller]
pub fn assert_same(table: &str, found: &[String], wanted: &[String]) {
    const SHOWN: usize = 5;
    if found == wanted {
        return;
    }
    let (found_set, wanted_set): (BTreeSet<_>, BTreeSet<_>) =
        (found.iter().collect(), wanted.iter().collect());
    let missing: Vec<_> = wanted_set.difference(&found_set).take(SHOWN).collect();
    let surplus: Vec<_> = found_set.difference(&wanted_set).take(SHOWN).collect();
    panic!(
        "{table} has {} rows, the source {}; missing: {missing:#?}; too many: {surplus:#?}",
        found.len(),
        wanted.len()
    );
}
