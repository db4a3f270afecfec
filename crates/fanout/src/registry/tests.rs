//! Who enters, what is routed past whom, and what has no room.

use super::*;
use crate::testing::{at_once, filtered, position, subscription};

fn client(id: &str, session: u64) -> Client {
    Client {
        key: id.into(),
        id: id.into(),
        subject: None,
        session,
        include_own: false,
        frontier: Arc::new(AtomicU64::new(u64::MAX)),
        wake: Arc::default(),
        replaced: CancellationToken::new(),
    }
}

fn selection(tables: &[&str]) -> Selection {
    crate::testing::everything(
        tables.iter().enumerate().map(|(n, table)| subscription(&n.to_string(), table)).collect(),
    )
}

fn name(name: &str) -> TableName {
    name.parse().unwrap()
}

fn about(tables: &[TableName]) -> Subject<'_> {
    Subject::Tables { tables, messages: false }
}

fn registry() -> Arc<Registry> {
    Arc::new(Registry::new(position(10), 1 << 20, 1_000))
}

fn destinations(registry: &Registry, lsn: u64, subject: Subject<'_>, authors: &[&str]) -> Destinations {
    let mut index = registry.index.try_lock().unwrap();
    let (authors, pace) = (authors.iter().copied().collect(), &mut Pace::of(usize::MAX));
    at_once(registry.destinations(&mut index, position(lsn), subject, &authors, pace))
}

fn scopes(registry: &Registry, lsn: u64, subject: Subject<'_>) -> Vec<Arc<Scope>> {
    let found = destinations(registry, lsn, subject, &[]);
    found.scopes.into_iter().map(|(scope, _)| scope).collect()
}

#[test]
fn equal_selections_share_a_scope_until_the_last_leaves() {
    let registry = registry();
    let a = registry.attach(&selection(&["t", "*"]), &client("a", 1)).unwrap();
    let b = registry.attach(&selection(&["t", "*"]), &client("b", 2)).unwrap();
    assert!(Arc::ptr_eq(&a.scope, &b.scope));
    let other = registry.attach(&selection(&["u"]), &client("c", 3)).unwrap();
    let of_t = scopes(&registry, 11, about(&[name("t"), name("x")]));
    assert_eq!(of_t.len(), 1, "once, though two patterns and two tables lead to it");
    assert!(Arc::ptr_eq(&of_t[0], &a.scope));
    let messages = Subject::Tables { tables: &[], messages: true };
    assert_eq!(scopes(&registry, 11, messages).len(), 1, "messages go to who follows everything");
    assert!(scopes(&registry, 11, about(&[])).is_empty());
    drop(a);
    assert_eq!(scopes(&registry, 12, Subject::Unknown).len(), 2);
    drop((b, other, of_t));
    assert!(scopes(&registry, 13, Subject::Unknown).is_empty());
    assert!(registry.index.try_lock().unwrap().is_empty() && registry.lock().clients.is_empty());
}

#[test]
fn who_comes_and_goes_between_transactions_is_not_kept() {
    let registry = registry();
    for session in 0..100 {
        drop(registry.attach(&selection(&["t"]), &client("a", session)).unwrap());
    }
    assert!(registry.lock().moves.is_empty());
    let stays = registry.attach(&selection(&["t"]), &client("a", 100)).unwrap();
    assert_eq!(scopes(&registry, 11, Subject::Unknown).len(), 1);
    let tail = Arc::downgrade(&stays.scope);
    drop(stays);
    assert!(tail.upgrade().is_none(), "the index does not keep the frames of a scope that is gone");
    let again = registry.attach(&selection(&["t"]), &client("a", 101)).unwrap();
    let found = scopes(&registry, 12, Subject::Unknown);
    assert!(found.len() == 1 && Arc::ptr_eq(&found[0], &again.scope));
}

#[test]
fn whoever_joins_is_told_what_may_have_been_routed_without_it() {
    let registry = registry();
    let a = registry.attach(&selection(&["t"]), &client("a", 1)).unwrap();
    assert_eq!(a.joined_at, position(10));
    let of_t = [name("t")];
    let found = destinations(&registry, 20, about(&of_t), &["a", "z"]);
    assert_eq!(found.authors.len(), 1);
    let b = registry.attach(&selection(&["u"]), &client("b", 2)).unwrap();
    assert_eq!((b.joined_at, registry.routed()), (position(20), position(10)), "20 is under way");
    registry.routed_to(position(30));
    assert_eq!(registry.attach(&selection(&["u"]), &client("c", 3)).unwrap().joined_at, position(30));
}

#[test]
fn the_newest_session_of_a_client_wins() {
    let registry = registry();
    let (old, new) = (client("a", 1), client("a", 2));
    let first = registry.attach(&selection(&["t"]), &old).unwrap();
    let again = registry.attach(&selection(&["t"]), &old).unwrap();
    drop(first);
    assert!(!old.replaced.is_cancelled(), "the same session with other subscriptions is no newer one");
    let second = registry.attach(&selection(&["t"]), &new).unwrap();
    assert!(old.replaced.is_cancelled() && !new.replaced.is_cancelled());
    drop(again);
    let found = destinations(&registry, 11, about(&[]), &["a"]);
    assert_eq!(found.authors[0].0.session, 2, "the old one's end does not take the new one away");
    let late = client("a", 1);
    let _late = registry.attach(&selection(&["u"]), &late).unwrap();
    assert!(late.replaced.is_cancelled(), "an older session does not come back");
    drop(second);
}

#[test]
fn what_subscriptions_cost_is_bounded_and_given_back() {
    const ROOM: usize = 256 << 10;
    let registry = Arc::new(Registry::with_room(position(10), 1 << 20, ROOM));
    let filter = |n: usize| crate::testing::everything(vec![filtered("s", "t", &format!("id = {n}"))]);
    let mut attached: Vec<Attachment> = Vec::new();
    let refused = loop {
        match registry.attach(&filter(attached.len()), &client("a", 1)) {
            Ok(attachment) => attached.push(attachment),
            Err(no_room) => break no_room,
        }
    };
    assert_eq!((refused, refused.code()), (NoRoom::Together, Code::TooManySubscriptions));
    let each = cost::of_session(&filter(0)) + cost::of_scope(&filter(0));
    assert!((ROOM / each - 2..=ROOM / each + 2).contains(&attached.len()), "{} of {each}", attached.len());
    assert_eq!(registry.lock().scopes.len(), attached.len(), "who found no room has left nothing behind");

    // A session of a scope that is there costs less, and who goes makes room for another scope.
    attached.truncate(10);
    let alike: Vec<_> = (0..10).map(|n| registry.attach(&filter(n), &client("b", 2)).unwrap()).collect();
    drop((attached, alike));
    assert_eq!((registry.room.available_permits(), registry.lock().scopes.len()), (ROOM, 0));

    // What is too much for one session is so for whoever comes alone.
    let values: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let list = crate::testing::everything(vec![filtered("s", "t", &format!("id IN ({})", values.join(",")))]);
    let refused = registry.attach(&list, &client("a", 3)).err().unwrap();
    assert_eq!((refused, refused.code()), (NoRoom::Alone, Code::SubscriptionsTooLarge));
    assert_eq!(registry.room.available_permits(), ROOM);
}

/// Rules that were read again make equal grants, each of them in memory.
#[test]
fn a_grant_is_counted_for_each_who_has_one_of_its_own() {
    const ROOM: usize = 4 << 20;
    let registry = Arc::new(Registry::with_room(position(10), 1 << 20, ROOM));
    let values: Vec<String> = (0..100).map(|n| format!("'{n}'")).collect();
    let rule = crate::testing::rule("u", None, Some(&format!("v IN ({})", values.join(","))));
    let granted = || crate::testing::grant(std::slice::from_ref(&rule), serde_json::json!({}));
    let (one, other) = (selection(&["t"]).granted(granted()), selection(&["t"]).granted(granted()));
    assert!(one == other && !one.grant().is_same(other.grant()));
    let left = || ROOM - registry.room.available_permits();
    let (of_session, of_grant) = (cost::of_session(&one), cost::of_grant(one.grant()));
    assert!(of_grant > 5 << 10, "{of_grant}");
    let first = registry.attach(&one, &client("a", 1)).unwrap();
    assert_eq!(left(), of_session + cost::of_scope(&one), "it is the scope's");
    let shares = registry.attach(&one, &client("b", 2)).unwrap();
    assert_eq!(left(), 2 * of_session + cost::of_scope(&one));
    let own = registry.attach(&other, &client("c", 3)).unwrap();
    assert!(Arc::ptr_eq(&own.scope, &first.scope));
    assert_eq!(left(), 3 * of_session + cost::of_scope(&one) + of_grant);
    drop((first, shares, own));
    assert_eq!(left(), 0);

    // More than one session may have is so for whoever comes.
    let registry = Arc::new(Registry::with_room(position(10), 1 << 20, SESSION_SHARE * of_grant));
    let refused = registry.attach(&one, &client("a", 1)).err().unwrap();
    assert_eq!(refused, NoRoom::Alone);
}

#[test]
fn what_was_given_up_in_the_middle_is_read_elsewhere() {
    let registry = registry();
    let a = registry.attach(&selection(&["t"]), &client("a", 1)).unwrap();
    registry.begin();
    assert!(a.scope.read(position(10), 1).is_ok(), "nothing was given up");
    let _ = scopes(&registry, 20, Subject::Unknown);
    assert_eq!(registry.routed(), position(10));
    registry.begin();
    assert_eq!(registry.routed(), position(20));
    assert!(a.scope.read(position(19), 1).is_err() && a.scope.read(position(20), 1).unwrap().is_empty());
}
