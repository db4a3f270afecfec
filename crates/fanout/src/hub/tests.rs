//! Who is told of a transaction, and in what form.

mod audit;
mod naive;
mod turns;

use std::sync::atomic::AtomicU64;

use waldelta_history::Touched;
use waldelta_wal::{Change, Operation, Table};

use super::*;
use crate::registry::Attachment;
use crate::rules::Grant;
use crate::subscription::{Selection, Subscription};
use crate::testing::{
    at_once, change, filtered, head, message, position, reset_change, schema_change, subscription, table,
};

fn router(registry: &Registry, pace: Pace) -> Router<'_> {
    Router { registry, index: at_once(registry.index()), pace, unfollowed: 0 }
}

fn route(registry: &Registry, entry: &Entry) -> Work {
    let mut router = router(registry, Pace::of(usize::MAX));
    let work = at_once(router.route(entry));
    router.pace.wake();
    work
}

fn registry() -> Arc<Registry> {
    Arc::new(Registry::new(position(10), 1 << 20, 10_000))
}

fn attach(registry: &Arc<Registry>, id: &str, table: &str) -> Attachment {
    attach_as(registry, id, subscription("s", table))
}

fn attach_filtered(registry: &Arc<Registry>, id: &str, filter: &str) -> Attachment {
    attach_as(registry, id, filtered("s", "t", filter))
}

fn attach_as(registry: &Arc<Registry>, id: &str, subscription: Subscription) -> Attachment {
    attach_selected(registry, id, &crate::testing::everything(vec![subscription]))
}

fn attach_selected(registry: &Arc<Registry>, id: &str, selection: &Selection) -> Attachment {
    let client = Client {
        key: id.into(),
        id: id.into(),
        subject: None,
        session: 1,
        include_own: false,
        frontier: Arc::new(AtomicU64::new(u64::MAX)),
        wake: Arc::default(),
        replaced: CancellationToken::new(),
    };
    registry.attach(selection, &client).unwrap()
}

fn large(lsn: u64, touched: Option<Touched>) -> Entry {
    Entry::Large(Arc::new(Large { head: head(lsn, 3), touched }))
}

fn items(attachment: &Attachment, after: u64) -> Vec<Arc<Item>> {
    attachment.scope.read(position(after), usize::MAX).expect("the scope has what is after it")
}

#[test]
fn a_large_transaction_goes_to_the_scopes_concerned_and_to_its_authors() {
    let registry = registry();
    let [reader, both, other, author, again] =
        [("reader", "t"), ("both", "t"), ("other", "u"), ("author", "v"), ("again", "v")]
            .map(|(id, table)| attach(&registry, id, table));
    let mut others = other.scope.watch();
    others.mark_unchanged();
    let named = |id: &str| Arc::new(Author { client_id: id.into(), metadata: None });
    let touched = Touched {
        tables: vec!["t".parse().unwrap(), "not_followed".parse().unwrap()],
        authors: ["author", "both", "again", "gone"].map(named).into(),
    };
    route(&registry, &large(20, Some(touched)));
    registry.routed_to(position(20));

    for concerned in [&reader, &both] {
        let items = items(concerned, 10);
        assert_eq!((items.len(), items[0].position), (1, position(20)));
        assert_eq!(items[0].content, Content::Large);
    }
    // Nothing keeps the others from taking the router's position for theirs.
    assert!(items(&other, 10).is_empty() && !others.has_changed().unwrap());
    assert_eq!(registry.routed(), position(20));
    let told = items(&author, 10);
    assert_eq!((told.len(), &told[0].content), (1, &Content::AuthorsOnly));
    let mut ids: Vec<_> = told[0].own.iter().map(|(id, _)| &**id).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["again", "author"], "{}", again.scope.newest());
    for (_, frame) in &told[0].own {
        let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
        assert_eq!(frame["cursor"], position(20).to_string());
        assert_eq!(frame["prev"], position(10).to_string());
        assert_eq!((&frame["own"], &frame["last"]), (&true.into(), &true.into()));
        assert_eq!(frame["changes"], serde_json::json!([]));
    }

    let messages = Touched { tables: Vec::new(), authors: Vec::new() };
    let everything = attach(&registry, "everything", "*");
    route(&registry, &large(25, Some(messages)));
    assert_eq!(items(&everything, 20)[0].content, Content::Large, "there may be messages in it");
    assert!(items(&reader, 20).is_empty());

    route(&registry, &large(30, None));
    for anybody in [&reader, &other, &author] {
        let items = items(anybody, 20);
        assert_eq!((items.len(), &items[0].content), (1, &Content::Large));
    }
}

#[test]
fn a_shape_goes_to_the_scopes_of_its_table_and_a_message_to_those_of_everything() {
    let registry = registry();
    let [t, u, everything] =
        [("a", "t"), ("b", "u"), ("c", "*")].map(|(id, table)| attach(&registry, id, table));
    let (one, two) = (Arc::new(table("t")), Arc::new(Table { version: 2, ..table("t") }));
    let routed = |lsn, xid, changes: Vec<Change>| {
        route_whole(&registry, &Transaction { head: head(lsn, xid), changes });
        [&t, &u, &everything].map(|scope| items(scope, lsn - 1).first().cloned())
    };
    let versions = |item: &Option<Arc<Item>>| -> Vec<u32> {
        item.iter().flat_map(|item| &item.schemas).map(|schema| schema.version).collect()
    };
    let [of_t, of_u, of_all] = routed(20, 5, vec![schema_change(0, &two)]);
    assert_eq!((versions(&of_t), versions(&of_all), of_u.is_none()), (vec![2], vec![2], true));
    assert_eq!(of_t.unwrap().content, Content::Shapes);
    let [of_t, ..] = routed(30, 6, vec![schema_change(0, &two), change(1, Operation::Insert, &two, 1)]);
    assert_eq!(versions(&of_t), [2]);
    assert!(
        matches!(&of_t.unwrap().content, Content::Frame(_)),
        "with rows of this shape alone: a ready frame"
    );
    let [of_t, ..] = routed(40, 7, vec![change(0, Operation::Insert, &one, 1), schema_change(1, &two)]);
    assert_eq!(of_t.unwrap().content, Content::Large, "between two shapes it is cut");
    let [of_t, of_u, of_all] = routed(50, 0, vec![message(0, "hello")]);
    assert!(of_t.is_none() && of_u.is_none());
    let Content::Frame(frame) = &of_all.unwrap().content else { panic!("no frame") };
    let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
    assert_eq!((&frame["xid"], &frame["changes"][0]["op"]), (&serde_json::Value::Null, &"message".into()));
    route(&registry, &large(60, None));
    let unknown = [&t, &u, &everything].map(|scope| items(scope, 50).len());
    assert_eq!(unknown, [1, 1, 1]);
}

#[test]
fn who_wrote_a_large_transaction_is_told_to_those_alone_who_may_see_everything() {
    let some = crate::testing::grant(&[crate::testing::rule("u", None, None)], serde_json::json!({}));
    let told = [Grant::everything(), some].map(|grant| {
        let registry = registry();
        let selection = Selection::new(vec![subscription("s", "u")], grant);
        let attached = attach_selected(&registry, "author", &selection);
        let metadata = Some(r#"{"user":"42"}"#.into());
        let author = Arc::new(Author { client_id: "author".into(), metadata });
        let touched = Touched { tables: vec!["t".parse().unwrap()], authors: vec![author] };
        route(&registry, &large(20, Some(touched)));
        items(&attached, 10)[0].own[0].1.contains("metadata")
    });
    assert_eq!(told, [true, false]);
}

#[test]
fn a_change_of_shape_is_read_by_sessions_whose_rule_may_not_fit_it() {
    let registry = registry();
    let bound = |filter| {
        let some = crate::testing::grant(&[crate::testing::rule("t", None, filter)], serde_json::json!({}));
        Selection::new(vec![subscription("s", "*")], some)
    };
    let filtered = attach_selected(&registry, "a", &bound(Some("id = 1")));
    let whole = attach_selected(&registry, "b", &bound(None));
    let mut unfit = table("t");
    unfit.columns[0].name = "number".into();
    let changes = vec![schema_change(0, &Arc::new(unfit))];
    route_whole(&registry, &Transaction { head: head(20, 5), changes });
    assert_eq!(items(&filtered, 10)[0].content, Content::Large);
    assert_eq!(items(&whole, 10)[0].content, Content::Shapes);
}

#[test]
fn a_reset_is_read_by_the_sessions_that_follow_its_table() {
    let registry = registry();
    let [t, u, everything] =
        [("a", "t"), ("b", "u"), ("c", "*")].map(|(id, table)| attach(&registry, id, table));
    let of_u = Arc::new(table("u"));
    let mixed = vec![change(0, Operation::Insert, &of_u, 1), reset_change(1, "t")];
    route_whole(&registry, &Transaction { head: head(20, 5), changes: mixed });
    for concerned in [&t, &everything] {
        assert_eq!(items(concerned, 10)[0].content, Content::Large);
    }
    let Content::Frame(frame) = &items(&u, 10)[0].content else { panic!("no frame") };
    let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
    assert_eq!(frame["changes"].as_array().unwrap().len(), 1, "{frame}");

    let alone = Transaction { head: head(30, 6), changes: vec![reset_change(0, "t")] };
    route_whole(&registry, &alone);
    assert!(items(&u, 20).is_empty());
    assert_eq!((items(&t, 20).len(), items(&everything, 20).len()), (1, 1));
}

#[test]
fn what_was_left_out_concerns_nobody() {
    let registry = registry();
    let everything = attach(&registry, "a", "*");
    let skipped = change(0, Operation::Skip, &Arc::new(table("t")), 1);
    let nowhere = Change { operation: Operation::Skip, ..message(1, "hello") };
    route_whole(&registry, &Transaction { head: head(20, 5), changes: vec![skipped, nowhere] });
    assert!(items(&everything, 10).is_empty());
}

fn frame(item: &Item) -> serde_json::Value {
    let Content::Frame(frame) = &item.content else { panic!("no frame: {item:?}") };
    serde_json::from_str(frame).unwrap()
}

/// What an item tells: operation and key of each change.
fn told(item: &Item) -> Vec<(String, i64)> {
    let frame = frame(item);
    let changes = frame["changes"].as_array().unwrap().iter();
    changes.map(|it| (it["op"].as_str().unwrap().to_owned(), it["key"]["id"].as_i64().unwrap())).collect()
}

#[test]
fn sessions_that_a_change_does_not_concern_are_not_woken() {
    let registry = registry();
    let ids = 0..500i64;
    let attached: Vec<_> =
        ids.clone().map(|id| attach_filtered(&registry, &format!("c{id}"), &format!("id = {id}"))).collect();
    let mut watches: Vec<_> = attached.iter().map(|attachment| attachment.scope.watch()).collect();
    watches.iter_mut().for_each(tokio::sync::watch::Receiver::mark_unchanged);
    let t = Arc::new(table("t"));
    let changes = vec![change(0, Operation::Insert, &t, 7), change(1, Operation::Update, &t, 9)];
    let work = route(&registry, &Entry::Whole(Arc::new(Transaction { head: head(20, 5), changes })));
    registry.routed_to(position(20));
    let woken: Vec<i64> =
        ids.filter(|id| watches[usize::try_from(*id).unwrap()].has_changed().unwrap()).collect();
    assert_eq!((woken, work.evaluations), (vec![7, 9], 2), "an update without its old row has its old key");
    assert_eq!(told(&items(&attached[7], 10)[0]), [("insert".to_owned(), 7)]);
    assert_eq!(told(&items(&attached[9], 10)[0]), [("update".to_owned(), 9)]);
    assert!(items(&attached[8], 10).is_empty());
    assert_eq!(registry.routed(), position(20), "which their cursor moves to by itself");
}

#[test]
fn a_row_goes_from_one_filter_to_another() {
    let registry = registry();
    let [a, b, c, longer] =
        ["v = 'a'", "v = 'b'", "v = 'c'", "v > 'a'"].map(|filter| attach_filtered(&registry, filter, filter));
    let author = attach_filtered(&registry, "author", "id = 100");
    let t = Arc::new(table("t"));
    let by = Some(Arc::new(Author { client_id: "author".into(), metadata: None }));
    let image = |v: &str| Some(format!(r#"{{"id":1,"v":"{v}"}}"#).into());
    let moved =
        Change { data: image("b"), old_data: image("a"), author: by, ..change(0, Operation::Update, &t, 1) };
    route_whole(&registry, &Transaction { head: head(20, 5), changes: vec![moved] });
    let ops = |attachment: &Attachment| -> Vec<String> {
        items(attachment, 10).iter().flat_map(|item| told(item)).map(|(op, _)| op).collect()
    };
    assert_eq!([&a, &b, &c, &longer].map(ops), [vec!["delete"], vec!["insert"], vec![], vec!["insert"]]);
    let own = items(&author, 10);
    assert_eq!((own.len(), &own[0].content, own[0].own.len()), (1, &Content::AuthorsOnly, 1));

    // Without the old row it may have been in any of them.
    let unknown = Change { data: image("b"), ..change(0, Operation::Update, &t, 1) };
    route_whole(&registry, &Transaction { head: head(30, 6), changes: vec![unknown] });
    let ops = [&a, &b, &c, &longer].map(|attachment| told(&items(attachment, 20)[0])[0].0.clone());
    assert_eq!(ops, ["delete", "update", "delete", "update"]);
}

#[test]
fn sessions_find_out_by_themselves_that_a_filter_does_not_fit_any_more() {
    let registry = registry();
    let [of_v, of_id] = ["v = 'a'", "id > 0"].map(|filter| attach_filtered(&registry, filter, filter));
    let mut without = Table { version: 2, ..table("t") };
    without.columns.truncate(1);
    let without = Arc::new(without);
    route_whole(&registry, &Transaction { head: head(20, 5), changes: vec![schema_change(0, &without)] });
    assert_eq!(items(&of_v, 10)[0].content, Content::Large);
    assert_eq!(items(&of_id, 10)[0].content, Content::Shapes);
    let row = Change { data: Some(r#"{"id":1}"#.into()), ..change(0, Operation::Insert, &without, 1) };
    route_whole(&registry, &Transaction { head: head(30, 6), changes: vec![row] });
    assert_eq!(items(&of_v, 20)[0].content, Content::Large);
    assert_eq!(told(&items(&of_id, 20)[0]), [("insert".to_owned(), 1)]);
}

/// Whoever attaches while transactions are routed: what comes after the place that it was told of is in its scope's tail.
#[test]
fn nothing_is_missed_between_coming_and_being_routed_to() {
    const TURNS: u64 = 40;
    let registry = Arc::new(Registry::new(position(10), 1 << 30, 10_000));
    let t = Arc::new(table("t"));
    std::thread::scope(|threads| {
        let come_and_go = |thread: u64| {
            let registry = &registry;
            threads.spawn(move || {
                for turn in 0..TURNS {
                    // Sometimes the scope is there, sometimes it is new, or its last session has just left.
                    let rest = (turn + thread) % 4;
                    let attached = attach_filtered(registry, &format!("{thread}"), &format!("id = {rest}"));
                    let joined_at = attached.joined_at.commit_lsn.0;
                    while registry.routed() < position(joined_at + 8) {
                        std::thread::yield_now();
                    }
                    let routed = registry.routed();
                    let items = attached.scope.read(attached.joined_at, usize::MAX).unwrap();
                    let lsns = items.iter().map(|item| item.position).filter(|position| *position <= routed);
                    let expected = (joined_at + 1..=routed.commit_lsn.0).filter(|lsn| lsn % 4 == rest);
                    assert!(lsns.eq(expected.map(position)), "after {joined_at} of {rest}");
                }
            })
        };
        let working: Vec<_> = (0..3).map(come_and_go).collect();
        for lsn in 11.. {
            let id = i64::try_from(lsn % 4).unwrap();
            let changes = vec![change(0, Operation::Insert, &t, id)];
            route_whole(&registry, &Transaction { head: head(lsn, lsn), changes });
            registry.routed_to(position(lsn));
            if working.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
    });
}
