//! Clusters that begin as another's copy: a standby that follows its primary, and a backup that is restored.
//!
//! The copies are made of files, with the server's own functions for backups where it runs, because some packages of
//! PostgreSQL have no `pg_basebackup`.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_postgres::Client;
use waldelta_pglocal::Cluster;

use crate::cluster::{TestCluster, borrowed, options, owned, started, test_binaries};
use crate::database::connect;
use crate::wait::wait_until;

const PATIENCE: Duration = Duration::from_secs(60);
/// They belong to the running server, or to nobody but the one that wrote them.
const PID_FILES: [&str; 2] = ["postmaster.pid", "postmaster.opts"];
/// Folders whose content a backup leaves out ([Making a Base Backup Using the Low Level
/// API](https://www.postgresql.org/docs/15/continuous-archiving.html)); WAL is copied when the rest is done.
const LEFT_OUT: [&str; 8] = [
    "pg_wal",
    "pg_replslot",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
];

impl TestCluster {
    /// A standby that follows this running primary. Like every new standby it has none of the primary's slots. `settings`
    /// come over those that all tests have.
    pub async fn standby_of(primary: &TestCluster, settings: &[(&str, &str)]) -> Self {
        let admin = connect(&primary.url("postgres")).await;
        let (start, stop) = if test_binaries().version.major < 15 {
            ("pg_start_backup('standby', true, false)", "pg_stop_backup(false, false)")
        } else {
            ("pg_backup_start('standby', true)", "pg_backup_stop(false)")
        };
        // The backup lives as long as this connection.
        admin.query_one(&format!("SELECT {start}::text"), &[]).await.unwrap();
        let follow = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", primary.port());
        let mut settings = owned(settings);
        settings.push(("primary_conninfo".to_owned(), follow));
        let (from, runtime) = (primary.data_dir(), Handle::current());
        Self::begin(move || {
            let fill = |to: &Path| {
                copy(&from, to, &LEFT_OUT)?;
                let label = runtime.block_on(stop_backup(&admin, stop));
                std::fs::write(to.join("backup_label"), label)?;
                copy(&from.join("pg_wal"), &to.join("pg_wal"), &[])?;
                std::fs::write(to.join("standby.signal"), "")
            };
            started(Cluster::start_filled(options(Path::new("/tmp"), &borrowed(&settings)), fill))
        })
        .await
    }

    /// What this stopped cluster was, in a cluster of its own: a backup of its disk that is restored. It has the same
    /// system identifier, timeline, and slots.
    pub async fn copy_of(stopped: &TestCluster, settings: &[(&str, &str)]) -> Self {
        Self::begin_copy(stopped, settings, false).await
    }

    /// As [`TestCluster::copy_of`], but recovered to its end as an archive is, so that it goes on in a new timeline.
    pub async fn recovered_copy_of(stopped: &TestCluster, settings: &[(&str, &str)]) -> Self {
        let copy = Self::begin_copy(stopped, settings, true).await;
        copy.promote().await;
        copy
    }

    async fn begin_copy(stopped: &TestCluster, settings: &[(&str, &str)], as_standby: bool) -> Self {
        assert!(stopped.pid().is_none(), "a copy is made of a cluster that is down");
        let (from, settings) = (stopped.data_dir(), owned(settings));
        Self::begin(move || {
            let fill = |to: &Path| {
                copy(&from, to, &[])?;
                if as_standby { std::fs::write(to.join("standby.signal"), "") } else { Ok(()) }
            };
            started(Cluster::start_filled(options(Path::new("/tmp"), &borrowed(&settings)), fill))
        })
        .await
    }

    /// Makes a standby the primary of a new timeline; returns when it takes writes.
    pub async fn promote(&self) {
        let admin = connect(&self.url("postgres")).await;
        admin.query_one("SELECT pg_promote(true, 60)", &[]).await.unwrap();
        wait_until("the standby is a primary", PATIENCE, async || {
            !bool_of(&admin, "SELECT pg_is_in_recovery()").await
        })
        .await;
    }

    /// Waits until this standby has everything that its primary has committed up to now.
    pub async fn has_caught_up_with(&self, primary: &TestCluster) {
        let primary = connect(&primary.url("postgres")).await;
        let end = primary.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap();
        let end: String = end.get(0);
        let admin = connect(&self.url("postgres")).await;
        let sql = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{end}', false)");
        wait_until("the standby has caught up", PATIENCE, async || {
            // What is not flushed is not sent; a quiet primary flushes late.
            primary.batch_execute("SELECT pg_logical_emit_message(true, '', '')").await.unwrap();
            bool_of(&admin, &sql).await
        })
        .await;
    }

    /// Ends this standby's connection to its primary: what commits from now on, it does not get.
    pub async fn cut_off(&self) {
        let admin = connect(&self.url("postgres")).await;
        admin.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await.unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        wait_until("the standby follows nobody", PATIENCE, async || {
            !bool_of(&admin, "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver)").await
        })
        .await;
    }
}

async fn stop_backup(admin: &Client, stop: &str) -> String {
    let row = admin.query_one(&format!("SELECT labelfile FROM {stop}"), &[]).await;
    row.unwrap_or_else(|error| panic!("{stop}: {error:?}")).get(0)
}

async fn bool_of(client: &Client, sql: &str) -> bool {
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// Copies a folder with what is in it; the folders named are made empty. A file that goes away meanwhile was temporary.
fn copy(from: &Path, to: &Path, left_out: &[&str]) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        if PID_FILES.iter().any(|file| name == *file) {
            continue;
        }
        let kind = entry.file_type()?;
        if !kind.is_dir() && !kind.is_file() {
            // The server's socket is here too, where its path is short enough. Tablespaces are not copied.
            continue;
        }
        let copied = if kind.is_dir() {
            make_folder(&target)?;
            if left_out.iter().any(|folder| name == *folder) {
                continue;
            }
            copy(&entry.path(), &target, &[])
        } else {
            std::fs::copy(entry.path(), &target).map(drop)
        };
        match copied {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !entry.path().exists() => {}
            copied => copied?,
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}
