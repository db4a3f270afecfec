//! A client that reads history page by page over HTTP, from any of the processes, and never twice the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::sleep;
use waldelta_testkit::Dice;
use waldelta_wal::Position;

use super::{Client, Shared, Store};
use crate::access::Who;
use crate::http::get_as;
use crate::tables::RECORDED;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The members of a page, as text.
type Page = BTreeMap<String, Box<RawValue>>;

/// Reads until the task is ended.
pub(super) async fn run(client: Arc<Client>, shared: Arc<Shared>, mut dice: Dice, start: Position) {
    let tables: Vec<String> = RECORDED.iter().map(|table| format!("&table={table}")).collect();
    let token = shared.stage.tokens.of(Who::Everything);
    let (mut after, mut last) = (start.to_string(), String::new());
    loop {
        let fleet = &shared.stage.fleet;
        let server = fleet.any_serving(&mut dice);
        let limit = *dice.pick(&[1, 7, 100, 5000, 10_000]);
        let wait = if dice.once_in(3) { "&wait=1s" } else { "" };
        let path = format!("/v1/changes?after={after}&limit={limit}{wait}{}", tables.concat());
        let (code, body) =
            get_as(token, fleet.address(server), &path, REQUEST_TIMEOUT).await.unwrap_or_default();
        // What was cut off is asked again. Its rows stay text: parsed numbers would lose digits.
        let page: Option<Page> = serde_json::from_str(&body).ok();
        let Some(page) = page.filter(|_| code == 200) else {
            assert!(!(400..500).contains(&code) || code == 429, "GET {path}: {code} {body}");
            // What was cut off has rows that the client may see.
            if code != 200 {
                shared.stage.tokens.check_public("the answer to a page that is none", &body);
            }
            sleep(dice.ms(50, 500)).await;
            continue;
        };
        let text =
            |name: &str| page.get(name).unwrap_or_else(|| panic!("GET {path}: no {name}: {body}")).get();
        assert_eq!(text("resets"), "[]", "GET {path}: {body}");
        goes_on_from(text("transactions"), &after, &format!("GET {path}: {body}"), &last);
        last = format!("{path}: {}", text("cursor"));
        text("cursor").trim_matches('"').clone_into(&mut after);
        take(&client, text("transactions"), &after).await;
        shared.sessions.fetch_add(1, Ordering::Relaxed);
        if text("has_more") == "false" {
            sleep(dice.ms(20, 300)).await;
        }
    }
}

/// Nothing lies between the cursor that was asked with and the first transaction of the page.
fn goes_on_from(transactions: &str, after: &str, answer: &str, last: &str) {
    let transactions: Vec<Page> = serde_json::from_str(transactions).unwrap();
    let prev = transactions.first().and_then(|first| first.get("prev")).map_or("null", |prev| prev.get());
    // Cursors are ordered as their texts are.
    let is_gap = prev != "null" && prev.trim_matches('"') > after;
    let answer = answer.get(..answer.floor_char_boundary(3000)).unwrap_or(answer);
    assert!(!is_gap, "a gap in pages: {prev} is before the first of {answer}; the page before was {last}");
}

/// A page is what frames would have told, and then that there is nothing up to its cursor.
async fn take(client: &Client, transactions: &str, after: &str) {
    let mut store = client.store.lock().await;
    let Store::Notes(recorder) = &mut *store else { return };
    let transactions: Vec<&RawValue> = serde_json::from_str(transactions).unwrap();
    for transaction in transactions {
        let text = transaction.get();
        let frame = if text.starts_with(r#"{"type":"tx""#) {
            text.to_owned()
        } else {
            format!(r#"{{"type":"tx",{}"#, text.trim_start_matches('{'))
        };
        recorder.record(&frame).unwrap();
    }
    let end = if after.parse::<Position>().unwrap().is_whole() {
        json!({"type": "live", "cursor": after})
    } else {
        // Inside a transaction there is nothing that could be stored, but this is where the next page begins.
        json!({"type": "tx", "cursor": after, "prev": null, "own": false, "last": false, "changes": []})
    };
    recorder.record(&end.to_string()).unwrap();
    client.set_live(true);
}
