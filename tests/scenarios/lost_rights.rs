//! A right is taken from the role while capture runs: the connection that is there goes on, the next one fails by name,
//! is tried again without haste, and works when the right is back.

use waldelta_testkit::{Service, TestCluster, TestDatabase, wait_until};

use crate::setting::{PATIENCE, Setting, run_options_as};
use crate::stops::{status, streaming};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value text)";
const TABLES: [&str; 1] = ["public.item"];
/// Attempts while the right is away: the pauses between them grow.
const ATTEMPTS_MAX: usize = 12;

#[tokio::test]
async fn are_named_and_waited_for() {
    let cluster = TestCluster::own(&[("log_connections", "on")]).await;
    let source = TestDatabase::create_on(&cluster, "rights").await;
    let history = TestDatabase::create("rights_h").await;
    let mut setting = Setting::over(source, history, SCHEMA).await;
    setting.service.stop().await;
    let name = setting.source.name().to_owned();
    let sql = format!(
        "REVOKE CONNECT ON DATABASE {name} FROM public; CREATE ROLE capturer SUPERUSER REPLICATION LOGIN;
         GRANT CONNECT ON DATABASE {name} TO capturer"
    );
    setting.source.exec(&sql).await;
    let options = run_options_as("capturer", &setting.source, &setting.history);
    setting.service = Service::start(options).await;
    let (mut here, mut replica) = setting.client("here").await;

    let mut id = 0;
    let superuser = "ALTER ROLE capturer SUPERUSER REPLICATION";
    let revoke = format!("ALTER ROLE capturer NOSUPERUSER; REVOKE CONNECT ON DATABASE {name} FROM capturer");
    let grant = format!("GRANT CONNECT ON DATABASE {name} TO capturer; {superuser}");
    for (taken, given, code, words) in [
        ("ALTER ROLE capturer NOSUPERUSER NOREPLICATION", superuser, "WD-REPLICATION-REFUSED", ""),
        ("ALTER ROLE capturer NOLOGIN", "ALTER ROLE capturer LOGIN", "WD-AUTHENTICATION-FAILED", ""),
        (&*revoke, &*grant, "WD-PRIVILEGE-MISSING", "permission denied for database"),
    ] {
        setting.source.exec(taken).await;
        // What streams goes on.
        id += 1;
        setting.source.exec(&format!("INSERT INTO item VALUES ({id}, 'streams')")).await;
        setting.equal(&mut here, &mut replica, &TABLES).await;
        let attempts = || cluster.log().matches("connection received").count();
        setting.source.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = 'waldelta'").await;
        let before = attempts();
        wait_until("it says that it may not", PATIENCE, async || {
            let capture = status(&setting).await["capture"].take();
            capture["code"] == code
                && capture["state"] == "reconnecting"
                && capture["message"].as_str().unwrap().contains(words)
        })
        .await;
        let capture = status(&setting).await["capture"].take();
        println!("{taken}: {capture}");
        assert!(!capture["fix"].as_str().unwrap().is_empty());
        id += 1;
        setting.source.exec(&format!("INSERT INTO item VALUES ({id}, 'waits')")).await;
        let refused = || setting.service.log().matches("capture was interrupted").count();
        let so_far = refused();
        wait_until("it is tried again", PATIENCE, async || refused() > so_far + 1).await;
        let made = attempts() - before;
        assert!(made <= ATTEMPTS_MAX * (refused() - so_far + 2), "{made} connections");
        setting.source.exec(given).await;
        streaming(&setting).await;
        setting.equal(&mut here, &mut replica, &TABLES).await;
    }
    assert_eq!(replica.resets(), [""; 0]);
    setting.history_equals_source(&TABLES).await;
}
