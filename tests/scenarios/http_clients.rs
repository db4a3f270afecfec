//! Clients of plain HTTP get what sessions get: the stream once and in order over restarts, and one row at every moment.

use serde_json::{Value, json};
use waldelta_testkit::{Event, HttpStream};

use crate::setting::{PATIENCE, Setting};

const EVENTS: &str = "Accept: text/event-stream\r\n";

/// A client of an event stream, which keeps the last id as a browser does.
struct Follower {
    address: String,
    stream: HttpStream,
    last_id: Option<String>,
    /// Ids of the rows that were inserted, as they came.
    rows: Vec<u64>,
}

impl Follower {
    async fn connect(setting: &Setting) -> Self {
        let address = format!("127.0.0.1:{}", setting.service.port());
        let stream = open(&address, None).await;
        Follower { address, stream, last_id: None, rows: Vec::new() }
    }

    /// Comes back after a break.
    async fn come_back(&mut self) {
        self.stream = open(&self.address, self.last_id.as_deref()).await;
    }

    /// Takes events until `is_last`, or until the stream ends.
    async fn take(&mut self, mut is_last: impl FnMut(&Self, &Event) -> bool) -> bool {
        while let Some(event) = self.stream.event(PATIENCE).await {
            assert!(!matches!(event.kind.as_str(), "reset" | "error"), "{event:?}");
            for change in event.data["changes"].as_array().into_iter().flatten() {
                self.rows.push(change["data"]["id"].as_u64().unwrap());
            }
            if let Some(id) = &event.id {
                assert!(self.last_id.as_ref() <= Some(id), "{event:?} after {:?}", self.last_id);
                self.last_id = Some(id.clone());
            }
            if is_last(self, &event) {
                return true;
            }
        }
        false
    }
}

async fn open(address: &str, last_id: Option<&str>) -> HttpStream {
    let last_id = last_id.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
    let stream = HttpStream::get(address, "/v1/changes?table=public.t", &format!("{EVENTS}{last_id}")).await;
    assert_eq!(stream.status(), 200);
    stream
}

/// A transaction of three rows.
async fn insert(setting: &Setting, first: u64) {
    let sql =
        format!("INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series({first}, {first} + 2) i");
    setting.source.exec(&sql).await;
}

#[tokio::test]
async fn an_event_stream_goes_on_over_restarts_with_everything_once_and_in_order() {
    let mut setting = Setting::new("events", "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let mut follower = Follower::connect(&setting).await;
    let mut next = 0;
    for round in 0..4 {
        for _ in 0..20 {
            insert(&setting, next).await;
            next += 3;
        }
        // In the middle of what comes; in the last round at its end.
        let wanted = if round == 3 { next } else { next - 30 };
        let got = follower.take(|it, _| it.rows.len() as u64 >= wanted).await;
        assert!(got, "the stream ended after {} of {wanted} rows", follower.rows.len());
        match round {
            0 => assert!(setting.service.stop().await.success()),
            1 => setting.service.kill9().await,
            _ => continue,
        }
        // What is on its way yet comes, and then it ends.
        assert!(!follower.take(|_, _| false).await);
        if round == 0 {
            let comments = follower.stream.comments();
            assert!(comments.last().is_some_and(|text| text.contains("WD-STOPPING")), "{comments:?}");
        }
        insert(&setting, next).await;
        next += 3;
        setting.service.start_again().await;
        follower.come_back().await;
    }
    assert_eq!(follower.rows, (0..next).collect::<Vec<_>>());
    // And it is live.
    insert(&setting, next).await;
    assert!(follower.take(|it, _| it.rows.len() as u64 == next + 3).await);
}

/// A moment after a commit: where the WAL and the clock were, and what the rows were then, by key.
struct Moment {
    lsn: String,
    time: String,
    rows: [Value; 2],
}

/// The keys that the rows have at times.
const KEYS: [u64; 2] = [7, 8];

async fn moment(setting: &Setting, table: &str) -> Moment {
    let rows = KEYS.map(|key| format!("(SELECT to_jsonb(t)::text FROM {table} t WHERE id = {key})"));
    let time = "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let sql = format!("SELECT pg_current_wal_insert_lsn(), {time}, {}", rows.join(","));
    let row = setting.source.query(&sql).await.remove(0);
    let json = |at: usize| row[at].as_ref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
    Moment { lsn: row[0].clone().unwrap(), time: row[1].clone().unwrap(), rows: [json(2), json(3)] }
}

/// Changes of all kinds to rows 7 and 8, a transaction each, and the moment after each.
async fn live_through(setting: &Setting, mut seed: u64) -> Vec<Moment> {
    let mut dice = |sides: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % sides
    };
    // Longer than what is compressed in line: an update that leaves it alone does not send it.
    let big = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 200))";
    let (mut table, mut moments) = ("t", vec![moment(setting, "t").await]);
    for step in 0..60 {
        let key = KEYS[usize::try_from(dice(2)).unwrap()];
        let other = KEYS[0] + KEYS[1] - key;
        let sql = match dice(10) {
            0 | 1 => format!(
                "INSERT INTO {table} VALUES ({key}, 1.50, {big}, '{{\"a\": [{step}]}}') ON CONFLICT DO NOTHING"
            ),
            2 => format!("DELETE FROM {table} WHERE id = {key}"),
            3 => format!(
                "UPDATE {table} SET id = {other} WHERE id = {key} AND NOT EXISTS (SELECT FROM {table} WHERE id = {other})"
            ),
            4 if step % 5 == 0 => format!("TRUNCATE {table}"),
            5 => format!("UPDATE {table} SET big = {big} WHERE id = {key}"),
            6 => format!(
                "BEGIN; UPDATE {table} SET n = n + 1 WHERE id = {key}; UPDATE {table} SET n = n * 1.10; COMMIT"
            ),
            _ => format!("UPDATE {table} SET n = n + 9007199254740993, j = NULL WHERE id = {key}"),
        };
        setting.source.exec(&sql).await;
        if step == 30 {
            setting.source.exec("ALTER TABLE t RENAME TO renamed").await;
            table = "renamed";
        }
        moments.push(moment(setting, table).await);
    }
    moments
}

async fn get(setting: &Setting, path: &str) -> (u16, Value) {
    let (status, body) = setting.service.get(&path.replace('+', "%2B")).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

/// Applies a patch of which each operation is about a column, or about the whole document (RFC 6902).
fn patched(document: &Value, patch: &Value) -> Value {
    let mut document = document.clone();
    for operation in patch.as_array().unwrap() {
        match operation["path"].as_str().unwrap().strip_prefix('/') {
            None => document = operation["value"].clone(),
            Some(column) => document[column] = operation["value"].clone(),
        }
    }
    document
}

#[tokio::test]
async fn a_row_over_time_is_what_it_was_at_each_moment() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY, n numeric, big text, j jsonb);
                  ALTER TABLE t ALTER COLUMN big SET STORAGE EXTERNAL";
    let setting = Setting::new("row_history", schema).await;
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let moments = live_through(&setting, seed).await;
    setting.settled().await;
    for (index, key) in KEYS.iter().enumerate() {
        let mut found = 0;
        // As of each moment, by its place and by its time.
        for moment in &moments {
            let expected = &moment.rows[index];
            for at in [&moment.lsn, &moment.time] {
                let (status, body) = get(&setting, &format!("/v1/rows/public.renamed/{key}?at={at}")).await;
                match status {
                    200 => {
                        found += 1;
                        assert_eq!(body["data"], *expected, "{at}");
                    }
                    404 => assert_eq!(Value::Null, *expected, "{at}: {body}"),
                    // Before its first change nothing is known of a table.
                    _ => assert!(body["code"] == "WD-ROW-UNKNOWN" && expected.is_null(), "{at}: {body}"),
                }
            }
        }
        assert!(found > 10, "the row was there");
        // The versions are all that it ever was, in order; and patches lead from each to the next and back.
        let (mut versions, mut from) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/rows/renamed/%5B{key}%5D/history?patch=rfc6902&limit=7{from}");
            let (status, page) = get(&setting, &path).await;
            assert_eq!(status, 200, "{page}");
            versions.extend(page["versions"].as_array().unwrap().clone());
            from = format!("&from={}", page["cursor"].as_str().unwrap());
            if page["has_more"] == false {
                break;
            }
        }
        let mut document = Value::Null;
        for version in &versions {
            assert_eq!(version["unchanged"], Value::Null, "{version}");
            let next = patched(&document, &version["patch"]);
            assert_eq!(next, version["data"]);
            assert_eq!(patched(&next, &version["reverse"]), document);
            document = next;
        }
        let mut rest = versions.iter().map(|version| &version["data"]);
        let mut last = &Value::Null;
        for moment in &moments {
            let row = &moment.rows[index];
            if row != last {
                assert!(rest.any(|data| data == row), "{row} is a version");
                last = row;
            }
        }
        assert_eq!(document, moments.last().unwrap().rows[index]);
        let first = versions.iter().find(|version| !version["table"].is_null()).unwrap();
        assert_eq!(first["table"], "public.t", "as it was called then");
    }
}

#[tokio::test]
async fn since_a_moment_is_what_committed_from_then_on() {
    let setting = Setting::new("since", "CREATE TABLE t (id int PRIMARY KEY, n int, big int, j int)").await;
    let mut times = Vec::new();
    for id in 0..10 {
        times.push(moment(&setting, "t").await.time);
        setting.source.exec(&format!("INSERT INTO t VALUES ({id})")).await;
    }
    setting.settled().await;
    for (id, time) in times.iter().enumerate() {
        let (status, page) = get(&setting, &format!("/v1/changes?table=t&since={time}")).await;
        assert_eq!(status, 200, "{page}");
        let first = &page["transactions"][0]["changes"][0]["key"]["id"];
        assert_eq!((first, page["transactions"].as_array().unwrap().len()), (&json!(id), 10 - id), "{time}");
    }
}
