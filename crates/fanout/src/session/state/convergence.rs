//! Whatever commits, changes unseen, is reset, forks and breaks, in whatever order: in the end the model client, which is
//! strict about the protocol, has what the model source has. The scope, the router's rules, the state machine and the way over
//! seams are the real ones; the source, history and snapshots are lists.

mod follows;
mod model;

use std::collections::VecDeque;

use proptest::prelude::*;
use waldelta_testkit::Replica;
use waldelta_wal::{Change, Operation, Position, ReplicaIdentity, Table};

use self::follows::{Follows, Sees};
use self::model::{Op, Source, TABLES, xids_up_to};
use super::identity::identity;
use super::interleaving::session;
use super::*;
use crate::registry::{Attachment, Registry};
use crate::session::delivery::Overlap;
use crate::session::hydrate::{Failure, Step};
use crate::session::private::{Changes, Slice};
use crate::stretch::Stretch;
use crate::subscription::{Route, Tables};
use crate::testing::{change, table};
use crate::wire::client::Hello;
use crate::wire::server::TableSum;

#[derive(Clone, Debug)]
enum Act {
    /// A transaction commits at the source.
    Commit(Vec<Op>),
    /// A table is added: snapshots leave it out until it is reset.
    Join(usize),
    /// So many transactions become durable.
    Store(usize),
    /// The source is another one now, without its last transactions, and history goes on from there, or after a gap.
    Fork {
        lost: usize,
        continues: bool,
    },
    /// The router takes what is durable; or finds that it fell behind.
    Route {
        behind: bool,
    },
    /// The session does what it wants next, in pages of so many changes.
    Read(usize),
    /// The next step of a snapshot that runs.
    Hydrate,
    /// What it waits for may have come.
    Wake,
    Tick,
    /// The client adds its second subscription, or takes it away.
    Subscribe,
    Unsubscribe,
    /// What the client may see is something else from now on; it may be away.
    Regrant {
        sees: Sees,
        while_away: bool,
    },
    /// Its token is taken back: it comes with another.
    Revoke,
    /// A fresh token.
    Renew,
    /// The connection breaks, and the client comes back.
    Reconnect,
    /// Everything stops for a moment: the client has what is known of the source.
    Settle,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let (which, id) = (|| 0..TABLES.len(), || 0i64..4);
    let op = prop_oneof![
        6 => (which(), id()).prop_map(|(table, id)| Op::Put { table, id }),
        2 => (which(), id()).prop_map(|(table, id)| Op::Delete { table, id }),
        2 => (which(), id(), id()).prop_map(|(table, id, to)| Op::Move { table, id, to }),
        1 => which().prop_map(|table| Op::Truncate { table }),
        1 => (which(), id()).prop_map(|(table, id)| Op::Unseen { table, id }),
        2 => which().prop_map(|table| Op::Reset { table }),
    ];
    let act = prop_oneof![
        8 => prop::collection::vec(op, 1..4).prop_map(Act::Commit),
        1 => which().prop_map(Act::Join),
        6 => (1usize..4).prop_map(Act::Store),
        1 => (0usize..4, prop::bool::weighted(0.8)).prop_map(|(lost, continues)| Act::Fork { lost, continues }),
        4 => prop::bool::weighted(0.1).prop_map(|behind| Act::Route { behind }),
        10 => (1usize..6).prop_map(Act::Read),
        8 => Just(Act::Hydrate),
        4 => Just(Act::Wake),
        1 => Just(Act::Tick),
        1 => Just(Act::Subscribe),
        1 => Just(Act::Unsubscribe),
        1 => (prop::sample::select(&Sees::ALL[..]), prop::bool::weighted(0.3))
            .prop_map(|(sees, while_away)| Act::Regrant { sees, while_away }),
        1 => prop_oneof![Just(Act::Revoke), Just(Act::Renew)],
        1 => Just(Act::Reconnect),
        1 => Just(Act::Settle),
    ];
    prop::collection::vec(act, 1..150)
}

/// Whether the client has its second subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    No,
    Asked,
    Yes,
    /// It is given back, and the rows that are left have not come.
    Leaving,
}

struct World {
    source: Source,
    registry: Arc<Registry>,
    routed: usize,
    now: Now,
    sessions: u64,
    session: Session,
    attachment: Option<Attachment>,
    // A snapshot that was ordered, and its steps once it is taken.
    order: Option<Order>,
    steps: VecDeque<Step>,
    /// The last one that was taken, and its position: it is handed out to whoever may begin there.
    kept: Option<(Tables, Position, VecDeque<Step>)>,
    // The client.
    replica: Replica,
    follows: Follows,
    sees: Sees,
    added: Added,
    is_gone: bool,
}

impl World {
    fn new(follows: Follows, identity: ReplicaIdentity, scope_bytes_max: usize) -> Self {
        let now = Now { instant: Instant::now(), unix_us: 0 };
        let source = Source::new(identity);
        let mut world = World {
            registry: Arc::new(Registry::new(source.head(), scope_bytes_max, 100)),
            source,
            routed: 0,
            now,
            sessions: 0,
            session: session(0, now),
            attachment: None,
            order: None,
            steps: VecDeque::new(),
            kept: None,
            replica: Replica::new(),
            follows,
            sees: Sees::Everything,
            added: Added::No,
            is_gone: false,
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        self.is_gone = false;
        self.replica.disconnected();
        // What did not come, or was not given back, is as it was before.
        self.added = match self.added {
            Added::No | Added::Asked => Added::No,
            Added::Yes | Added::Leaving => Added::Yes,
        };
        (self.order, self.steps) = (None, VecDeque::new());
        self.sessions += 1;
        self.session = session(self.sessions, self.now);
        self.session.entrance = Entrance::Known(self.admitted());
        let mut subscriptions = vec![self.follows.first()];
        subscriptions.extend(self.follows.second().filter(|_| self.added == Added::Yes));
        let hello = Hello {
            client_id: "me".into(),
            token: None,
            after: self.replica.position().map(After::Cursor),
            access: self.replica.access().map(str::to_owned),
            subscriptions,
            include_own: false,
            snapshot: true,
            snapshot_from: None,
        };
        self.apply(Event::Frame(Ok(ClientFrame::Hello(hello))));
        self.apply(Event::FrontierKnown);
        let after = self.replica.position().map(Some);
        self.apply(Event::Resolved(Ok((self.source.extent(), after))));
    }

    /// Its token lasts for a few heartbeats.
    fn admitted(&self) -> Admitted {
        Admitted { identity: identity("ann", self.now, Some(100_000)), grant: self.sees.grant() }
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
                Action::Send(frame) => {
                    let told = self.replica.apply(&frame);
                    told.unwrap_or_else(|violation| panic!("{violation:?}: {frame}"));
                    if self.replica.must_begin_anew() {
                        self.is_gone = true;
                        return;
                    }
                }
                Action::AskFrontier => self.session.apply(Event::FrontierKnown, self.now, &mut Vec::new()),
                Action::ListTables => {
                    let all = TABLES.iter().map(|name| Arc::new(table(name))).collect();
                    return self.apply(Event::Tables(Ok(Arc::new(all))));
                }
                Action::Hydrate(order) => (self.order, self.steps) = (Some(order), VecDeque::new()),
                Action::Close(closing) => {
                    assert!(
                        matches!(closing, Closing::TryLater(_) | Closing::Unauthorized(_)),
                        "{closing:?}"
                    );
                    self.is_gone = true;
                }
                _ => {}
            }
        }
        assert!(self.session.cursor() <= self.source.head(), "nothing beyond what is durable");
    }

    fn perform(&mut self, act: Act) {
        match act {
            Act::Commit(ops) => self.source.commit(&ops),
            Act::Join(table) => self.source.join(table),
            Act::Store(count) => self.source.store(count),
            Act::Fork { lost, continues } => self.fork(lost, continues),
            Act::Route { behind } => self.route(behind),
            Act::Read(page) => self.read(page),
            Act::Hydrate => self.hydrate(),
            Act::Wake => self.apply(Event::Woken),
            Act::Tick => self.tick(),
            Act::Subscribe if self.added == Added::No => {
                if let Some(second) = self.follows.second() {
                    self.added = Added::Asked;
                    self.apply(Event::Frame(Ok(ClientFrame::Subscribe(vec![second]))));
                }
            }
            Act::Unsubscribe if self.added == Added::Yes => {
                self.added = if self.follows == Follows::Table { Added::No } else { Added::Leaving };
                self.apply(Event::Frame(Ok(ClientFrame::Unsubscribe(vec!["s2".into()]))));
            }
            Act::Subscribe | Act::Unsubscribe => {}
            // Its filter reads what it may not see then: it is told so, and cannot go on.
            Act::Regrant { sees: Sees::Keys, .. } if self.follows == Follows::Rows => {}
            Act::Regrant { sees, while_away } => {
                self.sees = sees;
                match while_away {
                    true => self.is_gone = true,
                    false => self.apply(Event::Regranted(sees.grant())),
                }
            }
            Act::Revoke => self.apply(Event::Unauthorized(access::Refusal::Revoked)),
            Act::Renew => self.apply(Event::Authenticated(Ok(self.admitted()))),
            Act::Reconnect => self.is_gone = true,
            Act::Settle => self.settle(),
        }
        if self.is_gone {
            self.connect();
        }
    }

    /// The connection of a snapshot that is being read ends with the server.
    fn fork(&mut self, lost: usize, continues: bool) {
        self.source.fork(lost, continues);
        if !self.steps.is_empty() {
            self.steps.clear();
            let failure = Failure::ForNow { code: Code::SourceUnreachable, message: String::new() };
            self.apply(Event::Hydration(Step::Failed(failure)));
        }
    }

    fn route(&mut self, behind: bool) {
        let head = self.source.head();
        let restarted_at = self.source.feed_floor();
        if behind {
            self.registry.cut(head);
        } else if self.registry.routed() < restarted_at {
            self.registry.cut(restarted_at);
        }
        while let Some(transaction) = self.source.log.get(self.routed) {
            self.routed += 1;
            if transaction.head.position() > self.registry.routed() {
                crate::hub::route_whole(&self.registry, transaction);
                self.registry.routed_to(transaction.head.position());
            }
        }
        self.registry.routed_to(head);
    }

    fn read(&mut self, page: usize) {
        match self.session.want() {
            Want::Nothing => {}
            Want::Tail(after) => {
                let routed = self.registry.routed();
                let items = self.attachment.as_ref().unwrap().scope.read(after, 300);
                self.apply(Event::Tail { items, routed });
            }
            Want::Private(after) => {
                self.session.reading();
                let read = self.private_read(after, page);
                self.apply(Event::Private(Ok(read)));
            }
        }
    }

    fn tick(&mut self) {
        self.apply(Event::Heard);
        self.now.instant += Duration::from_secs(16);
        self.apply(Event::Tick);
    }

    fn private_read(&self, after: Position, page: usize) -> PrivateRead {
        let head = self.source.head();
        let nothing = |through, lost| PrivateRead {
            after,
            slices: Vec::new(),
            through,
            exhausted: false,
            lost,
            shapes: Shapes::default(),
        };
        let upto = match after.epoch < head.epoch {
            false => head.max(after),
            true => match Stretch::in_older_epoch(after, &self.source.lineage()) {
                Stretch::Upto(end) => end,
                Stretch::Seam(seam) => return nothing(seam, false),
                Stretch::Lost => return nothing(after, true),
            },
        };
        let mut read = nothing(upto, false);
        let mut left = page;
        for transaction in &self.source.log {
            let whole = transaction.head.position();
            if whole.epoch != after.epoch || whole <= after || whole > upto {
                continue;
            }
            if left == 0 {
                return read;
            }
            let inside = (after.epoch, after.commit_lsn) == (whole.epoch, whole.commit_lsn);
            let from = if inside {
                transaction.changes.partition_point(|change| change.seq <= after.index)
            } else {
                0
            };
            let to = transaction.changes.len().min(from + left);
            left -= to - from;
            let last = to == transaction.changes.len();
            read.through = match last {
                true => whole,
                false => Position { index: transaction.changes[to - 1].seq, ..whole },
            };
            let changes = Changes::Shared(transaction.clone(), from..to);
            read.slices.push(Slice { head: transaction.head, changes, last });
        }
        if left > 0 {
            read.through = upto;
            read.exhausted = upto.epoch == head.epoch;
        }
        read
    }

    /// Takes the snapshot that was ordered, or gives its next step.
    fn hydrate(&mut self) {
        if let Some(order) = self.order.take() {
            self.steps = self.kept_for(&order).unwrap_or_else(|| self.snapshot(&order));
        }
        let Some(step) = self.steps.pop_front() else { return };
        let ends = matches!(step, Step::Ended { .. });
        let has_second = self.session.selection.has("s2");
        self.apply(Event::Hydration(step));
        self.added = match self.added {
            Added::Asked if ends && has_second => Added::Yes,
            Added::Leaving if ends && !has_second => Added::No,
            added => added,
        };
    }

    /// What is told of a row, if it is told.
    fn projected(&self, route: &Route, table: &Arc<Table>, row: String) -> Option<bytes::Bytes> {
        let row = bytes::Bytes::from(row);
        let insert = Change { data: Some(row.clone()), ..change(0, Operation::Insert, table, 0) };
        route.telling(&insert)?;
        let Some(projection) = route.projection() else { return Some(row) };
        let mut told = Vec::new();
        projection.write(&mut told, &row);
        Some(told.into())
    }

    /// One that was taken before, if the order may be served with it.
    fn kept_for(&self, order: &Order) -> Option<VecDeque<Step>> {
        let (tables, position, steps) = self.kept.as_ref()?;
        let is_current = position.epoch == self.source.head().epoch;
        (*tables == order.tables && *position >= order.at_least && is_current).then(|| steps.clone())
    }

    /// It shows everything that has committed at the source, durable or not.
    fn snapshot(&mut self, order: &Order) -> VecDeque<Step> {
        let cursor = self.source.head().max(order.at_least);
        let until = self.source.end_in(cursor.epoch).max(cursor);
        let (mut steps, mut sums, mut begun, mut without) =
            (VecDeque::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, name) in TABLES.iter().enumerate() {
            let table = table(name);
            if !order.tables.has(&table.name) {
                continue;
            }
            if self.source.is_joining(index) {
                without.push(table.name);
                continue;
            }
            let table = Arc::new(table);
            let route = order.tables.selection.route(Some(&table)).unwrap().unwrap();
            let rows = self.source.rows(index).map(|(id, value)| model::text(id, value));
            let rows: Vec<_> = rows.filter_map(|row| self.projected(&route, &table, row)).collect();
            begun.push((table.name.clone(), 0));
            sums.push(TableSum { table: table.name.clone(), rows: rows.len() as u64, checksum: 0 });
            steps.push_back(Step::Shape(table.clone()));
            steps.push_back(Step::Rows(server::rows(&table.name, 0, &rows).unwrap()));
        }
        steps.push_front(Step::Begun { id: "1".into(), n: 0, cursor, tables: begun });
        let tables = order.tables.clone();
        let shows = xids_up_to(self.source.last_xid());
        let overlap = Overlap { tables, without, from: cursor, until, shows };
        steps.push_back(Step::Ended { consistent_at: until, tables: sums, overlap });
        self.kept = Some((order.tables.clone(), cursor, steps.clone()));
        steps
    }

    /// Everything that has committed becomes durable, and is told.
    fn settle(&mut self) {
        self.source.store(usize::MAX);
        self.route(false);
        for turn in 0..1_000 {
            if self.is_gone {
                self.connect();
            }
            self.apply(Event::Woken);
            if turn % 100 == 99 {
                // After a reconnect only a heartbeat tells that the state is consistent.
                self.tick();
            }
            self.read(5);
            self.hydrate();
            let settled = self.session.state() == "live" && self.session.cursor() == self.source.head();
            if settled && self.replica.is_consistent() && self.session.want() == Want::Nothing {
                return self.compare();
            }
        }
        panic!("{} at {}, of {}", self.session.state(), self.session.cursor(), self.source.head());
    }

    fn compare(&self) {
        let both = self.added == Added::Yes;
        for (index, name) in TABLES.iter().enumerate() {
            let rows = self.source.rows(index);
            let rows = rows.filter_map(|(id, value)| self.follows.row(self.sees, both, index, id, value));
            let mut rows: Vec<String> = rows.map(|row| waldelta_testkit::canonical(&row).unwrap()).collect();
            rows.sort();
            let is_followed = self.session.selection.matches(&table(name).name);
            // Of what it gives back now and again it keeps what it likes.
            let is_asked_for = self.follows.first().table.matches(&table(name).name);
            if is_asked_for && !self.sees.grant().has(&table(name).name) {
                assert_eq!(self.replica.rows(&format!("public.{name}")), [""; 0], "{name} may not be seen");
            }
            if is_followed && !self.source.needs_repair(index) {
                let table = format!("public.{name}");
                assert_eq!(self.replica.rows(&table), rows, "{table}, {:?} {:?}", self.follows, self.added);
            }
        }
    }
}

proptest! {
    #[test]
    fn the_client_ends_with_what_the_source_has(
        acts in acts(),
        follows in prop::sample::select(vec![Follows::Everything, Follows::Table, Follows::Rows, Follows::Columns]),
        is_full in any::<bool>(),
        scope_bytes_max in 1usize..5_000,
    ) {
        let identity = if is_full { ReplicaIdentity::Full } else { ReplicaIdentity::Default };
        let mut world = World::new(follows, identity, scope_bytes_max);
        for act in acts {
            world.perform(act);
        }
        world.settle();
        let broken = (0..TABLES.len()).filter(|table| world.source.needs_repair(*table));
        let repairs: Vec<Op> = broken.map(|table| Op::Reset { table }).collect();
        world.source.commit(&repairs);
        world.settle();
        for table in 0..TABLES.len() {
            prop_assert!(!world.source.needs_repair(table));
        }
    }
}

/// What the property is about does happen in it.
#[test]
fn resets_and_seams_are_among_what_is_tried() {
    let mut world = World::new(Follows::Table, ReplicaIdentity::Default, 1 << 20);
    world.settle();
    let put = |id| Op::Put { table: 0, id };
    world.source.commit(&[put(1)]);
    world.settle();
    world.source.commit(&[Op::Unseen { table: 0, id: 2 }]);
    world.settle();
    assert_eq!(world.replica.rows("public.t").len(), 1);
    world.source.commit(&[Op::Reset { table: 0 }, put(3)]);
    world.settle();
    assert_eq!((world.replica.rows("public.t").len(), world.replica.resets()), (3, &["gap".to_owned()][..]));
    world.fork(0, true);
    world.source.commit(&[put(4)]);
    world.settle();
    assert_eq!((world.session.cursor().epoch.0, world.replica.resets().len()), (2, 1), "it went on");
    world.fork(1, true);
    world.settle();
    assert_eq!((world.replica.rows("public.t").len(), world.replica.resets().len()), (3, 2), "4 is lost");
    world.fork(0, false);
    world.settle();
    assert_eq!(world.replica.resets(), ["gap", "epoch_changed", "epoch_changed"]);
}

/// Tables, rows and columns come and go with what may be seen, while connected and while away.
#[test]
fn permissions_are_among_what_is_tried() {
    let put = |id| [0, 1].map(|table| Op::Put { table, id });
    let sees = |sees, while_away| Act::Regrant { sees, while_away };
    let mut world = World::new(Follows::Everything, ReplicaIdentity::Default, 1 << 20);
    world.source.commit(&[put(1), put(2)].concat());
    world.settle();
    let rows = |world: &World| ["public.t", "public.u"].map(|table| world.replica.rows(table).len());
    assert_eq!(rows(&world), [2, 2]);
    for (act, expected, resets) in [
        (sees(Sees::T, false), [2, 0], 1),
        (sees(Sees::LowAndU, false), [1, 2], 2),
        (sees(Sees::LowAndU, true), [1, 2], 2),
        (sees(Sees::U, true), [0, 2], 3),
        (sees(Sees::Nothing, false), [0, 0], 4),
        (sees(Sees::Everything, true), [2, 2], 5),
        (Act::Revoke, [2, 2], 5),
        (Act::Renew, [2, 2], 5),
    ] {
        world.perform(act.clone());
        world.settle();
        assert_eq!((rows(&world), world.replica.resets().len()), (expected, resets), "{act:?}");
    }
    assert!(world.replica.resets().iter().all(|reason| reason == "permission_changed"));
}

/// Rows come into a filter and leave it, and so do columns, while connected and by another subscription.
#[test]
fn filters_and_columns_are_among_what_is_tried() {
    let put = |id| Op::Put { table: 0, id };
    for identity in [ReplicaIdentity::Default, ReplicaIdentity::Full] {
        let mut world = World::new(Follows::Rows, identity, 1 << 20);
        world.settle();
        // With the values 1 and 2, 3 and 4, 5.
        for (changes, rows) in [(vec![put(1), put(2)], 1), (vec![put(3), put(1)], 2), (vec![put(1)], 1)] {
            world.source.commit(&changes);
            world.settle();
            assert_eq!(world.replica.rows("public.t").len(), rows);
        }
        world.perform(Act::Subscribe);
        world.settle();
        assert_eq!((world.added, world.replica.rows("public.t").len()), (Added::Yes, 2), "1 is low");
        world.perform(Act::Unsubscribe);
        world.settle();
        assert_eq!((world.added, world.replica.rows("public.t").len()), (Added::No, 1));

        let mut world = World::new(Follows::Columns, identity, 1 << 20);
        world.source.commit(&[put(1)]);
        world.settle();
        assert_eq!(world.replica.rows("public.t"), [r#"{"id":1}"#]);
        world.perform(Act::Subscribe);
        world.settle();
        assert_eq!(world.replica.rows("public.t"), [r#"{"id":1,"v":"1"}"#]);
    }
}
