//! A connection pooler between us and the source: it is named, and nothing is left at the source.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use waldelta_capture::State;
use waldelta_source::Source;
use waldelta_testkit::{TestCluster, wait_until};
use waldelta_wal::Code;

use crate::world::{PATIENCE, World, target};

/// PgBouncer in front of a cluster; it ends with the test.
struct Pooler {
    child: Child,
    folder: PathBuf,
}

/// Names its socket.
const PORT: u16 = 6432;

impl Pooler {
    /// `None` where it is not installed. `pass_settings`: it passes over what clients want set at their start, as many are set up.
    fn start(cluster: &TestCluster, pass_settings: bool) -> Option<Self> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
            .into_iter()
            .find(|path| PathBuf::from(path).exists())?;
        let folder = PathBuf::from(format!("/tmp/waldelta-pooler-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        // Whoever it runs as makes its socket there. A port that is free now may be another's by the time that it listens.
        std::fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        let passed = if pass_settings {
            "ignore_startup_parameters = extra_float_digits, options, replication\n"
        } else {
            ""
        };
        let settings = format!(
            // With `any`, it logs in as who is written down here.
            "[databases]\n* = user=postgres host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\nauth_type = any\n\
             unix_socket_dir = {}\npool_mode = transaction\n{passed}",
            cluster.port(),
            folder.display()
        );
        let file = folder.join("pgbouncer.ini");
        std::fs::write(&file, settings).unwrap();
        let mut command = Command::new(program);
        if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            command.args(["-u", "nobody"]);
        }
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let child =
            command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Some(Pooler { child, folder })
    }

    fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{PORT}"))
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_between_is_named_and_nothing_is_captured_through_it() {
    let cluster = TestCluster::own(&[]).await;
    let world = World::bare_on(&cluster, "pooler", "CREATE TABLE t (id int PRIMARY KEY)").await;
    world.publish().await;
    world.begin().await;
    for pass_settings in [false, true] {
        let Some(pooler) = Pooler::start(&cluster, pass_settings) else {
            println!("pgbouncer is not installed: nothing to test");
            return;
        };
        wait_until("the pooler listens", PATIENCE, async || {
            tokio::net::UnixStream::connect(pooler.socket()).await.is_ok()
        })
        .await;
        let (name, folder) = (world.source_db.name(), pooler.folder.display());
        let url = format!("postgresql://postgres@/{name}?host={folder}&port={PORT}");
        let mut config = world.config();
        config.source = Source { target: target(&url), ..world.source.clone() };
        let capture = world.run_with(config);
        capture
            .wait_state("the pooler is named", |state| {
                matches!(state, State::Reconnecting { code: Code::PoolerAddress, .. })
            })
            .await;
        let walsenders = "SELECT count(*) FROM pg_stat_replication";
        assert_eq!(world.source_db.query_text(walsenders).await, "0", "{pass_settings}");
        capture.stop().await;
    }
}
