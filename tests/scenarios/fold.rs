//! History folded: what the tables must be if nothing in it is lost, doubled or out of order. Written from the meaning of
//! the columns alone; it uses nothing of the code that wrote them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use tokio_postgres::Client;
use waldelta_testkit::canonical;
use waldelta_wal::Position;

/// Rows of a table's history in order. A key is the JSON array of the key's values; `old_key` is the one before an update,
/// where the source tells it.
const HISTORY_SQL: &str = "
    SELECT h.operation, h.row_key::jsonb::text AS key, o.key AS old_key, h.data::text AS data,
           ARRAY(SELECT jsonb_array_elements_text(h.metadata->'unchanged')) AS unchanged
    FROM waldelta.change_history h
    LEFT JOIN waldelta.table_schemas s ON (s.table_oid, s.version) = (h.table_oid, h.schema_version)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN bool_and(h.old_data ? (s.columns->at->>'name'))
                    THEN jsonb_agg(h.old_data->(s.columns->at->>'name') ORDER BY ordinality)::text END AS key
        FROM unnest(s.key::int[]) WITH ORDINALITY AS key (at, ordinality)
        WHERE h.operation = 'update' AND h.old_data IS NOT NULL
    ) o
    WHERE h.table_name = $1 AND (h.epoch, h.lsn) <= ($2::text::int, $3::text::pg_lsn)
    ORDER BY h.epoch, h.lsn, h.seq";

/// The rows that a table has after folding its history up to a position (`None`: all of it), as canonical JSON, sorted.
/// Rows that were there before history began are only known if there is a baseline, or once they have changed.
pub async fn folded(history: &Client, table: &str, until: Option<Position>) -> Vec<String> {
    let (epoch, lsn) = until.map_or_else(
        || (i32::MAX.to_string(), "FFFFFFFF/FFFFFFFF".to_owned()),
        |position| (position.epoch.0.to_string(), position.commit_lsn.to_string()),
    );
    let rows = history.query(HISTORY_SQL, &[&table, &epoch, &lsn]).await;
    let rows = rows.unwrap_or_else(|error| panic!("fold {table}: {error:?}"));
    let mut keyed: BTreeMap<String, String> = BTreeMap::new();
    let mut keyless: Vec<String> = Vec::new();
    for row in &rows {
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
            ("truncate", _) => {
                keyed.clear();
                keyless.clear();
            }
            (operation, key) => panic!("{table}: {operation} of {key:?}"),
        }
    }
    let all = keyed.values().chain(&keyless);
    let mut rows: Vec<String> = all.map(|row| canonical(row).unwrap()).collect();
    rows.sort();
    rows
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
