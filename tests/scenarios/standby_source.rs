//! A hot standby is captured, so that decoding costs its primary nothing: the slot is on the standby, what writes and what
//! clients begin with goes to the primary. Neither a promotion nor another primary is felt; a slot that is lost is told.

use waldelta_testkit::{
    Replica, Route, Service, ServiceOptions, Shutdown, TestCluster, TestDatabase, WsClient, connect,
    test_binaries, wait_until,
};

use crate::load::{Load, SCHEMA as LOAD_SCHEMA, TABLES as LOAD_TABLES};
use crate::setting::{
    ConfigFile, PATIENCE, Setting, all_tables, config_file, run_options, waldelta, waldelta_ok,
    with_databases,
};
use crate::stops::{epochs, inserted, is_reset, status, stopped, streaming};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value text)";
const TABLES: [&str; 1] = ["public.item"];
/// From here on standbys have logical slots.
const MAJOR_WITH_STANDBY_SLOTS: u32 = 16;
/// The primary keeps for the standby what the standby needs.
const FEEDBACK: [(&str, &str); 3] =
    [("hot_standby_feedback", "on"), ("primary_slot_name", "standby"), ("max_slot_wal_keep_size", "1GB")];
const WAL_LIMIT_BYTES: u64 = 1 << 30;
/// It does not.
const NO_FEEDBACK: [(&str, &str); 1] = [("hot_standby_feedback", "off")];

const BEAT: &str = "SELECT beat FROM waldelta.canary";

/// A standby that is captured. `setting.source` is the database on the primary.
struct Standing {
    setting: Setting,
    primary: TestCluster,
    standby: TestCluster,
    /// What the configuration names as the primary.
    route: Route,
    config: ConfigFile,
}

/// A word instead of a test where standbys have no slots.
#[expect(clippy::print_stdout, reason = "said where the test would have been")]
fn is_too_old() -> bool {
    let is_too_old = test_binaries().version.major < MAJOR_WITH_STANDBY_SLOTS;
    if is_too_old {
        println!("skipped: standbys have logical slots from {MAJOR_WITH_STANDBY_SLOTS} on");
    }
    is_too_old
}

/// A primary with a standby that follows it.
async fn pair(settings: &[(&str, &str)]) -> (TestCluster, TestCluster) {
    let primary = TestCluster::own(&[("wal_level", "logical")]).await;
    let admin = connect(&primary.url("postgres")).await;
    admin.batch_execute("SELECT pg_create_physical_replication_slot('standby', true)").await.unwrap();
    let standby = TestCluster::standby_of(&primary, settings).await;
    (primary, standby)
}

/// A command on the standby, with its primary in the configuration.
fn command(
    words: &[&str],
    standby: &TestDatabase,
    history: &TestDatabase,
    config: &ConfigFile,
) -> Vec<String> {
    let mut args = with_databases(words, standby, history);
    args.extend(["--config", config.path()].map(str::to_owned));
    args
}

impl Standing {
    async fn new(hint: &str, schema: &str, settings: &[(&str, &str)]) -> Self {
        let (primary, standby) = pair(settings).await;
        let route = Route::to(primary.port());
        let source = TestDatabase::create_on(&primary, hint).await;
        let history = TestDatabase::create(&format!("{hint}_h")).await;
        source.exec(schema).await;
        standby.has_caught_up_with(&primary).await;
        let (there, named) = (source.on(&standby), source.on(&primary).through(&route));
        let config = configured(named.url());
        waldelta_ok(&command(&["init", "--apply"], &there, &history, &config));
        let service = Service::start(config.add_to(run_options(&there, &history))).await;
        let setting = Setting { service, source, history };
        Standing { setting, primary, standby, route, config }
    }

    /// The database as the standby has it.
    fn there(&self) -> TestDatabase {
        self.setting.source.on(&self.standby)
    }

    fn options(&self) -> ServiceOptions {
        run_options(&self.there(), &self.setting.history)
    }

    fn command(&self, words: &[&str]) -> Vec<String> {
        command(words, &self.there(), &self.setting.history, &self.config)
    }

    async fn insert(&self, id: u32) {
        self.setting.source.exec(&format!("INSERT INTO item VALUES ({id}, 'row {id}')")).await;
    }

    /// The timeline was left under the stream: who was there is not reset, who comes gets the same, and all equals the source.
    async fn goes_on_in_the_next_epoch(&self, here: &mut WsClient, replica: &mut Replica) {
        let setting = &self.setting;
        setting.equal(here, replica, &LOAD_TABLES).await;
        let (mut new, mut fresh) = setting.client("new").await;
        setting.equal(&mut new, &mut fresh, &LOAD_TABLES).await;
        assert!(replica.resets().is_empty(), "{:?}", replica.resets());
        setting.history_equals_source(&LOAD_TABLES).await;
        assert!(setting.service.log().contains("has left timeline 1 for 2 under the stream"));
        assert_eq!(epochs(setting).await, 2, "{}", setting.service.log());
        self.canary_arrives().await;
    }

    /// It is updated again only when it has arrived.
    async fn canary_arrives(&self) {
        let beat: u32 = self.setting.source.query_text(BEAT).await.parse().unwrap();
        wait_until("the canary beats twice more", PATIENCE, async || {
            self.setting.source.query_text(BEAT).await.parse::<u32>().unwrap() > beat + 2
        })
        .await;
        streaming(&self.setting).await;
    }
}

/// What the services here have in their configuration.
fn configured(primary_url: &str) -> ConfigFile {
    config_file(&format!("[source]\nprimary_url = \"{primary_url}\"\n[capture]\ncanary_interval_ms = 200\n"))
}

#[tokio::test]
async fn snapshots_come_from_the_primary_and_changes_from_the_standby() {
    if is_too_old() {
        return;
    }
    let mut standing = Standing::new("standby_source", SCHEMA, &FEEDBACK).await;
    standing.insert(1).await;
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'logical'";
    assert_eq!(standing.setting.source.query_text(slots).await, "0", "the primary has none");
    assert_eq!(standing.there().query_text(slots).await, "1");
    let (mut here, mut replica) = standing.setting.client("here").await;
    standing.insert(2).await;
    standing.setting.equal(&mut here, &mut replica, &TABLES).await;
    standing.canary_arrives().await;
    // What the event trigger tells, and a table that joins.
    standing.setting.source.exec("ALTER TABLE item ADD more int DEFAULT 7").await;
    standing
        .setting
        .source
        .exec("CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)")
        .await;
    waldelta_ok(&standing.command(&["table", "add", "--table", "public.other", "--apply"]));
    standing.setting.source.exec("INSERT INTO item VALUES (3, 'x', 8); INSERT INTO other VALUES (2)").await;
    standing.setting.service.stop().await;
    standing.insert(4).await;
    standing.setting.service.start_again().await;
    let mut here = standing.setting.resume("here", &mut replica).await;
    let joined = |replica: &Replica| replica.rows("public.other").len() == 2;
    here.follow(&mut replica, "the other table is there", PATIENCE, joined).await;
    // The default of the rows that were there.
    waldelta_ok(&standing.command(&["recover", "--yes"]));
    standing.setting.equal(&mut here, &mut replica, &["public.item", "public.other"]).await;
    let capture = status(&standing.setting).await["capture"].take();
    assert!(capture["lag_seconds"].as_f64().is_some_and(|seconds| seconds < 60.0), "{capture}");
    let (_, answer, log) = waldelta(&standing.command(&["doctor"]));
    assert!(answer.contains("the server is a standby, and its primary answers"), "{answer}{log}");
    // Its limit, without what it retains.
    let slot = status(&standing.setting).await["slot"].take();
    let (safe, retained) = (slot["safe_wal_bytes"].as_u64(), slot["retained_bytes"].as_u64());
    let limit = safe.zip(retained).map(|(safe, retained)| safe + retained);
    assert!(limit.is_some_and(|bytes| bytes.abs_diff(WAL_LIMIT_BYTES) < 1 << 20), "{slot}");

    // Everything is taken away again, on both.
    standing.setting.service.stop().await;
    waldelta_ok(&standing.command(&["remove", "--yes"]));
    assert_eq!(standing.there().query_text(slots).await, "0");
    let publications = "SELECT count(*) FROM pg_publication";
    assert_eq!(standing.setting.source.query_text(publications).await, "0");
}

#[tokio::test]
async fn the_rows_that_existed_before_are_read_on_the_standby() {
    if is_too_old() {
        return;
    }
    let (primary, standby) = pair(&FEEDBACK).await;
    let source = TestDatabase::create_on(&primary, "standby_baseline").await;
    let history = TestDatabase::create("standby_baseline_h").await;
    source.exec(SCHEMA).await;
    source.exec("INSERT INTO item SELECT n, 'row ' || n FROM generate_series(1, 500) n").await;
    standby.has_caught_up_with(&primary).await;
    let config = configured(source.url());
    waldelta_ok(&command(&["init", "--baseline"], &source.on(&standby), &history, &config));
    let options = config.add_to(run_options(&source.on(&standby), &history));
    let setting = Setting { service: Service::start(options).await, source, history };
    setting
        .source
        .exec("UPDATE item SET value = 'x' WHERE id % 2 = 0; DELETE FROM item WHERE id % 3 = 0")
        .await;
    setting.history_equals_source(&TABLES).await;
}

/// The stream goes on over a promotion without a word; the epoch is another one from there on, and nobody is reset. The
/// primary that was goes on too, and nothing of it is shown to anybody.
#[tokio::test]
async fn promoted_under_the_stream() {
    if is_too_old() {
        return;
    }
    let mut standing = Standing::new("standby_promoted", LOAD_SCHEMA, &FEEDBACK).await;
    let (mut here, mut replica) = standing.setting.client("here").await;
    let load = Load::start(standing.setting.source.url(), 4, 1);
    load.more(100).await;
    load.stop().await;
    standing.standby.has_caught_up_with(&standing.primary).await;
    standing.standby.promote().await;
    // What the primary commits now is of no world that anybody follows.
    standing
        .setting
        .source
        .exec("INSERT INTO item (owner, value) SELECT 9, 'ghost' FROM generate_series(1, 100)")
        .await;
    standing.setting.source = standing.there();
    let load = Load::start(standing.setting.source.url(), 4, 2);
    load.more(200).await;
    load.stop().await;
    streaming(&standing.setting).await;
    standing.goes_on_in_the_next_epoch(&mut here, &mut replica).await;
}

/// The standby follows another primary from some place on: the same, and it stays a standby.
#[tokio::test]
async fn its_primary_fails_over() {
    if is_too_old() {
        return;
    }
    let standing = Standing::new("standby_cascade", LOAD_SCHEMA, &NO_FEEDBACK).await;
    let Standing { setting, primary, standby, route, .. } = &standing;
    let next = TestCluster::standby_of(primary, &[]).await;
    let (mut here, mut replica) = setting.client("here").await;
    let load = Load::start(setting.source.url(), 4, 1);
    load.more(100).await;
    load.stop().await;
    next.has_caught_up_with(primary).await;
    standby.has_caught_up_with(primary).await;
    next.has_caught_up_with(primary).await;
    primary.down(Shutdown::Fast).await;
    next.promote().await;
    route.turn_to(next.port());
    let admin = connect(&standby.url("postgres")).await;
    let follow = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", next.port());
    admin.batch_execute(&format!("ALTER SYSTEM SET primary_conninfo = '{follow}'")).await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let writes = setting.source.on(&next);
    let load = Load::start(writes.url(), 4, 2);
    load.more(200).await;
    load.stop().await;
    standby.has_caught_up_with(&next).await;
    let standing = Standing { setting: Setting { source: writes, ..standing.setting }, ..standing };
    standing.goes_on_in_the_next_epoch(&mut here, &mut replica).await;
}

/// Nothing keeps the catalog's rows for the slot, and the standby throws it away.
#[tokio::test]
async fn rows_that_the_slot_needs_are_removed() {
    if is_too_old() {
        return;
    }
    let standing = Standing::new("standby_conflict", SCHEMA, &NO_FEEDBACK).await;
    let setting = &standing.setting;
    let (mut here, mut replica) = setting.client("here").await;
    standing.insert(1).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    let there = standing.there();
    let lost = "SELECT count(*) FROM pg_replication_slots WHERE conflicting";
    wait_until("the slot is lost", PATIENCE, async || {
        // In transactions of their own: what one has made and removed, nobody needs.
        for statement in ["CREATE TABLE passing (id int)", "DROP TABLE passing", "VACUUM pg_class"] {
            setting.source.exec(statement).await;
        }
        there.query_text(lost).await == "1"
    })
    .await;
    let capture = stopped(setting, "slot_lost", "WD-SLOT-LOST").await;
    let message = capture["message"].as_str().unwrap();
    let reason = if setting.source.server_major().await < 17 { "conflicting" } else { "rows_removed" };
    assert!(message.contains(reason), "{message}");
    standing.insert(2).await;
    println!("{}", waldelta_ok(&standing.command(&["recover", "--yes"])));
    streaming(setting).await;
    standing.insert(3).await;
    is_reset(&mut here, &mut replica).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    assert_eq!((inserted(setting).await, epochs(setting).await), (vec![1, 3], 2));
}

/// Where nobody says which the primary is, changes come, and no client begins.
#[tokio::test]
async fn without_a_primary_there_are_no_snapshots() {
    if is_too_old() {
        return;
    }
    let mut standing = Standing::new("standby_alone", SCHEMA, &FEEDBACK).await;
    standing.insert(1).await;
    let (socket, mut replica) = standing.setting.client("here").await;
    drop(socket);
    standing.setting.service.stop().await;
    let alone = standing.options();
    standing.setting.service.start_again_with(alone).await;
    let mut here = standing.setting.resume("here", &mut replica).await;
    standing.insert(2).await;
    standing.setting.equal(&mut here, &mut replica, &TABLES).await;
    let mut new = WsClient::connect(&standing.setting.service.stream()).await;
    new.send(&Replica::new().hello("new", &[all_tables()])).await;
    let error = new.next_of_type("error", PATIENCE).await;
    assert_eq!(error["code"], "WD-SOURCE-STANDBY", "{error}");
    let (_, answer, _) = waldelta(&with_databases(&["doctor"], &standing.there(), &standing.setting.history));
    assert!(answer.contains("WD-SOURCE-STANDBY"), "{answer}");
}

/// Before 16 a standby is refused by name.
#[tokio::test]
async fn too_old_a_standby_is_refused() {
    let major = test_binaries().version.major;
    if major >= MAJOR_WITH_STANDBY_SLOTS {
        return println!("skipped: standbys of {major} have logical slots");
    }
    let (primary, standby) = pair(&NO_FEEDBACK).await;
    let source = TestDatabase::create_on(&primary, "standby_old").await;
    let history = TestDatabase::create("standby_old_h").await;
    source.exec(SCHEMA).await;
    standby.has_caught_up_with(&primary).await;
    let config = configured(source.url());
    for words in [&["init", "--apply"][..], &["doctor"]] {
        let (code, answer, log) = waldelta(&command(words, &source.on(&standby), &history, &config));
        assert_ne!(code, Some(0), "{answer}{log}");
        assert!(format!("{answer}{log}").contains("WD-VERSION-UNSUPPORTED"), "{answer}{log}");
    }
}
