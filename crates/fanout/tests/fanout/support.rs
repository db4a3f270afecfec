//! A database that is source and history at once, the client side on a port of its own, and transactions made by hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use waldelta_access::Access;
use waldelta_fanout::{Config, Fanout};
use waldelta_history::{Captured, History, NewEpoch, Writer};
use waldelta_pgconn::{Environment, Target};
use waldelta_source::{Plugin, Source};
use waldelta_testkit::{Replica, TestCluster, TestDatabase, WsClient, source_rows, wait_until};
use waldelta_wal::{
    Author, Change, Column, EndLsn, Epoch, Kind, Lsn, Operation, Piece, Position, ReplicaIdentity, Reset,
    Table, TableName, TransactionHead, TruncateOptions, ValuePolicy,
};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long it is watched that nothing comes.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

pub(crate) struct World {
    pub database: TestDatabase,
    pub history: History,
    pub writer: Writer,
    pub fanout: Fanout,
    pub access: Access,
    pub stop: CancellationToken,
    pub running: JoinHandle<()>,
    pub t: Arc<Table>,
    pub u: Arc<Table>,
    address: std::net::SocketAddr,
    config: Config,
    access_config: waldelta_access::Config,
    history_config: waldelta_history::Config,
    source: Source,
    epoch: Epoch,
    /// It lasts as long as the test.
    _standby: Option<TestCluster>,
    /// Where the next transaction commits.
    next_lsn: u64,
    /// Shapes that history does not have yet.
    new_tables: Vec<Arc<Table>>,
}

/// Bounds that tests change.
pub(crate) struct Setup {
    pub config: Config,
    /// Which tokens are taken; nobody has to authenticate where it does not say.
    pub access: waldelta_access::Config,
    pub feed_bytes_max: usize,
    /// A cluster of the test's own, and a standby of it that is configured as the source.
    pub standby: Option<(TestCluster, TestCluster)>,
    /// Whether the primary is configured beside that.
    pub has_primary: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            config: Config::default(),
            access: waldelta_access::Config::default(),
            feed_bytes_max: 16 << 20,
            standby: None,
            has_primary: false,
        }
    }
}

impl World {
    pub(crate) async fn new(hint: &str) -> Self {
        Self::with(hint, Setup::default()).await
    }

    /// Tables `t` and `u` are published and empty; history begins at the source's WAL end.
    pub(crate) async fn with(hint: &str, setup: Setup) -> Self {
        let database = match &setup.standby {
            Some((cluster, _)) => TestDatabase::create_on(cluster, hint).await,
            None => TestDatabase::create(hint).await,
        };
        database
            .exec(
                "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY, v text);
                 CREATE PUBLICATION waldelta FOR TABLE t, u",
            )
            .await;
        let parse = |url: &str| Target::parse(url, &Environment::default()).unwrap();
        let target = parse(database.url());
        let source_target = match &setup.standby {
            Some((_, standby)) => parse(database.on(standby).url()),
            None => target.clone(),
        };
        let source = Source {
            target: source_target,
            publication: "waldelta".into(),
            slot: database.slot("s"),
            plugin: Plugin::default(),
            values: ValuePolicy::default(),
            primary: setup.has_primary.then(|| target.clone()),
        };
        let history_config = waldelta_history::Config {
            target,
            feed_bytes_max: setup.feed_bytes_max,
            connections_max: 8,
            partition_bytes: 1 << 34,
        };
        let history = History::open(&history_config).await.unwrap();
        let start: Lsn = database.query_text("SELECT pg_current_wal_insert_lsn()").await.parse().unwrap();
        let captured = Captured {
            system_id: 1,
            timeline: 1,
            database_oid: 1,
            slot: source.slot.clone(),
            publication: source.publication.clone(),
        };
        let epoch = history.begin(&captured, EndLsn(start), "test").await.unwrap().epoch;
        let mut writer = history.writer("test").await.unwrap();
        let mut new_tables = Vec::new();
        for name in ["t", "u"] {
            let oid = database.query_text(&format!("SELECT '{name}'::regclass::oid")).await.parse().unwrap();
            new_tables.push(writer.number(table(oid, name)).table);
        }
        let (t, u) = (new_tables[0].clone(), new_tables[1].clone());

        let access = admitting(&setup.access, &history).await;
        let fanout = Fanout::new(setup.config.clone(), history.clone(), source.clone(), access.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let running = spawn(serve(listener, fanout.clone(), stop.clone()));
        World {
            database,
            history,
            writer,
            fanout,
            access,
            stop,
            running,
            t,
            u,
            address,
            config: setup.config,
            access_config: setup.access,
            history_config,
            source,
            epoch,
            _standby: setup.standby.map(|(_, standby)| standby),
            next_lsn: start.0,
            new_tables,
        }
    }

    /// Stops the client side and starts another one over the same history, at the same address: what a process is that is
    /// started again.
    pub(crate) async fn restart(self) -> Self {
        self.restart_as(|listener, fanout, stop| spawn(serve(listener, fanout, stop))).await
    }

    /// The same with a task for each part, which it is known by.
    pub(crate) async fn restart_in_parts(self) -> (Self, JoinSet<&'static str>) {
        let mut parts = JoinSet::new();
        let start = |listener, fanout: Fanout, stop: CancellationToken| {
            for part in fanout.parts(stop.clone()) {
                parts.spawn(async move {
                    part.run.await;
                    part.name
                });
            }
            spawn(listen(listener, fanout, stop))
        };
        let world = self.restart_as(start).await;
        (world, parts)
    }

    async fn restart_as(
        self,
        start: impl FnOnce(TcpListener, Fanout, CancellationToken) -> JoinHandle<()>,
    ) -> Self {
        self.stop.cancel();
        self.running.await.unwrap();
        self.writer.release().await.unwrap();
        let history = History::open(&self.history_config).await.unwrap();
        let writer = history.writer("test").await.unwrap();
        let access = admitting(&self.access_config, &history).await;
        let fanout = Fanout::new(self.config.clone(), history.clone(), self.source.clone(), access.clone());
        let listener = TcpListener::bind(self.address).await.unwrap();
        let stop = CancellationToken::new();
        let running = start(listener, fanout.clone(), stop.clone());
        World { history, writer, fanout, access, stop, running, ..self }
    }

    /// Appends a transaction right after the last one; its position.
    pub(crate) async fn commit(&mut self, xid: u64, changes: Vec<Change>) -> Position {
        let lsn = self.next_lsn;
        self.commit_at(lsn, xid, changes).await
    }

    /// Appends a transaction that commits at `lsn`.
    pub(crate) async fn commit_at(&mut self, lsn: u64, xid: u64, changes: Vec<Change>) -> Position {
        let piece = self.piece(lsn, xid, changes, true);
        let position = piece.head.position();
        self.writer.append(vec![piece]).await.unwrap();
        position
    }

    pub(crate) fn piece(&mut self, lsn: u64, xid: u64, changes: Vec<Change>, ends: bool) -> Piece {
        let head = TransactionHead {
            epoch: self.epoch,
            commit_lsn: Lsn(lsn),
            xid,
            committed_at_us: 1_793_707_200_000_000,
        };
        self.next_lsn = lsn + 8;
        Piece {
            head,
            first: changes.first().is_none_or(|change| change.seq == 0),
            changes,
            end: ends.then_some(EndLsn(Lsn(lsn + 8))),
            new_tables: std::mem::take(&mut self.new_tables),
            repairs: Vec::new(),
            urgent: false,
        }
    }

    /// Ends the epoch and begins another one, which goes on at `start` or has a gap before it.
    pub(crate) async fn begin_epoch(self, start: u64, fork: Option<u64>, continues: bool) -> Self {
        let (captured, _) = self.history.captured().await.unwrap().unwrap();
        let new = NewEpoch {
            captured,
            start: EndLsn(Lsn(start)),
            fork: fork.map(Lsn),
            reason: "test".into(),
            continues,
            fingerprints: Vec::new(),
        };
        let head = self.writer.begin_epoch(new).await.unwrap();
        let writer = self.history.writer("test").await.unwrap();
        World { writer, epoch: head.epoch, next_lsn: start, ..self }
    }

    /// Appends a transaction that resets these tables.
    pub(crate) async fn reset(&mut self, tables: &[&Arc<Table>]) -> Position {
        let resets = (0..).zip(tables).map(|(seq, table)| reset(table, seq)).collect();
        let xid = self.xid().await;
        self.commit(xid, resets).await
    }

    /// Id of a transaction of the source that has committed by now: later snapshots show it, and earlier ones do not.
    pub(crate) async fn xid(&self) -> u64 {
        self.database.query_text("SELECT pg_current_xact_id()").await.parse().unwrap()
    }

    /// Waits until the copy is at this place, and compares these tables of it with the source.
    pub(crate) async fn compare(
        &self,
        client: &mut WsClient,
        replica: &mut Replica,
        at: Position,
        tables: &[&str],
    ) {
        let is_there = |replica: &Replica| replica.is_live() && replica.position() >= Some(at);
        client.follow(replica, "it has caught up", PATIENCE, is_there).await;
        let source = self.database.client().await;
        for table in tables {
            assert_eq!(
                replica.rows(&format!("public.{table}")),
                source_rows(&source, table).await,
                "{table}"
            );
        }
    }

    /// Gives table `t` one more column; its new shape.
    pub(crate) fn add_column(&mut self, name: &str) -> Arc<Table> {
        let mut table = Table::clone(&self.t);
        let number = i16::try_from(table.columns.len()).unwrap() + 1;
        table.columns.push(Column { number, name: name.into(), ..table.columns[1].clone() });
        let numbered = self.writer.number(table);
        assert!(numbered.changed, "history has the shape before");
        self.new_tables.push(numbered.table.clone());
        self.t = numbered.table.clone();
        numbered.table
    }

    /// Where the next transaction commits.
    pub(crate) fn next_lsn(&self) -> u64 {
        self.next_lsn
    }

    /// Tables `t` and `u`.
    pub(crate) fn both(&self) -> (Arc<Table>, Arc<Table>) {
        (self.t.clone(), self.u.clone())
    }

    /// The next transaction commits at this place.
    pub(crate) fn skip_to(&mut self, lsn: u64) {
        self.next_lsn = lsn;
    }

    /// A table that history has not seen a change of.
    pub(crate) fn add_table(&mut self, oid: u32, name: &str) -> Arc<Table> {
        let table = self.writer.number(table(oid, name)).table;
        self.new_tables.push(table.clone());
        table
    }

    /// A table of this shape, which history has not seen a change of.
    pub(crate) fn add_shape(&mut self, table: Table) -> Arc<Table> {
        let table = self.writer.number(table).table;
        self.new_tables.push(table.clone());
        table
    }

    /// Serves the same clients at another address, with other routes beside, to whom a layer says more of the connection.
    pub(crate) async fn serve_also(
        &self,
        more: impl FnOnce(&Fanout) -> axum::Router,
    ) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = axum::serve(listener, more(&self.fanout));
        let stop = self.stop.clone();
        spawn(async move { server.with_graceful_shutdown(stop.cancelled_owned()).await.unwrap() });
        address
    }

    /// One insert into `t` per transaction; their positions.
    pub(crate) async fn commit_inserts(&mut self, ids: std::ops::Range<u64>) -> Vec<Position> {
        let mut positions = Vec::new();
        for id in ids {
            let change = insert(&self.t, 0, id);
            positions.push(self.commit(FUTURE_XID + id, vec![change]).await);
        }
        positions
    }

    pub(crate) fn head(&self) -> Position {
        self.history.feed().head().cursor()
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    pub(crate) fn stream_url(&self) -> String {
        format!("ws://{}/v1/stream", self.address)
    }

    pub(crate) async fn connect(&self) -> WsClient {
        WsClient::connect(&self.stream_url()).await
    }

    /// Connects and says hello for table `t`.
    pub(crate) async fn hello(&self, client_id: &str, more: Value) -> WsClient {
        let mut hello = json!({"type": "hello", "client_id": client_id, "subscriptions": [{"id": "s1", "table": "public.t"}]});
        for (name, value) in more.as_object().unwrap() {
            hello[name] = value.clone();
        }
        let mut client = self.connect().await;
        client.send(&hello).await;
        client
    }

    /// A client that is live at the head without a snapshot.
    pub(crate) async fn live(&self, client_id: &str) -> WsClient {
        let mut client = self.hello(client_id, json!({"snapshot": false})).await;
        client.next_of_type("live", PATIENCE).await;
        client
    }

    /// Status and body of a GET.
    pub(crate) async fn get(&self, path: &str, headers: &str) -> (u16, Value) {
        let (status, _, body) = self.get_text(path, headers).await;
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// Status, headers and body of a GET.
    pub(crate) async fn get_text(&self, path: &str, headers: &str) -> (u16, String, String) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let host =
            if headers.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.address) };
        let request = format!("GET {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    /// Waits until so many sessions are there, in this state.
    pub(crate) async fn wait_sessions(&self, count: usize, state: &str) {
        wait_until("sessions", PATIENCE, || async {
            self.fanout.sessions().iter().filter(|session| session.state == state).count() == count
        })
        .await;
    }
}

/// Higher than any id that the source gives out during a test: such a transaction began after every client connected.
pub(crate) const FUTURE_XID: u64 = 1 << 40;

/// Lower than any id that the source gives out during a test: every snapshot shows such a transaction.
pub(crate) const SHOWN_XID: u64 = 3;

#[expect(clippy::disallowed_methods, reason = "ends with the test")]
fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(future)
}

async fn serve(listener: TcpListener, fanout: Fanout, stop: CancellationToken) {
    let ((), ran) = tokio::join!(listen(listener, fanout.clone(), stop.clone()), fanout.run(stop));
    ran.unwrap();
}

async fn listen(listener: TcpListener, fanout: Fanout, stop: CancellationToken) {
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| waldelta_fanout::prepare(stream));
    let server = axum::serve(listener, fanout.router()).with_graceful_shutdown(stop.cancelled_owned());
    server.await.unwrap();
}

pub(crate) fn table(oid: u32, name: &str) -> Table {
    let column = |number, name: &str, type_oid, type_name: &str, identity: bool| Column {
        number,
        kind: Kind::builtin(type_oid).unwrap(),
        name: name.into(),
        type_oid,
        type_modifier: -1,
        type_name: type_name.into(),
        nullable: !identity,
        identity,
    };
    Table {
        oid,
        version: 0,
        name: TableName { schema: "public".into(), name: name.into() },
        columns: vec![column(1, "id", 23, "integer", true), column(2, "v", 25, "text", false)],
        key: vec![0],
        identity: ReplicaIdentity::Default,
    }
}

pub(crate) fn insert(table: &Arc<Table>, seq: u32, id: u64) -> Change {
    insert_text(table, seq, id, "x")
}

pub(crate) fn insert_text(table: &Arc<Table>, seq: u32, id: u64, text: &str) -> Change {
    Change {
        seq,
        operation: Operation::Insert,
        table: Some(table.clone()),
        row_key: Some(Bytes::from(format!("[{id}]"))),
        data: Some(Bytes::from(format!(r#"{{"id":{id},"v":"{text}"}}"#))),
        old_data: None,
        unchanged: Vec::new(),
        flagged: Vec::new(),
        truncate: TruncateOptions::default(),
        origin: None,
        author: None,
    }
}

/// The change that tells a table's shape.
pub(crate) fn schema_change(table: &Arc<Table>, seq: u32) -> Change {
    let mut shape = Vec::new();
    waldelta_wal::schema_json(table, &mut shape);
    let base = insert(table, seq, 0);
    Change { operation: Operation::Schema, row_key: None, data: Some(shape.into()), ..base }
}

/// The change that resets a table.
pub(crate) fn reset(table: &Table, seq: u32) -> Change {
    let reset = Reset { table_oid: table.oid, table: table.name.to_string(), reason: "rewritten".into() };
    let data = Some(serde_json::to_string(&reset).unwrap().into());
    let base = insert(&Arc::new(table.clone()), seq, 0);
    Change { operation: Operation::Reset, table: None, row_key: None, data, ..base }
}

/// A logical message.
pub(crate) fn message(seq: u32, base: &Arc<Table>, content: &str) -> Change {
    let data = Some(Bytes::from(format!(r#"{{"prefix":"app","content":"{content}"}}"#)));
    let base = insert(base, seq, 0);
    Change { operation: Operation::Message, table: None, row_key: None, data, ..base }
}

pub(crate) fn by(author: &str, change: Change) -> Change {
    let author = Author { client_id: author.into(), metadata: Some(r#"{"user":"42"}"#.into()) };
    Change { author: Some(Arc::new(author)), ..change }
}

/// Ids of the rows of a `tx` frame.
pub(crate) fn ids(tx: &Value) -> Vec<u64> {
    assert_eq!(tx["type"], "tx", "{tx}");
    tx["changes"].as_array().unwrap().iter().map(|change| change["key"]["id"].as_u64().unwrap()).collect()
}

pub(crate) fn cursor(frame: &Value) -> Position {
    frame["cursor"].as_str().unwrap().parse().unwrap()
}

/// It knows the tokens there are; those that come later, and revocations, after [`Access::load`].
async fn admitting(config: &waldelta_access::Config, history: &History) -> Access {
    let access = Access::new(config.clone(), history.clone());
    access.load().await.unwrap();
    access
}
