//! The state machine, by scenario: events in, actions out.

mod epochs;
mod filters;
mod fitting;
mod identity;
mod permission;
mod resets;

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use serde_json::Value;

use waldelta_history::Lineage;

use super::*;
use crate::scope::Content;
use crate::session::delivery::Overlap;
use crate::session::hydrate::Failure;
use crate::session::private::{Changes, Slice};
use crate::subscription::{Part, Tables};
use crate::testing::{insert, position, subscription, table};
use crate::wire::client::Hello;

const SECOND: Duration = Duration::from_secs(1);

struct Scenario {
    session: Session,
    now: Now,
}

/// Frames as `type@lsn`, other actions by name.
fn describe(actions: &[Action]) -> Vec<String> {
    let one = |action: &Action| match action {
        Action::Send(frame) => {
            let frame: Value = serde_json::from_str(frame).unwrap();
            let kind = frame["type"].as_str().unwrap().to_owned();
            let tables = frame["tables"].as_array().filter(|_| kind == "reset");
            match (frame["code"].as_str(), frame["cursor"].as_str(), tables) {
                (Some(code), ..) => format!("{kind} {code}"),
                (_, Some(cursor), _) => {
                    format!("{kind}@{}", cursor.parse::<Position>().unwrap().commit_lsn.0)
                }
                (.., Some(tables)) => {
                    let tables: Vec<&str> = tables.iter().map(|table| table.as_str().unwrap()).collect();
                    format!("{kind} {}", tables.join(","))
                }
                _ => kind,
            }
        }
        Action::SendPacked(packed) => format!("packed {}", packed.len()),
        Action::Ping => "ping".into(),
        Action::Attach(selection) => format!("attach {}", selection.subscriptions().len()),
        Action::Authenticate(token) => format!("authenticate {}", token.0),
        Action::ListTables => "list tables".into(),
        Action::Resolve(_) => "resolve".into(),
        Action::AskFrontier => "ask".into(),
        Action::Hydrate(order) => match &order.tables.part {
            Part::All => "hydrate all".into(),
            Part::Except(_) => "hydrate late".into(),
            Part::Only(tables) => {
                let tables: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
                format!("hydrate {} of {}", tables.join(","), order.at_least.commit_lsn.0)
            }
        },
        Action::Record(cursor) => format!("record@{}", cursor.commit_lsn.0),
        Action::Close(closing) => format!("close {}", closing.close_code().unwrap_or(0)),
    };
    actions.iter().map(one).collect()
}

impl Scenario {
    fn new() -> Self {
        let rules = Rules {
            hello_timeout: 5 * SECOND,
            heartbeat_interval: 15 * SECOND,
            beats_from: Instant::now(),
            frontier_timeout: 5 * SECOND,
            subscriptions_max: 3,
        };
        let seat = Seat { number: 7, wake: Arc::default(), replaced: CancellationToken::new() };
        let now = Now { instant: Instant::now(), unix_us: 0 };
        Scenario { session: Session::new(rules, seat, Entrance::Open(Grant::everything()), now), now }
    }

    fn apply(&mut self, event: Event) -> Vec<String> {
        let mut actions = Vec::new();
        let frontier = self.session.client().map(|client| client.frontier.clone());
        let before = frontier.as_ref().map(|frontier| frontier.load(Ordering::Acquire));
        let is_step = matches!(event, Event::Hydration(_));
        self.session.apply(event, self.now, &mut actions);
        // After a snapshot the frontier is asked for anew; the answer comes at once, and is the same.
        if is_step && let Some(at) = actions.iter().position(|action| *action == Action::AskFrontier) {
            actions.remove(at);
            frontier.unwrap().store(before.unwrap(), Ordering::Release);
            self.session.apply(Event::FrontierKnown, self.now, &mut actions);
        }
        describe(&actions)
    }

    fn later(&mut self, by: Duration) -> &mut Self {
        self.now.instant += by;
        self
    }

    fn frame(&mut self, frame: ClientFrame) -> Vec<String> {
        self.apply(Event::Frame(Ok(frame)))
    }

    fn hello(&mut self, snapshot: bool) -> Vec<String> {
        self.frame(ClientFrame::Hello(Hello {
            client_id: "me".into(),
            token: None,
            after: None,
            access: None,
            subscriptions: vec![subscription("s1", "t")],
            include_own: false,
            snapshot,
            snapshot_from: None,
        }))
    }

    fn begin(&mut self, after: Option<u64>) -> Vec<String> {
        let extent = Extent { floor: position(10), head: position(100), lineage: Lineage::default() };
        self.apply(Event::Resolved(Ok((extent, after.map(|lsn| Some(position(lsn)))))))
    }

    /// A session that resumed at the head and is live there.
    fn live() -> Self {
        let mut it = Self::new();
        it.hello(true);
        it.apply(Event::Attached(position(100)));
        it.apply(Event::FrontierKnown);
        it.session.client().unwrap().frontier.store(0, Ordering::Release);
        it.begin(Some(100));
        assert_eq!(it.private(100, &[], 100, true), ["live@100"]);
        it
    }

    fn private(&mut self, after: u64, lsns: &[u64], through: u64, exhausted: bool) -> Vec<String> {
        assert_eq!(self.session.want(), Want::Private(position(after)));
        self.session.reading();
        self.apply(Event::Private(Ok(read(after, lsns, through, exhausted))))
    }

    fn tail(&mut self, items: Vec<Item>, routed: u64) -> Vec<String> {
        assert!(matches!(self.session.want(), Want::Tail(_)));
        self.apply(Event::Tail {
            items: Ok(items.into_iter().map(Arc::new).collect()),
            routed: position(routed),
        })
    }
}

fn read(after: u64, lsns: &[u64], through: u64, exhausted: bool) -> PrivateRead {
    let table = Arc::new(table("t"));
    let slice = |lsn: &u64| {
        let transaction = insert(&table, *lsn, None);
        Slice { head: transaction.head, changes: Changes::whole(transaction), last: true }
    };
    PrivateRead {
        after: position(after),
        slices: lsns.iter().map(slice).collect(),
        through: position(through),
        exhausted,
        lost: false,
        shapes: Shapes::default(),
    }
}

fn item(lsn: u64, prev: u64) -> Item {
    let frame = format!(r#"{{"type":"tx","cursor":"{}"}}"#, position(lsn));
    Item {
        position: position(lsn),
        prev: position(prev),
        content: Content::Frame(frame.into()),
        own: Vec::new(),
        schemas: Vec::new(),
        routed_at: Instant::now(),
        committed_at_us: 0,
        packed: OnceLock::new(),
    }
}

fn ended(from: u64, until: u64) -> Step {
    let overlap = Overlap {
        tables: Tables {
            selection: crate::testing::everything(vec![subscription("s1", "t")]),
            part: Part::All,
        },
        without: Vec::new(),
        from: position(from),
        until: position(until),
        shows: Arc::new(|xid| xid == 120),
    };
    Step::Ended { consistent_at: position(until), tables: Vec::new(), overlap }
}

#[test]
fn hello_must_come_in_time_once_and_first() {
    let mut it = Scenario::new();
    assert_eq!(it.session.deadline(), it.now.instant + 5 * SECOND);
    assert_eq!(it.later(5 * SECOND).apply(Event::Tick), ["error WD-HELLO-MISSING", "close 4408"]);
    let mut it = Scenario::new();
    assert!(it.frame(ClientFrame::Unknown).is_empty());
    assert_eq!(it.frame(ClientFrame::Ping(None)), ["error WD-FRAME-INVALID", "close 4400"]);
    let mut it = Scenario::new();
    assert_eq!(it.hello(true), ["attach 1", "ask", "resolve"]);
    assert_eq!(it.hello(true), ["error WD-FRAME-INVALID", "close 4400"]);
    assert!(it.frame(ClientFrame::Ping(None)).is_empty(), "nothing after the end");
}

#[test]
fn a_resumed_session_catches_up_and_goes_live() {
    let mut it = Scenario::new();
    it.hello(true);
    it.apply(Event::Attached(position(100)));
    assert_eq!(it.begin(Some(50)), ["welcome"]);
    assert_eq!(it.private(50, &[60, 70], 70, false), ["schema", "tx@60", "tx@70"]);
    assert!(it.private(70, &[], 100, true).is_empty(), "not live before the frontier is known");
    assert_eq!(it.session.listens(), Listens::Head);
    it.session.client().unwrap().frontier.store(0, Ordering::Release);
    assert!(it.apply(Event::FrontierKnown).is_empty());
    assert_eq!(it.private(100, &[], 100, true), ["live@100"]);
    assert_eq!(it.tail(vec![item(110, 100)], 110), ["tx@110"]);
    assert!(it.tail(Vec::new(), 115).is_empty());
    assert_eq!((it.session.want(), it.session.listens()), (Want::Nothing, Listens::Scope));
    assert_eq!(it.session.cursor(), position(115));
}

#[test]
fn a_source_out_of_reach_delays_live_only_for_a_while() {
    let mut it = Scenario::new();
    it.hello(true);
    it.begin(Some(100));
    assert!(it.private(100, &[], 100, true).is_empty());
    assert_eq!(it.session.deadline(), it.now.instant + 5 * SECOND);
    it.later(5 * SECOND).apply(Event::Tick);
    assert_eq!(it.private(100, &[], 100, true), ["live@100"]);
}

#[test]
fn what_was_routed_before_joining_is_read_privately() {
    let mut it = Scenario::new();
    it.hello(true);
    it.apply(Event::Attached(position(120)));
    it.apply(Event::FrontierKnown);
    it.begin(Some(100));
    assert_eq!(it.private(100, &[], 100, true), ["live@100"]);
    assert_eq!(it.session.listens(), Listens::Head, "the tail may lack what lies up to 120");
    it.apply(Event::Woken);
    assert_eq!(it.private(100, &[110], 120, true), ["schema", "tx@110"]);
    it.apply(Event::Woken);
    assert_eq!(it.session.want(), Want::Tail(position(120)));
}

#[test]
fn every_start_that_cannot_be_resumed_is_answered() {
    for (after, snapshot, expected) in [
        (None, true, &["welcome", "hydrate all"][..]),
        (None, false, &["welcome"]),
        (Some(5), true, &["welcome", "reset", "hydrate all"]),
        (Some(5), false, &["error WD-CURSOR-NOT-RESUMABLE", "close 4410"]),
        (Some(101), true, &["welcome", "reset", "hydrate all"]),
        (Some(101), false, &["error WD-CURSOR-NOT-RESUMABLE", "close 4410"]),
    ] {
        let mut it = Scenario::new();
        it.hello(snapshot);
        assert_eq!(it.begin(after), expected, "{after:?} {snapshot}");
    }
    let mut it = Scenario::new();
    it.hello(true);
    let failed = it.apply(Event::Resolved(Err(Code::HistoryUnreachable)));
    assert_eq!(failed, ["error WD-HISTORY-UNREACHABLE", "close 1013"]);
}

#[test]
fn after_a_snapshot_the_stream_goes_on_without_what_it_shows() {
    let mut it = Scenario::new();
    it.hello(true);
    it.apply(Event::FrontierKnown);
    it.begin(None);
    let begun = Step::Begun { id: "1".into(), n: 0, cursor: position(100), tables: Vec::new() };
    assert_eq!(it.apply(Event::Hydration(begun)), ["snapshot_begin@100"]);
    assert_eq!(it.apply(Event::Hydration(Step::Shape(Arc::new(table("t"))))), ["schema"]);
    assert_eq!(it.session.listens(), Listens::Nothing);
    assert_eq!(it.apply(Event::Hydration(ended(100, 130))), ["snapshot_end@100"]);
    assert_eq!(it.private(100, &[110, 120], 125, true), ["tx@110", "live@125"], "120 is in the snapshot");
    assert_eq!(it.session.listens(), Listens::Head, "the tail is not read before the snapshot has settled");
    it.apply(Event::Woken);
    assert_eq!(it.private(125, &[140], 140, true), ["tx@140"]);
    it.apply(Event::Woken);
    assert_eq!(it.session.want(), Want::Tail(position(140)));
}

#[test]
fn a_client_learns_at_once_that_its_state_is_consistent() {
    let mut it = Scenario::new();
    it.hello(true);
    it.apply(Event::FrontierKnown);
    it.begin(None);
    it.apply(Event::Hydration(ended(100, 130)));
    assert_eq!(it.private(100, &[], 110, true), ["live@110"]);
    it.apply(Event::Woken);
    assert_eq!(it.private(110, &[], 120, true), Vec::<String>::new());
    it.apply(Event::Woken);
    assert_eq!(
        it.private(120, &[], 131, true),
        ["heartbeat@131"],
        "no transaction tells that the fence has come"
    );
}

#[test]
fn a_snapshot_that_fails_says_why() {
    let mut it = Scenario::new();
    it.hello(true);
    it.begin(None);
    let failure = Failure::ForNow { code: Code::SourceUnreachable, message: "x".into() };
    let failed = it.apply(Event::Hydration(Step::Failed(failure)));
    assert_eq!(failed, ["error WD-SOURCE-UNREACHABLE", "close 1013"]);
    let mut it = Scenario::new();
    it.hello(true);
    it.begin(None);
    let failed = it.apply(Event::Hydration(Step::Failed(Failure::TooSlow)));
    assert_eq!(failed, ["error WD-CLIENT-TOO-SLOW", "close 4418"]);
    let mut it = Scenario::new();
    it.hello(true);
    it.begin(None);
    let failure = Failure::NotCaptured { subscription: "s1".into(), table: "public.t".into() };
    assert_eq!(
        it.apply(Event::Hydration(Step::Failed(failure))),
        ["error WD-TABLE-NOT-CAPTURED", "close 4403"]
    );
}

#[test]
fn a_session_that_falls_behind_reads_elsewhere_and_comes_back() {
    let mut it = Scenario::live();
    it.apply(Event::Tail { items: Err(Behind), routed: position(200) });
    assert_eq!(it.session.state(), "catching_up");
    assert_eq!(it.private(100, &[150], 150, false), ["schema", "tx@150"]);
    assert_eq!(it.private(150, &[], 200, true), ["live@200"]);
    let large = Item { content: Content::Large, ..item(210, 200) };
    assert_eq!(it.tail(vec![item(205, 200), large], 210), ["tx@205"]);
    assert_eq!(it.private(205, &[210], 210, true), ["tx@210", "live@210"]);
}

#[test]
fn authors_get_their_own_frame_and_others_skip_what_is_only_for_authors() {
    let mut it = Scenario::live();
    let own = format!(r#"{{"type":"tx","own":true,"cursor":"{}"}}"#, position(110));
    let mine = Item { own: vec![("me".into(), own.into())], content: Content::AuthorsOnly, ..item(110, 100) };
    let others =
        Item { own: vec![("you".into(), "{}".into())], content: Content::AuthorsOnly, ..item(120, 100) };
    assert_eq!(it.tail(vec![mine, others], 120), ["tx@110"]);
    assert_eq!(it.session.cursor(), position(120));
}

#[test]
fn own_changes_are_echoed_until_live_and_when_they_began_before_the_connection() {
    let table = Arc::new(table("t"));
    let mine = |after: u64, lsn: u64| {
        let transaction = insert(&table, lsn, Some("me"));
        let slice = Slice { head: transaction.head, changes: Changes::whole(transaction), last: true };
        PrivateRead { slices: vec![slice], ..read(after, &[], lsn, false) }
    };
    let mut it = Scenario::new();
    let echoed = |it: &mut Scenario, after, lsn| {
        it.session.reading();
        let mut actions = Vec::new();
        it.session.apply(Event::Private(Ok(mine(after, lsn))), it.now, &mut actions);
        let last = actions.iter().rev().find_map(|action| match action {
            Action::Send(frame) => Some(serde_json::from_str::<Value>(frame).unwrap()),
            _ => None,
        });
        let last = last.unwrap();
        assert_eq!(last["own"], true, "always confirmed");
        !last["changes"].as_array().unwrap().is_empty()
    };
    it.hello(true);
    it.begin(Some(50));
    it.apply(Event::FrontierKnown);
    // The helper's transactions have their LSN as id: those below 80 began before the client connected.
    it.session.client().unwrap().frontier.store(80, Ordering::Release);
    assert!(echoed(&mut it, 50, 60));
    assert!(echoed(&mut it, 60, 90), "not live yet");
    assert_eq!(it.private(90, &[], 95, true), ["live@95"]);
    it.apply(Event::Tail { items: Err(Behind), routed: position(99) });
    assert!(!echoed(&mut it, 95, 97), "the client is there and has it");
    it.session.client().unwrap().frontier.store(200, Ordering::Release);
    assert!(echoed(&mut it, 97, 98), "it began before the client connected, however late it became durable");
}

/// The rows of a snapshot may be older than what the client did itself since it connected.
#[test]
fn after_a_snapshot_own_changes_are_told_until_it_is_known_what_began_before() {
    let mut it = Scenario::live();
    it.frame(ClientFrame::Subscribe(vec![subscription("s2", "u")]));
    let mut actions = Vec::new();
    it.session.apply(Event::Hydration(ended(100, 100)), it.now, &mut actions);
    assert!(actions.contains(&Action::AskFrontier), "{:?}", describe(&actions));
    assert!(it.session.client().unwrap().gets_own(u64::MAX - 1), "nobody knows yet which began before");
    assert!(it.private(100, &[], 100, true).is_empty(), "it is not live before it is known");
    it.session.client().unwrap().frontier.store(200, Ordering::Release);
    it.apply(Event::FrontierKnown);
    assert_eq!(it.private(100, &[], 100, true), ["live@100"]);
    assert!(!it.session.client().unwrap().gets_own(200));
}

#[test]
fn a_gap_that_only_seems_one_is_bridged_by_a_heartbeat() {
    let mut it = Scenario::live();
    assert!(it.tail(Vec::new(), 150).is_empty());
    it.apply(Event::Woken);
    assert_eq!(it.tail(vec![item(160, 140)], 160), ["heartbeat@150", "tx@160"]);
}

#[test]
fn a_quiet_session_gets_heartbeats_with_the_newest_cursor() {
    let mut it = Scenario::live();
    it.tail(Vec::new(), 100);
    assert_eq!(it.later(15 * SECOND).apply(Event::Tick), ["ping"], "something was sent: `live`");
    assert_eq!(it.session.want(), Want::Nothing);
    it.apply(Event::Heard);
    assert_eq!(it.later(15 * SECOND).apply(Event::Tick), ["ping"]);
    assert_eq!(it.tail(Vec::new(), 180), ["heartbeat@180"]);
    for lsn in [190, 200] {
        it.apply(Event::Heard);
        assert_eq!(it.later(15 * SECOND).apply(Event::Tick), ["ping"]);
        let beat = format!("heartbeat@{lsn}");
        assert_eq!(it.tail(Vec::new(), lsn), [beat], "with every beat: a heartbeat is no news");
    }
    it.apply(Event::Woken);
    assert_eq!(it.tail(vec![item(210, 200)], 210), ["tx@210"]);
    it.tail(Vec::new(), 210);
    it.apply(Event::Heard);
    assert_eq!(it.later(15 * SECOND).apply(Event::Tick), ["ping"]);
    assert_eq!(it.session.want(), Want::Nothing, "a transaction was sent meanwhile");
}

#[test]
fn a_client_that_gives_no_sign_of_life_is_let_go() {
    let mut it = Scenario::live();
    for _ in 0..3 {
        assert_eq!(it.later(15 * SECOND).apply(Event::Tick)[0], "ping");
    }
    assert_eq!(it.later(15 * SECOND).apply(Event::Tick), ["close 4418"]);
}

#[test]
fn acknowledgements_are_checked_and_recorded_one_at_a_time() {
    let mut it = Scenario::live();
    let ack = |lsn| ClientFrame::Ack(After::Cursor(position(lsn)));
    assert_eq!(it.frame(ack(101)), ["error WD-CURSOR-INVALID"], "never sent");
    let inside = Position { index: 3, ..position(90) };
    assert_eq!(it.frame(ClientFrame::Ack(After::Cursor(inside))), ["error WD-CURSOR-INVALID"]);
    assert_eq!(it.frame(ack(90)), ["record@90"]);
    assert!(it.frame(ack(95)).is_empty());
    assert!(it.frame(ack(100)).is_empty());
    assert_eq!(it.apply(Event::Recorded(Ok(position(90)))), ["acked@90", "record@100"]);
    assert_eq!(it.apply(Event::Recorded(Ok(position(100)))), ["acked@100"]);
    assert_eq!(it.session.acked(), Some(position(100)));
}

#[test]
fn tables_added_while_connected_come_with_their_own_snapshot() {
    let mut it = Scenario::live();
    let more = |id: &str, table: &str| ClientFrame::Subscribe(vec![subscription(id, table)]);
    assert_eq!(it.frame(more("s1", "u")), ["error WD-SUBSCRIPTION-INVALID"], "the id is taken");
    assert_eq!(it.frame(more("s2", "u")), ["attach 2", "hydrate late"]);
    assert_eq!(it.session.want(), Want::Nothing);
    assert!(it.frame(more("s3", "v")).is_empty(), "waits for the snapshot that runs");
    let begun = Step::Begun { id: "1".into(), n: 0, cursor: position(110), tables: Vec::new() };
    assert_eq!(
        it.apply(Event::Hydration(begun)),
        ["snapshot_begin@100"],
        "the stream's cursor: the client stores it, and 100 to 110 is still to come for `t`"
    );
    assert_eq!(
        it.apply(Event::Hydration(ended(110, 110))),
        ["snapshot_end@100", "attach 3", "hydrate late"],
        "then the next begins"
    );
    assert_eq!(it.apply(Event::Hydration(ended(110, 110))), ["snapshot_end@100"]);
    assert_eq!(it.session.cursor(), position(100), "the stream goes on where it was");
    assert_eq!(it.frame(more("s4", "w")), ["error WD-SUBSCRIPTION-INVALID"], "more than are allowed");
    assert_eq!(it.frame(ClientFrame::Unsubscribe(vec!["s1".into(), "s2".into()])), ["attach 1"]);
}

#[test]
fn a_table_added_that_is_not_captured_leaves_the_session_as_it_was() {
    let mut it = Scenario::live();
    let more = |id: &str, table: &str| ClientFrame::Subscribe(vec![subscription(id, table)]);
    assert_eq!(it.frame(more("s2", "nowhere")), ["attach 2", "hydrate late"]);
    assert!(it.frame(more("s3", "u")).is_empty(), "waits");
    let missing =
        || Step::Failed(Failure::NotCaptured { subscription: "s2".into(), table: "public.nowhere".into() });
    assert_eq!(
        it.apply(Event::Hydration(missing())),
        ["error WD-TABLE-NOT-CAPTURED", "attach 1", "attach 2", "hydrate late"],
        "and the one that waited is taken"
    );
    assert!(it.session.selection.has("s3") && !it.session.selection.has("s2"));
    assert_eq!(it.apply(Event::Hydration(missing())), ["error WD-TABLE-NOT-CAPTURED", "attach 1"]);
    assert_eq!(it.private(100, &[150], 150, true), ["schema", "tx@150", "live@150"], "the rest goes on");
}

#[test]
fn a_read_from_before_a_new_snapshot_is_not_used() {
    let mut it = Scenario::live();
    it.apply(Event::Tail { items: Err(Behind), routed: position(200) });
    it.session.reading();
    it.apply(Event::Hydration(ended(0, 0)));
    it.session.at = position(300);
    assert!(it.apply(Event::Private(Ok(read(100, &[150], 150, true)))).is_empty());
    assert_eq!(it.session.want(), Want::Private(position(300)));
}

#[test]
fn every_end_has_its_close_code() {
    for (event, expected) in [
        (Event::Stop { retry_ms: 250 }, &["goaway", "close 1012"][..]),
        (Event::Replaced, &["error WD-CLIENT-REPLACED", "close 4409"]),
        (Event::WriteTimedOut, &["close 4418"]),
        (Event::Gone, &["close 0"]),
        (Event::Private(Err(Code::HistoryUnreachable)), &["error WD-HISTORY-UNREACHABLE", "close 1013"]),
        (
            Event::Frame(Err(Refusal::new(Code::FrameTooLarge, String::new()))),
            &["error WD-FRAME-TOO-LARGE", "close 4413"],
        ),
        (
            Event::Frame(Err(Refusal::new(Code::FrameInvalid, String::new()))),
            &["error WD-FRAME-INVALID", "close 4400"],
        ),
        (
            Event::Frame(Err(Refusal::new(Code::NotSupportedYet, String::new()))),
            &["error WD-NOT-SUPPORTED-YET"],
        ),
    ] {
        assert_eq!(Scenario::live().apply(event), expected);
    }
    let mut it = Scenario::live();
    let flood = (0..FRAMES_MAX).map(|_| it.frame(ClientFrame::Ping(None))).last().unwrap();
    assert_eq!(flood, ["error WD-TOO-MANY-FRAMES", "close 4429"]);
}
