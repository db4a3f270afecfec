//! Tables whose rule does not fit them for a while, as the snapshots show it.

use waldelta_wal::{Change, Operation, Table};

use super::resets::{behind, read_of};
use super::*;
use crate::shapes::Shown;
use crate::testing::{change, reset_change, rule, schema_change};

/// The rows with this id, of whatever there is.
fn of_id() -> Grant {
    crate::testing::grant(&[rule("public.*", None, Some("id = 7"))], serde_json::json!({}))
}

/// A table that the rule fits, or does not; its versions say which shape it is.
fn shape(name: &str, version: u32, fits: bool) -> Arc<Table> {
    let mut shape = Table { version, ..table(name) };
    if !fits {
        shape.columns[0].name = "number".into();
    }
    Arc::new(shape)
}

fn row(table: &Arc<Table>) -> Change {
    change(0, Operation::Insert, table, 7)
}

fn selection(pattern: &str) -> Selection {
    Selection::new(vec![subscription("all", pattern)], of_id())
}

/// What a snapshot of these tables shows.
fn shown(tables: &[Arc<Table>]) -> Shown {
    Shown::of(&selection("*"), tables.iter().map(|table| &**table))
}

fn ended_at(lsn: u64) -> Event {
    let Step::Ended { consistent_at, tables, overlap } = ended(lsn, lsn) else { unreachable!() };
    let tables_of = Tables { selection: selection("*"), part: Part::All };
    let overlap = Overlap { tables: tables_of, ..overlap };
    Event::Hydration(Step::Ended { consistent_at, tables, overlap })
}

fn step_of(tables: &[Arc<Table>]) -> Event {
    Event::Hydration(Step::Shown(shown(tables)))
}

impl Scenario {
    fn hello_with(&mut self, pattern: &str, after: Option<u64>, access: Option<String>) -> Vec<String> {
        self.session.entrance = Entrance::Open(of_id());
        self.frame(ClientFrame::Hello(Hello {
            client_id: "me".into(),
            token: None,
            after: after.map(|lsn| After::Cursor(position(lsn))),
            access,
            subscriptions: vec![subscription("all", pattern)],
            include_own: false,
            snapshot: true,
            snapshot_from: None,
        }));
        self.apply(Event::Attached(position(100)));
        self.apply(Event::FrontierKnown);
        self.session.client().unwrap().frontier.store(0, Ordering::Release);
        self.begin(after)
    }

    /// A live session that has taken a snapshot of these tables.
    fn shown(tables: &[Arc<Table>]) -> Self {
        let mut it = Self::new();
        assert_eq!(it.hello_with("*", None, None), ["welcome", "hydrate all"]);
        assert!(it.apply(Event::Hydration(Step::Shown(shown(tables).whole()))).is_empty());
        let told = it.apply(ended_at(100));
        let is_lacking = shown(tables).lacks_any();
        assert_eq!(told, ["access", "snapshot_end@100"][usize::from(!is_lacking)..]);
        assert_eq!(it.private(100, &[], 100, true), ["live@100"]);
        it
    }

    /// Reads a transaction of these changes by itself.
    fn reads(&mut self, lsn: u64, changes: Vec<Change>) -> Vec<String> {
        self.reads_with(lsn, changes, Shapes::default())
    }

    fn reads_with(&mut self, lsn: u64, changes: Vec<Change>, shapes: Shapes) -> Vec<String> {
        let cursor = self.session.cursor();
        behind(self);
        let Event::Private(Ok(read)) = read_of(cursor.commit_lsn.0, &[(lsn, changes)], lsn) else {
            unreachable!()
        };
        self.apply(Event::Private(Ok(PrivateRead { shapes, ..read })))
    }
}

#[test]
fn a_table_that_a_snapshot_left_out_begins_anew_with_its_first_change() {
    let mut it = Scenario::shown(&[shape("t", 0, false), shape("u", 0, true)]);
    let (t, u) = (shape("t", 1, true), shape("u", 1, true));
    assert_eq!(it.reads(110, vec![row(&u)]), ["schema", "tx@110"]);
    assert_eq!(it.reads(120, vec![row(&t)]), ["reset public.t", "hydrate t of 120"]);
    it.apply(step_of(std::slice::from_ref(&t)));
    assert_eq!(it.apply(ended_at(120)), ["access", "snapshot_end@110"]);
    assert_eq!(it.session.access(), of_id().fingerprint());
    assert_eq!(it.reads(130, vec![row(&t)]), ["schema", "tx@130"], "once");
}

#[test]
fn a_ready_frame_of_a_table_that_was_left_out_is_not_taken() {
    let mut it = Scenario::shown(&[shape("t", 0, false)]);
    let of_table = |name: &str| {
        let frame = crate::wire::server::schema(&table(name), None);
        let schemas = vec![crate::scope::SchemaFrame { oid: table(name).oid, version: 1, frame }];
        vec![Item { schemas, ..item(110, 100) }]
    };
    assert!(it.tail(of_table("t"), 110).is_empty());
    assert_eq!(it.session.want(), Want::Private(position(100)));
    let mut it = Scenario::shown(&[shape("t", 0, false)]);
    assert_eq!(it.tail(of_table("u"), 110), ["schema", "tx@110"]);
}

#[test]
fn a_table_that_its_first_change_shows_unfit_is_dropped() {
    let mut it = Scenario::shown(&[shape("t", 0, true)]);
    let (unfit, fits) = (shape("t", 1, false), shape("t", 2, true));
    assert_eq!(it.reads(110, vec![row(&unfit)]), ["reset public.t", "hydrate t of 110"]);
    it.apply(step_of(std::slice::from_ref(&unfit)));
    assert_eq!(it.apply(ended_at(110)), ["access", "snapshot_end@100"]);
    assert!(it.session.access().len() > of_id().fingerprint().len());
    assert_eq!(it.reads(120, vec![row(&unfit)]), ["heartbeat@120"]);
    // It fits again, whether history has told a shape or not.
    let again = vec![schema_change(0, &fits), Change { seq: 1, ..row(&fits) }];
    let shapes = || [unfit.clone(), fits.clone()].into_iter().collect::<Shapes>();
    assert_eq!(it.reads_with(130, again, shapes()), ["reset public.t", "hydrate t of 130"]);
    it.apply(step_of(std::slice::from_ref(&fits)));
    it.apply(ended_at(130));
    // A table that comes later, and never fitted, is not named.
    assert_eq!(it.reads(140, vec![row(&shape("v", 1, false))]), ["heartbeat@140"]);
}

#[test]
fn what_the_snapshot_shows_goes_before_what_history_knew() {
    // Altered after its last change: the client has it already when history learns of it.
    let mut it = Scenario::shown(&[shape("t", 0, true)]);
    let (before, after) = (shape("t", 1, false), shape("t", 2, true));
    let shapes = [before, after.clone()].into_iter().collect();
    let told = it.reads_with(110, vec![schema_change(0, &after), row(&after)], shapes);
    assert_eq!(told, ["schema", "tx@110"]);
    // And the other way: it did not fit when the snapshot was taken, and fits now by a shape that is no new one.
    let mut it = Scenario::shown(&[shape("t", 0, false)]);
    assert_eq!(it.reads(110, vec![row(&after)]), ["reset public.t", "hydrate t of 110"]);
    // The snapshot need not have it, where it joins the publication again.
    assert_eq!(it.apply(ended_at(105)), ["access", "snapshot_end@100"]);
    assert_eq!(it.reads(110, vec![row(&after)]), ["schema", "tx@110"]);
}

#[test]
fn a_table_that_got_another_name_and_its_own_again_begins_anew() {
    let mut it = Scenario::shown(&[shape("t", 0, true)]);
    let other = table("other");
    let elsewhere = Arc::new(Table { name: other.name, ..Table::clone(&shape("t", 2, true)) });
    let back = shape("t", 3, true);
    // What is told of it under its own name is not all that happened.
    let shapes = || Shapes::of_renamed([shape("t", 1, true), back.clone()], [elsewhere.clone()]);
    let granted = crate::testing::grant(&[rule("t", None, Some("id = 7"))], serde_json::json!({}));
    it.session.selection = it.session.selection.granted(granted);
    let told = it.reads_with(120, vec![schema_change(0, &back), row(&back)], shapes());
    assert_eq!(told, ["reset public.t", "hydrate t of 120"]);
}

#[test]
fn what_a_table_was_called_before_the_snapshot_is_not_named() {
    let mut it = Scenario::shown(&[shape("t", 0, true)]);
    let before = Arc::new(Table { name: table("other").name, ..Table::clone(&shape("t", 2, false)) });
    assert!(it.reads(110, vec![row(&before)]).is_empty());
    assert_eq!(it.reads(120, vec![row(&shape("t", 3, false))]), ["reset public.t", "hydrate t of 120"]);
}

#[test]
fn a_client_that_comes_back_still_lacks_what_it_lacked() {
    let left = Scenario::shown(&[shape("t", 0, false)]).session.access();
    let t = shape("t", 1, true);
    let mut it = Scenario::new();
    assert_eq!(it.hello_with("*", Some(100), Some(left.clone())), ["welcome"]);
    assert_eq!(it.session.access(), left, "it is told the same again");
    assert_eq!(it.private(100, &[], 100, true), ["live@100"]);
    assert_eq!(it.reads(110, vec![row(&t)]), ["reset public.t", "hydrate t of 110"]);
    // One that lacked nothing goes on; one that lacked too much to be told begins anew.
    let mut it = Scenario::new();
    it.hello_with("*", Some(100), Some(of_id().fingerprint()));
    assert_eq!(it.reads(110, vec![row(&t)]), ["schema", "tx@110"]);
    let mut it = Scenario::new();
    let too_much = format!("{}.*", of_id().fingerprint());
    assert_eq!(it.hello_with("*", Some(100), Some(too_much)), ["welcome", "reset", "hydrate all"]);
    // Who begins anew is told that it lacks nothing any more.
    let mut it = Scenario::new();
    it.hello_with("*", Some(100), Some(left));
    it.session.reset(crate::start::Reset::EpochChanged, position(100), &mut Vec::new());
    it.apply(Event::Hydration(Step::Shown(shown(&[t]).whole())));
    assert_eq!(it.apply(ended_at(100)), ["access", "snapshot_end@100"]);
}

#[test]
fn a_client_that_comes_back_loses_a_table_that_it_names_and_does_not_learn_of_another() {
    let unfit = shape("t", 1, false);
    for (pattern, told) in [("t", &["reset public.t", "hydrate t of 110"][..]), ("*", &[])] {
        let mut it = Scenario::new();
        it.hello_with(pattern, Some(100), None);
        assert_eq!(it.private(100, &[], 100, true), ["live@100"]);
        assert_eq!(it.reads(110, vec![row(&unfit)]), told, "{pattern}");
    }
}

#[test]
fn a_table_that_is_made_and_does_not_fit_is_not_named_and_comes_when_it_does() {
    let mut it = Scenario::shown(&[shape("u", 0, true)]);
    let shapes = || [shape("t", 0, false)].into_iter().collect::<Shapes>();
    assert_eq!(it.reads_with(110, vec![reset_change(0, "t")], shapes()), ["access"]);
    assert_eq!(it.reads(120, vec![row(&shape("t", 1, true))]), ["reset public.t", "hydrate t of 120"]);
    // One of a name that the client has is dropped.
    let mut it = Scenario::shown(&[shape("t", 0, true)]);
    let told = it.reads_with(110, vec![reset_change(0, "t")], shapes());
    assert_eq!(told, ["reset public.t", "hydrate t of 110"]);
}
