//! `waldelta table add` and `table remove`, beside a service that runs.

use waldelta_testkit::TestDatabase;

use crate::setting::{Setting, waldelta, waldelta_ok, with_databases};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY)";

fn table(command: &[&str], source: &TestDatabase, history: &TestDatabase) -> Vec<String> {
    with_databases(&[&["table"], command].concat(), source, history)
}

async fn published(source: &TestDatabase) -> String {
    let sql = "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables WHERE schemaname = 'public'";
    source.query_text(sql).await
}

#[tokio::test]
async fn a_table_is_added_and_taken_out_while_the_service_runs() {
    let setting = Setting::new("table", SCHEMA).await;
    let (source, history) = (&setting.source, &setting.history);
    source.exec("CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)").await;
    let add = table(&["add", "--table", "public.u"], source, history);
    let shown = waldelta_ok(&add);
    assert!(shown.contains("ALTER PUBLICATION waldelta ADD TABLE\n    public.u;"), "{shown}");
    assert!(shown.contains("nothing was done; repeat with --apply"), "{shown}");
    assert_eq!(published(source).await, "t");
    let done = waldelta_ok(&table(&["add", "--table", "public.u", "--apply"], source, history));
    assert!(done.contains("done; a running capture brings them as soon as"), "{done}");
    assert_eq!(published(source).await, "t u");
    assert!(waldelta_ok(&add).contains("already"));

    // A client that comes now gets it, and what is written from now on is in history.
    source.exec("INSERT INTO u VALUES (2)").await;
    let stored =
        "SELECT count(*) FROM waldelta.change_history WHERE table_name = 'public.u' AND operation = 'insert'
                  AND data ->> 'id' = '2'";
    setting.settled().await;
    assert_eq!(history.query_text(stored).await, "1");

    let gone = waldelta_ok(&table(&["remove", "--table", "public.u", "--apply"], source, history));
    assert!(gone.contains("ALTER PUBLICATION waldelta DROP TABLE public.u;"), "{gone}");
    assert!(gone.contains("done; history keeps what it has of them"), "{gone}");
    assert_eq!(published(source).await, "t");
    source.exec("INSERT INTO u VALUES (3); INSERT INTO t VALUES (3)").await;
    setting.settled().await;
    assert_eq!(history.query_text(stored).await, "1", "history keeps it");
    let later = "SELECT count(*) FROM waldelta.change_history WHERE data ->> 'id' = '3'";
    assert_eq!(history.query_text(later).await, "1", "of t only");
}

#[tokio::test]
async fn what_would_break_the_applications_writes_is_refused_with_its_cure() {
    let source = TestDatabase::create("table_refused").await;
    source
        .exec(&format!(
            "{SCHEMA}; CREATE TABLE bare (id int PRIMARY KEY); ALTER TABLE bare REPLICA IDENTITY NOTHING"
        ))
        .await;
    let history = TestDatabase::create("table_refused_h").await;
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    source.exec("CREATE TABLE keyless (v text)").await;
    let add = |table_name: &str, more: &[&str]| {
        table(&[&["add", "--apply", "--table", table_name], more].concat(), &source, &history)
    };
    let (code, answer, log) = waldelta(&add("public.bare", &[]));
    assert_eq!(code, Some(1), "{answer}{log}");
    assert!(
        log.contains("error: WD-REPLICA-IDENTITY-MISSING: ") && log.contains("public.bare is left out"),
        "{log}"
    );
    assert!(answer.contains("-- ALTER TABLE public.bare REPLICA IDENTITY DEFAULT;"), "{answer}");
    assert_eq!(published(&source).await, "t");
    source.exec("INSERT INTO bare VALUES (1); DELETE FROM bare").await;
    assert_eq!(waldelta(&add("public.keyless", &[])).0, Some(1));
    let done = waldelta_ok(&add("public.keyless", &["--allow-keyless"]));
    assert!(done.contains("UPDATE AND DELETE ON IT FAIL"), "{done}");
    assert_eq!(published(&source).await, "keyless t");
}

#[tokio::test]
async fn who_may_not_alter_the_publication_gets_the_sql_for_its_owner() {
    let source = TestDatabase::create("table_owner").await;
    let role = format!("{}_r", source.name());
    source.exec(&format!("{SCHEMA}; CREATE ROLE {role} LOGIN")).await;
    let history = TestDatabase::create("table_owner_h").await;
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    source.exec("CREATE TABLE u (id int PRIMARY KEY)").await;
    let as_role = |more: &[&str]| -> Vec<String> {
        let args = table(&[&["add", "--table", "public.u"], more].concat(), &source, &history);
        args.into_iter()
            .map(|arg| if arg == source.url() { arg.replace("postgres@", &format!("{role}@")) } else { arg })
            .collect()
    };
    let shown = waldelta_ok(&as_role(&[]));
    assert!(
        shown.contains("ADD TABLE\n    public.u;")
            && shown.contains("by a role that is postgres, or by a superuser"),
        "{shown}"
    );
    let (code, answer, log) = waldelta(&as_role(&["--apply"]));
    assert_eq!(code, Some(1), "{answer}{log}");
    assert!(answer.contains("ADD TABLE") && log.contains("error: WD-NOT-ALLOWED: "), "{answer}{log}");
    assert_eq!(published(&source).await, "t");
    source.exec(&shown.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n")).await;
    assert_eq!(published(&source).await, "t u");
    source.exec(&format!("DROP ROLE {role}")).await;
}
