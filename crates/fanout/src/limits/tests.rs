//! Who may take how much, in time that the test makes.

use std::time::SystemTime;

use serde_json::{Map, json};
use waldelta_access::{ClientIds, Origin};

use super::buckets::BUCKETS_MAX;
use super::*;

const TOO_MANY: Closing = Closing::TooMany(Code::TooManyConnections);

fn limits() -> Limits {
    Limits {
        sessions_per_address_max: 3,
        sessions_per_subject_max: 2,
        sessions_per_tenant_max: 4,
        tenant_claim: "tenant".into(),
        requests_per_second_max: 10,
        requests_burst_max: 5,
    }
}

fn quotas(limits: Limits) -> (watch::Sender<Arc<Policy>>, Quotas) {
    let policy = watch::Sender::new(Arc::new(Policy { limits, ..Policy::default() }));
    let quotas = Quotas::new(policy.subscribe());
    (policy, quotas)
}

fn identity(subject: &str, tenant: Value) -> Identity {
    let claims = Map::from_iter([("sub".to_owned(), json!(subject)), ("tenant".to_owned(), tenant)]);
    Identity {
        subject: subject.into(),
        origin: Origin::Static("t".into()),
        claims: Arc::new(claims),
        client_ids: ClientIds::Any,
        is_admin: false,
        expires_at: None::<SystemTime>,
    }
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

fn refusal<T>(result: Result<T, Closing>) -> Option<Closing> {
    result.err()
}

#[test]
fn sessions_of_one_address_are_bounded_and_given_back() {
    let (_policy, quotas) = quotas(limits());
    let session = |text| quotas.session(address(text), None);
    let held: Vec<_> = (0..3).map(|_| session("192.0.2.1").ok().unwrap()).collect();
    assert_eq!(refusal(session("192.0.2.1")), Some(TOO_MANY));
    assert_eq!(refusal(session("::ffff:192.0.2.1")), Some(TOO_MANY), "the same in IPv6's writing");
    assert_eq!(refusal(session("192.0.2.2")), None);
    drop(held);
    assert_eq!(refusal(session("192.0.2.1")), None);
    assert!(lock(&quotas.taken.sessions).is_empty(), "nobody is here, so nothing is kept");
}

#[test]
fn all_addresses_of_one_ipv6_network_are_one() {
    let (_policy, quotas) = quotas(limits());
    let session = |text| quotas.session(address(text), None);
    let _held: Vec<_> = ["2001:db8::1", "2001:db8::2:1", "2001:db8:0:0:ffff::"]
        .map(|text| session(text).ok().unwrap())
        .into();
    assert_eq!(refusal(session("2001:db8::3")), Some(TOO_MANY));
    assert_eq!(refusal(session("2001:db8:0:1::1")), None);
}

#[test]
fn sessions_of_a_subject_and_of_a_tenant_are_bounded_wherever_they_come_from() {
    let (_policy, quotas) = quotas(limits());
    let session = |subject: &str, tenant| quotas.session(None, Some(&identity(subject, tenant)));
    let mut held = vec![session("ann", json!("a")).ok().unwrap(), session("ann", json!("a")).ok().unwrap()];
    assert_eq!(refusal(session("ann", json!("a"))), Some(TOO_MANY), "two of ann");
    held.push(session("ben", json!("a")).ok().unwrap());
    held.push(session("cem", json!("a")).ok().unwrap());
    assert_eq!(refusal(session("dan", json!("a"))), Some(TOO_MANY), "four of the tenant");
    assert_eq!(refusal(session("dan", json!("b"))), None, "another tenant");
    assert_eq!(refusal(session("eva", json!(null))), None, "no tenant");
    let origin = Origin::Jwt { issuer: "https://other".into(), id: None, issued_at: None, key: None };
    let other = Identity { origin, ..identity("ann", json!(null)) };
    assert_eq!(refusal(quotas.session(None, Some(&other))), None, "called the same by another issuer");
}

#[test]
fn who_is_refused_has_taken_nothing() {
    let (_policy, quotas) = quotas(limits());
    let ann = identity("ann", json!("a"));
    let _held: Vec<_> =
        (0..2).map(|_| quotas.session(address("192.0.2.1"), Some(&ann)).ok().unwrap()).collect();
    for _ in 0..10 {
        assert_eq!(refusal(quotas.session(address("192.0.2.1"), Some(&ann))), Some(TOO_MANY));
    }
    assert_eq!(refusal(quotas.session(address("192.0.2.1"), None)), None, "the third of this address");
}

#[test]
fn a_session_takes_the_share_of_its_identity_when_that_is_known_or_changes() {
    let (_policy, quotas) =
        quotas(Limits { sessions_per_subject_max: 1, sessions_per_tenant_max: 1, ..limits() });
    let mut share = quotas.session(address("192.0.2.1"), None).ok().unwrap();
    share.identify(&identity("ann", json!("a"))).unwrap();
    share.identify(&identity("ann", json!("a"))).unwrap();
    let mut second = quotas.session(address("192.0.2.1"), None).ok().unwrap();
    assert_eq!(second.identify(&identity("ann", json!("b"))), Err(TOO_MANY), "one of ann");
    assert_eq!(second.identify(&identity("ben", json!("a"))), Err(TOO_MANY), "one of the tenant");
    share.identify(&identity("ann", json!("c"))).unwrap();
    second.identify(&identity("ben", json!("a"))).unwrap();
    drop((share, second));
    assert!(lock(&quotas.taken.sessions).is_empty());
}

#[test]
fn other_bounds_hold_at_once_and_let_nobody_go() {
    let (policy, quotas) = quotas(limits());
    let session = || quotas.session(address("192.0.2.1"), None);
    let mut held: Vec<_> = (0..3).map(|_| session().ok().unwrap()).collect();
    let apply = |sessions_per_address_max| {
        policy.send_replace(Arc::new(Policy {
            limits: Limits { sessions_per_address_max, ..limits() },
            ..Policy::default()
        }));
    };
    apply(4);
    held.push(session().ok().unwrap());
    apply(2);
    assert_eq!(refusal(session()), Some(TOO_MANY));
    held.truncate(2);
    assert_eq!(refusal(session()), Some(TOO_MANY));
    held.truncate(1);
    assert_eq!(refusal(session()), None);
}

#[test]
fn requests_come_in_a_burst_and_then_at_the_rate() {
    let (_policy, quotas) = quotas(limits());
    let start = Instant::now();
    let at = |ms, who| quotas.request_at(start + Duration::from_millis(ms), address(who), None);
    for _ in 0..5 {
        at(0, "192.0.2.1").unwrap();
    }
    assert_eq!(at(0, "192.0.2.1"), Err(RetryAfter(Duration::from_millis(100))));
    assert_eq!(
        at(60, "192.0.2.1"),
        Err(RetryAfter(Duration::from_millis(40))),
        "being refused costs nothing"
    );
    at(0, "192.0.2.2").unwrap();
    let passed = (0..=10_000).filter(|ms| at(*ms, "192.0.2.1").is_ok()).count();
    assert_eq!(passed, 100, "ten a second for ten seconds");
    assert_eq!((0..9).filter(|_| at(60_000, "192.0.2.1").is_ok()).count(), 5, "a burst after a pause");
}

#[test]
fn requests_of_a_subject_are_bounded_wherever_they_come_from() {
    let (_policy, quotas) = quotas(limits());
    let (now, ann, ben) = (Instant::now(), identity("ann", json!("a")), identity("ben", json!("a")));
    for n in 0..5 {
        quotas.request_at(now, address(&format!("192.0.2.{n}")), Some(&ann)).unwrap();
    }
    assert!(quotas.request_at(now, address("192.0.2.9"), Some(&ann)).is_err());
    quotas.request_at(now, address("192.0.2.9"), Some(&ben)).unwrap();
}

#[test]
fn a_higher_rate_holds_for_those_who_waited_for_a_lower_one() {
    let (policy, quotas) =
        quotas(Limits { requests_per_second_max: 1, requests_burst_max: 1_000, ..limits() });
    let now = Instant::now();
    while quotas.request_at(now, address("192.0.2.1"), None).is_ok() {}
    policy.send_replace(Arc::new(Policy { limits: limits(), ..Policy::default() }));
    let after = quotas.request_at(now, address("192.0.2.1"), None).unwrap_err();
    assert!(after.0 <= Duration::from_millis(100), "{after:?}");
}

#[test]
fn what_is_kept_of_senders_is_bounded_and_forgotten() {
    let (_policy, quotas) = quotas(limits());
    let now = Instant::now();
    let send = |now, n: usize| quotas.request_at(now, Some(IpAddr::V4((n as u32).into())), None);
    for n in 0..BUCKETS_MAX {
        send(now, n).unwrap();
    }
    assert!(send(now, BUCKETS_MAX).is_err(), "as many as may be have just sent something");
    send(now, 0).unwrap();
    assert_eq!(lock(&quotas.taken.requests).count(), BUCKETS_MAX);
    send(now + Duration::from_secs(1), BUCKETS_MAX).unwrap();
    assert_eq!(lock(&quotas.taken.requests).count(), 1, "full buckets are forgotten");
}

#[test]
fn the_header_has_whole_seconds() {
    for (ms, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (59_999, 60)] {
        assert_eq!(RetryAfter(Duration::from_millis(ms)).seconds(), seconds);
    }
}
