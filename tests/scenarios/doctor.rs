//! `waldelta doctor` by its exit code, and what it says of history.

use serde_json::Value;
use waldelta_testkit::TestDatabase;

use crate::setting::{Setting, waldelta, waldelta_ok, with_databases};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY)";

/// Exit code, and the checks by name.
fn doctor(more: &[&str], source: &TestDatabase, history: &TestDatabase) -> (Option<i32>, Vec<Value>) {
    let (code, answer, log) =
        waldelta(&with_databases(&[&["doctor", "--json"], more].concat(), source, history));
    (code, serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}{log}")))
}

fn check<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {checks:?}"))
}

fn state(checks: &[Value], name: &str) -> String {
    check(checks, name)["state"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn strict_counts_warnings_and_open_questions_as_failures() {
    let source = TestDatabase::create("doctor_strict").await;
    source.exec(SCHEMA).await;
    let history = TestDatabase::create("doctor_strict_h").await;
    let (code, checks) = doctor(&[], &source, &history);
    assert_eq!((code, state(&checks, "slot").as_str()), (Some(1), "failed"));
    for check in checks.iter().filter(|check| check["state"] != "ok") {
        assert!(check["code"].as_str().unwrap().starts_with("WD-") && check["why"].is_string(), "{check}");
    }
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    let (code, checks) = doctor(&[], &source, &history);
    assert_eq!(code, Some(0), "{checks:?}");
    // Other tests share the server: whether it has standbys is theirs.
    let others = |checks: &[Value]| {
        let unwell = checks.iter().filter(|check| check["state"] != "ok" && check["name"] != "failover");
        unwell.map(|check| check["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(others(&checks), [] as [&str; 0]);
    source.exec("ALTER EVENT TRIGGER waldelta_ddl_dropped DISABLE").await;
    let (code, checks) = doctor(&[], &source, &history);
    assert_eq!((code, others(&checks)), (Some(0), vec!["ddl".to_owned()]), "a warning is no failure");
    let (code, _) = doctor(&["--strict"], &source, &history);
    assert_eq!(code, Some(1), "unless it is to be one");
    let (_, answer, _) = waldelta(&with_databases(&["doctor", "--strict"], &source, &history));
    assert!(
        answer.contains("no check failed; 1 warn and 0 could not be answered, which --strict counts too"),
        "{answer}"
    );
    assert!(answer.contains("why: The event triggers that tell of it"), "{answer}");
}

#[tokio::test]
async fn history_is_looked_at_and_nothing_in_it_is_changed() {
    let source = TestDatabase::create("doctor_history").await;
    source.exec(SCHEMA).await;
    let history = TestDatabase::create("doctor_history_h").await;
    let (_, checks) = doctor(&[], &source, &history);
    assert!(
        check(&checks, "history")["found"]
            .as_str()
            .unwrap()
            .starts_with("there is no history yet in postgresql://")
    );
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'waldelta'";
    assert_eq!(history.query_text(schemas).await, "0", "a look makes nothing");
    let setting = Setting::over(source, history, "CREATE TABLE u (id int PRIMARY KEY)").await;
    let Setting { service: _service, source, history } = &setting;
    source.exec("INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)").await;
    setting.settled().await;
    let (code, checks) = doctor(&[], source, history);
    let said = check(&checks, "history")["found"].as_str().unwrap();
    for part in ["is durable up to ", "of epoch ", "writes it; 1 partitions of ", "schema version "] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(code, Some(0), "{checks:?}");
    assert_eq!(check(&checks, "gaps")["found"], "no table needs repair");

    // What history knows and capture does not get any more, and what it knows to lack.
    source.exec("ALTER PUBLICATION waldelta DROP TABLE u").await;
    let oid = source.query_text("SELECT 't'::regclass::oid").await;
    history
        .exec(&format!(
            "INSERT INTO waldelta.gaps (epoch, table_oid, from_lsn, reason)
             SELECT epoch, {oid}, durable_end, 'rewritten' FROM waldelta.captures"
        ))
        .await;
    let (code, checks) = doctor(&[], source, history);
    assert_eq!(code, Some(0), "{checks:?}");
    let (known, gaps) = (check(&checks, "known_tables"), check(&checks, "gaps"));
    assert_eq!((&known["state"], &known["code"]), (&"warning".into(), &"WD-TABLE-NOT-CAPTURED".into()));
    assert!(known["found"].as_str().unwrap().ends_with("public.u"), "{known}");
    assert_eq!((&gaps["state"], &gaps["code"]), (&"warning".into(), &"WD-NEEDS-REPAIR".into()));
    assert!(gaps["found"].as_str().unwrap().starts_with("public.t (rewritten since "), "{gaps}");
    source.exec(known["fix"].as_str().unwrap()).await;
    let (_, checks) = doctor(&[], source, history);
    assert_eq!(state(&checks, "known_tables"), "ok");

    // The history of another slot, and none.
    let (code, checks) = doctor(&["--publication", "other"], source, history);
    assert_eq!((code, &check(&checks, "history")["code"]), (Some(1), &"WD-OTHER-FEED".into()));
    let nowhere =
        ["doctor", "--json", "--database-url", source.url(), "--history-url", "postgresql://u@127.0.0.1:1/h"];
    let (code, answer, _) = waldelta(&nowhere.map(str::to_owned));
    let checks: Vec<Value> = serde_json::from_str(&answer).unwrap();
    assert_eq!((code, &check(&checks, "history")["code"]), (Some(1), &"WD-HISTORY-UNREACHABLE".into()));
    let here = ["doctor", "--json", "--database-url", source.url()];
    let (_, answer, _) = waldelta(&here.map(str::to_owned));
    let checks: Vec<Value> = serde_json::from_str(&answer).unwrap();
    assert!(check(&checks, "history")["found"].as_str().unwrap().contains("in the captured database"));
}
