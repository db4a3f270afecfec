//! What `docs/how-to/replication-role.md` tells an administrator to do, done: a role that is known by its certificate, gets into
//! two databases and nowhere else, and with which the service runs all the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use waldelta_testkit::{Service, ServiceOptions, TestCluster, TestDatabase, test_program, tls, wait_until};

use crate::setting::{PATIENCE, Setting, waldelta, waldelta_ok};

/// As long as the cluster.
const ROLE: &str = "waldelta";
const REQUEST: &str = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (0, 'before')";

/// The role's certificate, signed by an authority of this test. Gone when dropped.
struct Credentials(PathBuf);

impl Credentials {
    fn make() -> Self {
        let folder = PathBuf::from(format!("/tmp/waldelta-confined-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let made = Credentials(folder);
        made.openssl(&format!("{REQUEST} -subj /CN=clients -keyout ca.key -out ca.crt"));
        made.make_role();
        made
    }

    /// Another certificate of the role, in the place of the one before.
    fn make_role(&self) {
        self.openssl(&format!(
            "{REQUEST} -subj /CN={ROLE} -CA ca.crt -CAkey ca.key -addext basicConstraints=critical,CA:FALSE \
             -addext extendedKeyUsage=clientAuth -keyout new.key -out new.crt"
        ));
        // Neither is ever half there.
        for kind in ["crt", "key"] {
            std::fs::rename(self.path(&format!("new.{kind}")), self.path(&format!("role.{kind}"))).unwrap();
        }
    }

    fn openssl(&self, arguments: &str) {
        let mut openssl = Command::new("openssl");
        let done = openssl.args(arguments.split_whitespace()).current_dir(&self.0).output().unwrap();
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// How the role reaches a database.
    fn url(&self, port: u16, database: &str) -> String {
        format!(
            "postgresql://{ROLE}@localhost:{port}/{database}?sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
            tls::authority_file().display(),
            self.path("role.crt"),
            self.path("role.key")
        )
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Written by the server itself, so that the file is its own.
async fn give_to_server(database: &TestDatabase, name: &str, text: &str) {
    let lines: Vec<String> = text.lines().map(|line| format!("('{line}')")).collect();
    database.exec(&format!("COPY (VALUES {}) TO PROGRAM 'umask 077; cat > {name}'", lines.join(", "))).await;
}

/// Lets the server speak TLS, and the role into these databases by its certificate alone. False where it was built without TLS.
async fn confine(
    cluster: &TestCluster,
    source: &TestDatabase,
    history: &TestDatabase,
    authority: &Path,
) -> bool {
    if source.query_text("SHOW ssl_library").await.is_empty() {
        return false;
    }
    give_to_server(source, "server.crt", tls::FIRST.certificate).await;
    give_to_server(source, "server.key", tls::FIRST.key).await;
    give_to_server(source, "clients.crt", &std::fs::read_to_string(authority).unwrap()).await;
    source.exec("ALTER SYSTEM SET ssl_ca_file = 'clients.crt'").await;
    source.exec("ALTER SYSTEM SET ssl = on").await;
    let file = cluster.data_dir().join("pg_hba.conf");
    let rules = std::fs::read_to_string(&file).unwrap();
    let ours = format!(
        "hostssl {},{} {ROLE} 127.0.0.1/32 cert\nhost all,replication {ROLE} all reject\nlocal all,replication {ROLE} reject\n",
        source.name(),
        history.name()
    );
    std::fs::write(&file, format!("{ours}{rules}")).unwrap();
    source.exec("SELECT pg_reload_conf()").await;
    // Who is let in after that is let in by the lines as they are now.
    wait_until("the server speaks TLS", PATIENCE, async || {
        source.client().await.query_one("SHOW ssl", &[]).await.unwrap().get::<_, String>(0) == "on"
    })
    .await;
    true
}

/// What a client program says to this connection string; `None` when it gets in.
fn refusal(conninfo: &str) -> Option<String> {
    let program = test_program("psql");
    let said =
        Command::new(program).args(["-X", "-w", "-d", conninfo, "-c", "IDENTIFY_SYSTEM"]).output().unwrap();
    (!said.status.success()).then(|| String::from_utf8_lossy(&said.stderr).into_owned())
}

#[tokio::test]
async fn a_role_that_gets_into_two_databases_by_its_certificate_runs_everything() {
    let cluster = TestCluster::own(&[("wal_level", "logical")]).await;
    let source = TestDatabase::create_on(&cluster, "confined").await;
    let history = TestDatabase::create_on(&cluster, "confined_h").await;
    source.exec(SCHEMA).await;
    source.exec(&format!("CREATE ROLE {ROLE} LOGIN REPLICATION")).await;
    let credentials = Credentials::make();
    if !confine(&cluster, &source, &history, Path::new(&credentials.path("ca.crt"))).await {
        println!("this server has no TLS: nothing to test");
        return;
    }
    let slot = source.slot("slot");
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    // The owner makes the publication and whatever else is made in the captured database.
    let script = ["init", "--mode", "manual", "--role", ROLE, "--apply", "--database-url", source.url()];
    waldelta_ok(&words(&[&script[..], &["--history-url", history.url(), "--slot", &slot]].concat()));
    history.exec(&format!("CREATE SCHEMA waldelta AUTHORIZATION {ROLE}")).await;

    let url = |database: &str| credentials.url(cluster.port(), database);
    let (source_url, history_url) = (url(source.name()), url(history.name()));
    let command = |command: &[&str]| {
        let databases = ["--database-url", &source_url, "--history-url", &history_url, "--slot", &slot];
        words(&[command, &databases].concat())
    };
    let begun = waldelta_ok(&command(&["init", "--apply", "--baseline"]));
    assert!(begun.contains("ready: waldelta run"), "{begun}");

    // It gets in nowhere else, and can take no copy of the cluster.
    let conninfo = |more: &str| {
        let file = |name| credentials.path(name);
        format!(
            "host=localhost port={} user={ROLE} sslmode=require sslcert={} sslkey={} {more}",
            cluster.port(),
            file("role.crt"),
            file("role.key")
        )
    };
    let here = format!("dbname={}", source.name());
    assert_eq!(refusal(&conninfo(&format!("{here} replication=database"))), None);
    for elsewhere in [
        "dbname=postgres".to_owned(),
        "dbname=postgres replication=database".to_owned(),
        "dbname=postgres replication=true".to_owned(),
        format!("{here} replication=true"),
        format!("{here} sslmode=disable"),
        format!("{here} host={}", cluster.socket_dir().display()),
    ] {
        let said = refusal(&conninfo(&elsewhere)).unwrap_or_else(|| panic!("{elsewhere} is let in"));
        assert!(said.contains("pg_hba.conf rejects"), "{elsewhere}: {said}");
    }

    let service = Service::start(ServiceOptions::new(command(&["run"]))).await;
    let mut setting = Setting { service, source, history };
    let (mut socket, mut replica) = setting.client("reader").await;
    setting.source.exec("INSERT INTO t VALUES (1, 'live'); UPDATE t SET v = 'changed' WHERE id = 0").await;
    setting.equal(&mut socket, &mut replica, &["public.t"]).await;
    setting.history_equals_source(&["public.t"]).await;
    // The walsender, and the connections for reading and writing history: each has shown the certificate.
    for database in [setting.source.name(), setting.history.name()] {
        let shown = format!(
            "SELECT count(*) FILTER (WHERE client_dn = '/CN={ROLE}') > 0 AND bool_and(client_dn = '/CN={ROLE}')
             FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE usename = '{ROLE}' AND datname = '{database}'"
        );
        assert_eq!(setting.source.query_text(&shown).await, "t", "{database}");
    }
    let walsender = format!(
        "SELECT client_dn || ' ' || client_serial FROM pg_stat_replication JOIN pg_stat_ssl USING (pid) WHERE usename = '{ROLE}'"
    );
    let first = setting.source.query_text(&walsender).await;
    assert!(first.starts_with(&format!("/CN={ROLE} ")), "{first}");

    // A renewed certificate is shown by those connections that are made from then on.
    credentials.make_role();
    let drop_all =
        format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{ROLE}'");
    setting.source.query_text(&drop_all).await;
    setting.source.exec("INSERT INTO t VALUES (2, 'after')").await;
    wait_until("it comes with the renewed one", PATIENCE, async || {
        let serials = setting.source.query(&walsender).await;
        serials.iter().any(|row| row[0].as_ref().is_some_and(|shown| *shown != first))
    })
    .await;
    setting.history_equals_source(&["public.t"]).await;

    // What is captured is not the role's to say.
    setting.source.exec("CREATE TABLE other (id int PRIMARY KEY)").await;
    let (code, answer, log) = waldelta(&command(&["table", "add", "--table", "public.other", "--apply"]));
    assert_eq!(code, Some(1), "{answer}{log}");
    assert!(log.contains("WD-NOT-ALLOWED") && answer.contains("ALTER PUBLICATION"), "{answer}{log}");
    assert!(setting.service.stop().await.success());
}
