//! What may be seen changes: while connected, while away, and in the middle of something.

use waldelta_wal::Table;

use super::*;
use crate::subscription::Misfit;
use crate::testing::rule;

/// What these rules give, each of a table, with a filter of rows where there is one.
fn grant(rules: &[(&str, Option<&str>)]) -> Grant {
    let rules: Vec<_> = rules.iter().map(|(table, filter)| rule(table, None, *filter)).collect();
    crate::testing::grant(&rules, serde_json::json!({}))
}

fn both() -> Grant {
    grant(&[("t", None), ("u", None)])
}

impl Scenario {
    /// A live session with these subscriptions, that was granted this.
    fn granted(grant: Grant, tables: &[&str]) -> Self {
        let mut it = Self::new();
        it.session.entrance = Entrance::Open(grant);
        it.hello_to(tables, None, true);
        it.apply(Event::Attached(position(100)));
        it.apply(Event::FrontierKnown);
        it.session.client().unwrap().frontier.store(0, Ordering::Release);
        it.begin(Some(100));
        assert_eq!(it.private(100, &[], 100, true), ["live@100"]);
        it
    }

    fn hello_to(&mut self, tables: &[&str], access: Option<String>, snapshot: bool) -> Vec<String> {
        let hello = Hello {
            client_id: "me".into(),
            token: None,
            after: Some(After::Cursor(position(100))),
            access,
            subscriptions: tables.iter().map(|table| subscription(table, table)).collect(),
            include_own: false,
            snapshot,
            snapshot_from: None,
        };
        self.frame(ClientFrame::Hello(hello))
    }

    fn regrant(&mut self, grant: Grant) -> Vec<String> {
        self.apply(Event::Regranted(grant))
    }
}

#[test]
fn a_table_that_may_not_be_seen_any_more_is_reset_and_not_read() {
    let mut it = Scenario::granted(both(), &["t", "u"]);
    let told = it.regrant(grant(&[("t", None)]));
    assert_eq!(told, ["attach 2", "reset public.u", "hydrate u of 100"]);
    assert!(
        !it.session.selection.matches(&table("u").name) && it.session.selection.matches(&table("t").name)
    );
    assert_eq!(it.session.want(), Want::Nothing, "nothing is told before the snapshot");
    assert_eq!(it.apply(Event::Hydration(ended(100, 100))), ["access", "snapshot_end@100"]);
    assert_eq!(it.private(100, &[110], 110, true), ["schema", "tx@110", "live@110"]);
    // And it comes again.
    assert_eq!(it.regrant(both()), ["attach 2", "reset public.u", "hydrate u of 110"]);
}

#[test]
fn other_rows_of_a_table_are_read_anew_and_the_same_are_not() {
    let mut it = Scenario::granted(both(), &["t"]);
    assert!(it.regrant(both()).is_empty());
    assert_eq!(it.regrant(grant(&[("t", None)])), ["attach 1", "access"], "it does not follow the other");
    assert_eq!(it.private(100, &[], 100, true), ["live@100"]);
    let some = grant(&[("t", Some("id = 1"))]);
    assert_eq!(it.regrant(some.clone()), ["attach 1", "reset public.t", "hydrate t of 100"]);
    assert!(it.regrant(some).is_empty(), "it has that already");
}

#[test]
fn other_columns_are_read_anew_and_one_that_is_asked_for_by_name_is_not_there_any_more() {
    let of =
        |columns: &[&str]| crate::testing::grant(&[rule("t", Some(columns), None)], serde_json::json!({}));
    let mut it = Scenario::granted(of(&["v"]), &["t"]);
    assert_eq!(it.regrant(of(&["id"])), ["attach 1", "reset public.t", "hydrate t of 100"]);
    let mut it = Scenario::granted(of(&["v"]), &["t"]);
    let columns = Some(["v".to_owned()].into());
    it.session.selection =
        Selection::new(vec![Subscription { columns, ..subscription("t", "t") }], of(&["v"]));
    // What is left of the subscription is nothing; what is left of the session goes on.
    assert_eq!(it.regrant(of(&["id"])), ["attach 1", "reset public.t", "hydrate t of 100"]);
    assert_eq!(
        it.apply(Event::Hydration(Step::Failed(misfit("t")))),
        ["error WD-FILTER-INVALID", "attach 0", "hydrate t of 100"]
    );
    assert_eq!(it.apply(Event::Hydration(ended(100, 100))), ["access", "snapshot_end@100"]);
    assert_eq!(it.private(100, &[110], 110, true), ["live@110"]);
}

fn misfit(subscription: &str) -> Failure {
    let error = Box::new(crate::filter::FilterError::NoColumn { column: "v".into() });
    Failure::Misfit(Misfit { subscription: subscription.into(), table: table("t").name, error })
}

#[test]
fn a_filter_on_a_column_that_may_not_be_seen_any_more_ends_its_subscription_alone() {
    let of =
        |columns: &[&str]| crate::testing::grant(&[rule("t", Some(columns), None)], serde_json::json!({}));
    let mut it = Scenario::granted(of(&["v"]), &["t"]);
    let columns = Some(["id".to_owned()].into());
    let one = Subscription { columns, ..crate::testing::filtered("one", "t", "v = 'x'") };
    let columns = Some(["id".to_owned()].into());
    let other = Subscription { columns, ..subscription("other", "t") };
    it.session.selection = Selection::new(vec![one, other], of(&["v"]));
    assert_eq!(it.regrant(of(&["id"])), ["attach 2", "reset public.t", "hydrate t of 100"]);
    let mut actions = Vec::new();
    it.session.apply(Event::Hydration(Step::Failed(misfit("one"))), it.now, &mut actions);
    let Action::Send(error) = &actions[0] else { panic!("{actions:?}") };
    let error: Value = serde_json::from_str(error).unwrap();
    assert_eq!((&error["subscription"], &error["fatal"]), (&"one".into(), &false.into()));
    assert_eq!(describe(&actions[1..]), ["attach 1", "hydrate t of 100"]);
    assert!(it.session.selection.has("other") && !it.session.selection.has("one"));
    // Of a table that was reset because rows of it changed, it is the table that is another.
    let mut it = Scenario::granted(of(&["v"]), &["t"]);
    let reset = crate::testing::reset_change(0, "t");
    super::resets::behind(&mut it);
    it.apply(super::resets::read_of(100, &[(160, vec![reset])], 160));
    let failed = it.apply(Event::Hydration(Step::Failed(misfit("t"))));
    assert_eq!(failed, ["error WD-FILTER-INVALID", "close 4403"]);
}

#[test]
fn who_follows_whatever_there_is_waits_for_what_that_is() {
    let mut it = Scenario::granted(both(), &["*"]);
    assert_eq!(it.regrant(grant(&[("t", None)])), ["list tables"]);
    assert_eq!((it.session.want(), it.session.listens()), (Want::Nothing, Listens::Nothing));
    assert!(it.regrant(grant(&[("u", None)])).is_empty(), "the last one counts");
    assert_eq!(it.session.grant(), Some(&grant(&[("u", None)])));
    let tables = || Arc::new(["t", "u", "v"].map(|name| Arc::new(table(name))).into_iter().collect());
    assert_eq!(it.apply(Event::Tables(Ok(tables()))), ["attach 1", "reset public.t", "hydrate t of 100"]);
    assert!(it.apply(Event::Tables(Ok(tables()))).is_empty(), "it was asked twice");
    assert_eq!(it.apply(Event::Hydration(ended(100, 100))), ["access", "snapshot_end@100"]);

    // Back before it is known.
    assert_eq!(it.regrant(both()), ["list tables"]);
    assert!(it.regrant(grant(&[("u", None)])).is_empty());
    assert_eq!(it.session.want(), Want::Private(position(100)));
    assert!(it.apply(Event::Tables(Ok(tables()))).is_empty());
    assert_eq!(it.regrant(both()), ["list tables"]);
    let failed = it.apply(Event::Tables(Err(Code::SourceUnreachable)));
    assert_eq!(failed, ["error WD-SOURCE-UNREACHABLE", "close 1013"]);
}

#[test]
fn what_was_read_before_the_change_is_not_told_after_it() {
    let mut it = Scenario::granted(both(), &["*"]);
    assert_eq!(it.session.want(), Want::Tail(position(100)));
    it.regrant(grant(&[("u", None)]));
    let items = Ok(vec![Arc::new(item(110, 100))]);
    assert!(it.apply(Event::Tail { items, routed: position(110) }).is_empty());
    let mut it = Scenario::granted(both(), &["*"]);
    it.apply(Event::Woken);
    it.session.fall_back();
    assert_eq!(it.session.want(), Want::Private(position(100)));
    it.session.reading();
    it.regrant(grant(&[("u", None)]));
    assert!(it.apply(Event::Private(Ok(read(100, &[110], 110, true)))).is_empty());
    let tables = Arc::new(["t", "u"].map(|name| Arc::new(table(name))).into_iter().collect());
    assert_eq!(it.apply(Event::Tables(Ok(tables))), ["attach 1", "reset public.t", "hydrate t of 100"]);
    assert_eq!(it.apply(Event::Hydration(ended(100, 100))), ["access", "snapshot_end@100"]);
    assert_eq!(it.private(100, &[110], 110, true), ["live@110"], "it is read again, as it may be seen now");
}

#[test]
fn in_the_middle_of_a_transaction_it_begins_again() {
    let mut it = Scenario::granted(both(), &["t", "u"]);
    it.session.fall_back();
    it.session.reading();
    let inside = Position { index: 0, ..position(110) };
    let mut half = read(100, &[110], 110, false);
    half.slices[0].last = false;
    half.through = inside;
    assert_eq!(it.apply(Event::Private(Ok(half))), ["schema", "tx@110"]);
    assert_eq!((it.session.cursor(), it.session.want()), (position(100), Want::Private(inside)));
    assert_eq!(it.regrant(grant(&[("t", None)])), ["attach 2", "reset public.u", "hydrate u of 100"]);
    assert_eq!(it.apply(Event::Hydration(ended(100, 100))), ["access", "snapshot_end@100"]);
    assert_eq!(it.private(100, &[110], 110, true), ["schema", "tx@110", "live@110"], "all of it, once more");
}

#[test]
fn a_snapshot_that_is_under_way_ends_with_the_session() {
    let mut it = Scenario::new();
    it.session.entrance = Entrance::Open(both());
    it.hello_to(&["t"], None, true);
    it.begin(None);
    assert_eq!(it.session.state(), "hydrating");
    assert!(it.regrant(both()).is_empty());
    assert_eq!(it.regrant(grant(&[("u", None)])), ["error WD-PERMISSION-CHANGED", "close 1013"]);
    let mut it = Scenario::granted(both(), &["t"]);
    assert_eq!(it.apply(Event::PermissionChanged), ["error WD-PERMISSION-CHANGED", "close 1013"]);
}

#[test]
fn before_it_has_begun_another_grant_just_counts() {
    let mut it = Scenario::new();
    it.session.entrance = Entrance::Open(both());
    it.hello_to(&["t", "u"], None, true);
    assert_eq!(it.regrant(grant(&[("u", None)])), ["attach 2"]);
    assert_eq!(it.begin(Some(100)), ["welcome"]);
    assert!(!it.session.selection.matches(&table("t").name));
}

#[test]
fn who_wants_no_snapshot_cannot_go_on() {
    let mut it = Scenario::new();
    it.session.entrance = Entrance::Open(both());
    it.hello_to(&["t"], None, false);
    it.begin(Some(100));
    let told = it.regrant(grant(&[("t", Some("id = 1"))]));
    assert_eq!(told, ["attach 1", "error WD-CURSOR-NOT-RESUMABLE", "close 4410"]);
}

#[test]
fn who_was_away_while_it_changed_begins_anew() {
    let of = |grant: &Grant| Some(grant.fingerprint());
    let some = grant(&[("t", Some("id = 1"))]);
    for (access, snapshot, expected) in [
        (of(&both()), true, &["welcome"][..]),
        (None, true, &["welcome"][..]),
        (of(&some), true, &["welcome", "reset", "hydrate all"][..]),
        (Some("old".to_owned()), true, &["welcome", "reset", "hydrate all"][..]),
        (of(&some), false, &["error WD-CURSOR-NOT-RESUMABLE", "close 4410"][..]),
    ] {
        let mut it = Scenario::new();
        it.session.entrance = Entrance::Open(both());
        it.hello_to(&["t"], access.clone(), snapshot);
        assert_eq!(it.begin(Some(100)), expected, "{access:?}");
    }
}

#[test]
fn a_fresh_token_with_other_claims_changes_what_may_be_seen() {
    let mut it = Scenario::granted(both(), &["t"]);
    let identity = crate::session::state::identity::identity("ann", it.now, None);
    it.session.identity = Some(identity.clone());
    let told = it.apply(Event::Authenticated(Ok(Admitted { identity, grant: grant(&[("u", None)]) })));
    assert_eq!(told, ["authenticated", "attach 1", "reset public.t", "hydrate t of 100"]);
}

/// A shape that no rule of `id` fits.
fn unfit(name: &str, version: u32) -> Arc<Table> {
    let mut shape = Table { version, ..table(name) };
    shape.columns[0].name = "number".into();
    Arc::new(shape)
}

/// What one may see of all tables: rows of this id.
fn of_id(id: u32) -> Grant {
    grant(&[("public.*", Some(&format!("id = {id}")))])
}

#[test]
fn a_table_that_no_rule_fits_is_not_named() {
    let mut it = Scenario::granted(of_id(1), &["*"]);
    assert_eq!(it.regrant(of_id(2)), ["list tables"]);
    let tables = Arc::new([Arc::new(table("t")), unfit("secrets", 1)].into_iter().collect());
    assert_eq!(it.apply(Event::Tables(Ok(tables))), ["attach 1", "reset public.t", "hydrate t of 100"]);

    let mut it = Scenario::granted(of_id(1), &["*"]);
    it.session.fall_back();
    it.session.reading();
    let changes = vec![crate::testing::reset_change(0, "secrets")];
    let read = PrivateRead { shapes: [unfit("secrets", 1)].into_iter().collect(), ..read_of(110, changes) };
    assert_eq!(it.apply(Event::Private(Ok(read))), ["access", "live@110"], "its copy lacks one more");
}

#[test]
fn a_table_that_its_rule_does_not_fit_any_more_is_reset() {
    let mut it = Scenario::granted(of_id(1), &["t"]);
    it.session.fall_back();
    it.session.reading();
    let (before, after) = (Arc::new(table("t")), unfit("t", 2));
    let changes = vec![crate::testing::schema_change(0, &after)];
    let shapes = [before, after].into_iter().collect();
    let told = it.apply(Event::Private(Ok(PrivateRead { shapes, ..read_of(110, changes) })));
    assert_eq!(told, ["reset public.t", "hydrate t of 110"]);
    assert_eq!(it.apply(Event::Hydration(ended(120, 120))), ["access", "snapshot_end@100"]);
}

/// A read of one transaction.
fn read_of(lsn: u64, changes: Vec<waldelta_wal::Change>) -> PrivateRead {
    let transaction =
        Arc::new(waldelta_history::Transaction { head: crate::testing::head(lsn, lsn), changes });
    let slice = Slice { head: transaction.head, changes: Changes::whole(transaction), last: true };
    PrivateRead { slices: vec![slice], ..read(100, &[], lsn, true) }
}
