//! Whatever is published, evicted and read in whatever order: each session gets exactly what concerns it after its cursor,
//! in order, sees no gap in `prev`, and knows the shape that the followed table has wherever it is. The scope, the router's rules and the state machine are the real ones; only history
//! is a list.

use std::sync::atomic::AtomicU64;

use proptest::prelude::*;
use serde_json::{Value, json};
use waldelta_history::{Lineage, Transaction};
use waldelta_wal::{Change, Operation, Table};

use super::*;
use crate::registry::{Attachment, Registry};
use crate::scope::Content;
use crate::session::private::{Changes, Slice};
use crate::testing::{
    change, filtered, grant, head, insert, position, rule, schema_change, subscription, table,
};
use crate::wire::client::Hello;

#[derive(Clone, Debug)]
enum Step {
    /// A transaction becomes durable: on the followed table or another, on a row that passes a filter or not, by the client
    /// or another.
    Commit {
        concerned: bool,
        passes: bool,
        own: bool,
    },
    /// The followed table gets another shape, in a transaction without rows or with one before or behind.
    Reshape {
        rows: Rows,
    },
    /// The router takes what is durable; or finds that it fell behind.
    Route {
        behind: bool,
    },
    /// The session does what it wants next.
    Read,
    /// What it waits for may have come.
    Wake,
    Tick,
    /// What may be seen of other tables is something else from now on.
    Regrant {
        which: usize,
    },
    /// The connection breaks, and the client resumes from its cursor.
    Reconnect,
}

#[derive(Clone, Copy, Debug)]
enum Rows {
    None,
    Before,
    Behind,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (any::<bool>(), any::<bool>(), prop::bool::weighted(0.3))
            .prop_map(|(concerned, passes, own)| Step::Commit { concerned, passes, own }),
        1 => prop_oneof![Just(Rows::None), Just(Rows::Before), Just(Rows::Behind)].prop_map(|rows| Step::Reshape { rows }),
        3 => prop::bool::weighted(0.1).prop_map(|behind| Step::Route { behind }),
        6 => Just(Step::Read),
        3 => Just(Step::Wake),
        1 => Just(Step::Tick),
        1 => (0usize..3).prop_map(|which| Step::Regrant { which }),
        1 => Just(Step::Reconnect),
    ];
    prop::collection::vec(step, 1..120)
}

struct World {
    registry: Arc<Registry>,
    log: Vec<Arc<Transaction>>,
    /// Version of the followed table's shape.
    version: u32,
    head: Position,
    routed: usize,
    now: Now,
    sessions: u64,
    // The client.
    /// Whether it follows some rows and columns alone.
    filters: bool,
    session: Session,
    attachment: Option<Attachment>,
    /// What it may see: of the table that it follows, always all.
    grant: Grant,
    cursor: Position,
    got: Vec<u64>,
    /// Where the connection began, and the version that the client was told since.
    from: Position,
    told: Option<u32>,
    /// Changes that it was told of the transaction that comes in parts.
    parts: usize,
    /// It was told that it has caught up.
    is_live: bool,
}

/// A session of the bounds that the random tests run with.
pub(super) fn session(number: u64, now: Now) -> Session {
    let rules = Rules {
        hello_timeout: Duration::from_secs(5),
        heartbeat_interval: Duration::from_secs(15),
        beats_from: now.instant,
        frontier_timeout: Duration::from_secs(5),
        subscriptions_max: 3,
    };
    let seat = Seat { number, wake: Arc::default(), replaced: CancellationToken::new() };
    Session::new(rules, seat, Entrance::Open(Grant::everything()), now)
}

impl World {
    fn new(filters: bool, scope_bytes_max: usize) -> Self {
        let now = Now { instant: Instant::now(), unix_us: 0 };
        let mut world = World {
            registry: Arc::new(Registry::new(position(10), scope_bytes_max, 100)),
            log: Vec::new(),
            version: 1,
            head: position(10),
            routed: 0,
            now,
            sessions: 0,
            filters,
            session: session(0, now),
            attachment: None,
            grant: Grant::everything(),
            cursor: position(10),
            got: Vec::new(),
            from: position(10),
            told: None,
            parts: 0,
            is_live: false,
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        self.sessions += 1;
        (self.from, self.told, self.parts, self.is_live) = (self.cursor, None, 0, false);
        self.session = session(self.sessions, self.now);
        self.session.entrance = Entrance::Open(self.grant.clone());
        let some =
            || Subscription { columns: Some(["id".to_owned()].into()), ..filtered("s1", "t", "v = 'x'") };
        let hello = Hello {
            client_id: "me".into(),
            token: None,
            after: None,
            access: None,
            subscriptions: vec![if self.filters { some() } else { subscription("s1", "t") }],
            include_own: false,
            snapshot: true,
            snapshot_from: None,
        };
        self.apply(Event::Frame(Ok(ClientFrame::Hello(hello))));
        // Whatever commits from now on began after the client connected.
        let frontier: &AtomicU64 = &self.session.client().unwrap().frontier;
        frontier.store(self.head.commit_lsn.0, std::sync::atomic::Ordering::Release);
        self.apply(Event::FrontierKnown);
        let extent = Extent { floor: position(10), head: self.head, lineage: Lineage::default() };
        self.apply(Event::Resolved(Ok((extent, Some(Some(self.cursor))))));
    }

    fn apply(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.session.apply(event, self.now, &mut actions);
        for action in actions {
            match action {
                Action::Attach(selection) => {
                    let attachment =
                        self.registry.attach(&selection, self.session.client().unwrap()).unwrap();
                    let joined_at = attachment.joined_at;
                    self.attachment = Some(attachment);
                    self.session.apply(Event::Attached(joined_at), self.now, &mut Vec::new());
                }
                Action::Send(frame) => self.receive(&frame),
                Action::Close(closing) => panic!("{closing:?}"),
                _ => {}
            }
        }
        assert!(self.session.cursor() <= self.head, "nothing beyond what is durable");
    }

    fn receive(&mut self, frame: &str) {
        let frame: Value = serde_json::from_str(frame).unwrap();
        let cursor = |name: &str| frame[name].as_str().map(|text| text.parse::<Position>().unwrap());
        match (frame["type"].as_str().unwrap(), cursor("cursor")) {
            ("tx", Some(at)) => {
                assert!(cursor("prev").unwrap() <= self.cursor, "a gap: {frame}, at {}", self.cursor);
                assert!(at > self.cursor, "twice or out of order");
                // What is dropped as the client's own needs no shape.
                let changes = frame["changes"].as_array().unwrap();
                self.parts += changes.len();
                if at.is_whole() {
                    self.move_to(at);
                    self.got.push(at.commit_lsn.0);
                    assert_eq!(std::mem::take(&mut self.parts), self.told_of(at), "{frame}");
                }
                assert!(changes.is_empty() || self.told.is_some(), "a row before its shape");
                for change in changes {
                    let columns = change["data"].as_object().unwrap().len();
                    assert_eq!(columns, if self.filters { 1 } else { 2 }, "{frame}");
                    assert!(!self.filters || change["key"]["id"] != 0, "a row that does not pass");
                }
            }
            ("live" | "heartbeat", Some(at)) => {
                assert!(at >= self.cursor);
                self.is_live |= frame["type"] == "live";
                self.move_to(at);
            }
            ("schema", None) => {
                let version = frame["version"].as_u64().map(|version| u32::try_from(version).unwrap());
                assert_ne!(self.told, version, "told twice");
                self.told = version;
            }
            _ => {}
        }
    }

    /// How many changes of a transaction the client is told: once it has caught up, not those that it made since it connected.
    fn told_of(&self, at: Position) -> usize {
        let frontier = &self.session.client().unwrap().frontier;
        let is_new = self.is_live && at.commit_lsn.0 >= frontier.load(std::sync::atomic::Ordering::Acquire);
        let transaction = self.log.iter().find(|transaction| transaction.head.position() == at);
        let changes = transaction.unwrap().changes.iter().filter(|change| {
            let is_row =
                change.operation != Operation::Schema && change.table.as_ref().unwrap().name.name == "t";
            is_row && self.passes(change) && !(is_new && change.author.is_some())
        });
        changes.count()
    }

    fn passes(&self, change: &Change) -> bool {
        !self.filters || change.row_key.as_deref() != Some(b"[0]")
    }

    /// A client that may store a cursor knows the shape there, if it was connected when that came up.
    fn move_to(&mut self, at: Position) {
        self.cursor = at;
        let seen = self.log.iter().filter(|transaction| {
            let position = transaction.head.position();
            self.from < position && position <= at
        });
        let shapes = seen.flat_map(|transaction| &transaction.changes);
        let last = shapes.filter(|change| change.operation == Operation::Schema).last();
        if let Some(table) = last.and_then(|change| change.table.as_ref()) {
            assert_eq!(self.told, Some(table.version), "at {at}");
        }
    }

    fn regrant(&mut self, which: usize) {
        self.grant = match which {
            0 => Grant::everything(),
            1 => grant(&[rule("t", None, None)], json!({})),
            _ => grant(&[rule("t", None, None), rule("u", None, None)], json!({})),
        };
        self.apply(Event::Regranted(self.grant.clone()));
    }

    fn table(&self, concerned: bool) -> Arc<Table> {
        let table = table(if concerned { "t" } else { "u" });
        Arc::new(Table { version: if concerned { self.version } else { 1 }, ..table })
    }

    fn reshape(&mut self, rows: Rows) {
        let lsn = self.head.commit_lsn.0 + 10;
        let before = self.table(true);
        self.version += 1;
        let behind = self.table(true);
        let row = |seq, table| change(seq, Operation::Insert, table, 1);
        let changes = match rows {
            Rows::None => vec![schema_change(0, &behind)],
            Rows::Before => vec![row(0, &before), schema_change(1, &behind)],
            Rows::Behind => vec![schema_change(0, &behind), row(1, &behind)],
        };
        self.log.push(Arc::new(Transaction { head: head(lsn, lsn), changes }));
        self.head = position(lsn + 3);
    }

    fn commit(&mut self, concerned: bool, passes: bool, own: bool) {
        let lsn = self.head.commit_lsn.0 + 10;
        let mut transaction = insert(&self.table(concerned), lsn, own.then_some("me"));
        if !passes {
            let Transaction { head, changes } = &*transaction;
            let (data, row_key) = (Some(r#"{"id":0,"v":"y"}"#.into()), Some("[0]".into()));
            let changes = vec![Change { data, row_key, ..changes[0].clone() }];
            transaction = Arc::new(Transaction { head: *head, changes });
        }
        self.log.push(transaction);
        // The durable end lies behind the commit record.
        self.head = position(lsn + 3);
    }

    fn route(&mut self, behind: bool) {
        let head = self.head;
        if behind {
            self.routed = self.log.len();
            self.registry.cut(head);
        }
        while let Some(transaction) = self.log.get(self.routed) {
            crate::hub::route_whole(&self.registry, transaction);
            self.registry.routed_to(transaction.head.position());
            self.routed += 1;
        }
        self.registry.routed_to(head);
    }

    fn read(&mut self) {
        match self.session.want() {
            Want::Nothing => {}
            Want::Tail(after) => {
                let routed = self.registry.routed();
                let items = self.attachment.as_ref().unwrap().scope.read(after, 300);
                self.apply(Event::Tail { items, routed });
            }
            Want::Private(after) => {
                self.session.reading();
                let mut slices: Vec<Slice> = Vec::new();
                let rest = self.log.iter().filter(|transaction| transaction.head.position() > after);
                for transaction in rest.take(3) {
                    let changes = Changes::whole(transaction.clone());
                    slices.push(Slice { head: transaction.head, changes, last: true });
                }
                let exhausted = slices.len() < 3;
                let through = if exhausted { self.head.max(after) } else { slices[2].head.position() };
                self.apply(Event::Private(Ok(PrivateRead {
                    after,
                    slices,
                    through,
                    exhausted,
                    lost: false,
                    shapes: Shapes::default(),
                })));
            }
        }
    }

    /// What the client should have been told by the end: its table's transactions and its own.
    fn expected(&self) -> Vec<u64> {
        let concerns = |transaction: &&Arc<Transaction>| {
            transaction.changes.iter().filter(|change| change.operation != Operation::Schema).any(|change| {
                let is_followed = change.table.as_ref().unwrap().name.name == "t";
                is_followed && self.passes(change) || change.author.is_some()
            })
        };
        self.log.iter().filter(concerns).map(|transaction| transaction.head.commit_lsn.0).collect()
    }
}

proptest! {
    #[test]
    fn every_session_gets_exactly_what_follows_its_cursor(
        steps in steps(),
        filters in any::<bool>(),
        scope_bytes_max in 1usize..5_000,
    ) {
        let mut world = World::new(filters, scope_bytes_max);
        for step in steps {
            match step {
                Step::Commit { concerned, passes, own } => world.commit(concerned, passes, own),
                Step::Reshape { rows } => world.reshape(rows),
                Step::Route { behind } => world.route(behind),
                Step::Read => world.read(),
                Step::Wake => world.apply(Event::Woken),
                Step::Tick => {
                    world.apply(Event::Heard);
                    world.now.instant += Duration::from_secs(16);
                    world.apply(Event::Tick);
                }
                Step::Regrant { which } => world.regrant(which),
                Step::Reconnect => world.connect(),
            }
        }
        // When everything stops, everybody converges.
        world.route(false);
        for _ in 0..200 {
            world.apply(Event::Woken);
            world.read();
        }
        prop_assert_eq!(world.session.state(), "live");
        prop_assert_eq!(world.session.cursor(), world.head);
        prop_assert_eq!(&world.got, &world.expected());
    }
}

#[test]
fn an_item_only_for_authors_is_among_what_is_tried() {
    let mut world = World::new(false, 1 << 20);
    world.commit(false, true, true);
    world.route(false);
    let scope = world.attachment.as_ref().unwrap().scope.clone();
    assert_eq!(scope.read(position(10), 1 << 20).unwrap()[0].content, Content::AuthorsOnly);
}

#[test]
fn rows_that_do_not_pass_are_among_what_is_tried() {
    let mut world = World::new(true, 1 << 20);
    world.commit(true, false, false);
    world.route(false);
    let scope = world.attachment.as_ref().unwrap().scope.clone();
    let items = scope.read(position(10), 1 << 20).unwrap();
    assert!(items.iter().all(|item| !matches!(item.content, Content::Frame(_))), "nobody is told of it");
    world.commit(true, true, false);
    world.route(false);
    assert!(matches!(scope.read(position(10), 1 << 20).unwrap().last().unwrap().content, Content::Frame(_)));
}
