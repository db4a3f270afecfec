//! Subscriptions of some rows or columns of a table.

use waldelta_wal::{Operation, Table};

use super::*;
use crate::testing::{change, filtered, head};

/// A transaction at 110 of a table that has lost its column `v`, read privately after 100.
fn narrowed() -> PrivateRead {
    let mut narrow = Table { version: 2, ..table("t") };
    narrow.columns.truncate(1);
    let changes = vec![change(0, Operation::Insert, &Arc::new(narrow), 1)];
    let transaction = Arc::new(waldelta_history::Transaction { head: head(110, 110), changes });
    let slice = Slice { head: transaction.head, changes: Changes::whole(transaction), last: true };
    PrivateRead { slices: vec![slice], ..read(100, &[], 110, true) }
}

fn hello_with(it: &mut Scenario, subscriptions: Vec<Subscription>) {
    it.frame(ClientFrame::Hello(Hello {
        client_id: "me".into(),
        token: None,
        after: None,
        access: None,
        subscriptions,
        include_own: false,
        snapshot: true,
        snapshot_from: None,
    }));
}

#[test]
fn a_session_ends_where_its_filter_does_not_fit_the_table_any_more() {
    let mut it = Scenario::new();
    hello_with(&mut it, vec![filtered("s1", "t", "v = 'x'")]);
    it.begin(Some(100));
    it.session.reading();
    let mut actions = Vec::new();
    it.session.apply(Event::Private(Ok(narrowed())), it.now, &mut actions);
    assert_eq!(describe(&actions), ["error WD-FILTER-INVALID", "close 4403"]);
    let Action::Send(frame) = &actions[0] else { panic!("{actions:?}") };
    let error: Value = serde_json::from_str(frame).unwrap();
    assert_eq!((&error["subscription"], &error["fatal"]), (&"s1".into(), &true.into()));
    assert!(error["message"].as_str().unwrap().contains("public.t"), "{error}");
    assert_eq!(it.session.cursor(), position(100), "it comes back to the same place");
}

#[test]
fn one_whose_filter_fits_goes_on() {
    let mut it = Scenario::new();
    hello_with(&mut it, vec![filtered("s1", "t", "id = 1")]);
    it.begin(Some(100));
    it.apply(Event::FrontierKnown);
    it.session.reading();
    assert_eq!(it.apply(Event::Private(Ok(narrowed()))), ["schema", "tx@110", "live@110"]);
}

#[test]
fn other_rows_of_a_table_come_with_a_snapshot_of_it() {
    let mut it = Scenario::new();
    hello_with(&mut it, vec![filtered("s1", "t", "id = 1")]);
    it.begin(Some(100));
    it.apply(Event::FrontierKnown);
    assert_eq!(it.private(100, &[], 100, true), ["live@100"]);
    let more = ClientFrame::Subscribe(vec![filtered("s2", "t", "id = 2")]);
    assert_eq!(it.frame(more), ["attach 2", "hydrate late"]);
    assert_eq!(it.apply(Event::Hydration(ended(100, 100))), ["snapshot_end@100"]);
    let less = ClientFrame::Unsubscribe(vec!["s1".into()]);
    assert_eq!(it.frame(less), ["attach 1", "hydrate late"], "rows of it are the client's no more");
    assert_eq!(it.apply(Event::Hydration(ended(100, 100))), ["snapshot_end@100"]);
    let same = ClientFrame::Subscribe(vec![filtered("s3", "t", "id = 2")]);
    assert_eq!(it.frame(same), ["attach 2", "hydrate late"]);
    assert_eq!(it.apply(Event::Hydration(ended(100, 100))), ["snapshot_end@100"]);
    assert_eq!(it.frame(ClientFrame::Unsubscribe(vec!["s2".into()])), ["attach 1"], "the same rows");
    assert_eq!(it.frame(ClientFrame::Unsubscribe(vec!["s3".into()])), ["attach 0"]);
}

/// A table that joins is in no snapshot before its reset: what it looks like from now on has to be told nevertheless.
#[test]
fn a_table_is_told_again_where_other_columns_of_it_are_asked_for() {
    let mut it = Scenario::new();
    let columns = Some(["id".to_owned()].into());
    hello_with(&mut it, vec![Subscription { columns, ..subscription("s1", "t") }]);
    it.begin(Some(100));
    it.apply(Event::FrontierKnown);
    assert_eq!(it.private(100, &[110], 110, true), ["schema", "tx@110", "live@110"]);
    it.frame(ClientFrame::Subscribe(vec![subscription("s2", "t")]));
    assert_eq!(it.apply(Event::Hydration(ended(110, 110))), ["snapshot_end@110"]);
    assert_eq!(it.private(110, &[115], 125, true), ["schema", "tx@115", "live@125"]);
    // What is there anyway changes nothing.
    it.frame(ClientFrame::Subscribe(vec![subscription("s3", "t")]));
    assert_eq!(it.apply(Event::Hydration(ended(125, 125))), ["snapshot_end@125"]);
    assert_eq!(it.private(125, &[130], 130, true), ["tx@130", "live@130"]);
}
