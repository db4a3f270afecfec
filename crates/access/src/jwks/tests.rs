//! Sets of keys: read, kept, refreshed, and fetched from a server on a real socket that answers as the test says.

pub(crate) mod endpoint;
mod fetching;
mod sets;

use jsonwebtoken::Algorithm::{ES256, RS256};
use serde_json::{Value, json};

use self::endpoint::{Answer, Endpoint};
use super::*;
use crate::signing::Signer;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// A set that has these keys.
fn set(keys: &[(&Signer, &str)]) -> Answer {
    let keys: Vec<Value> = keys.iter().map(|(signer, kid)| signer.jwk(kid)).collect();
    Answer::json(&json!({ "keys": keys }))
}

fn jwks(endpoint: &Endpoint) -> Jwks {
    Jwks { time: HOUR, ..Jwks::new(Place::parse(&endpoint.url(), true).unwrap()) }
}

/// What `find` answers without waiting for a fetch.
fn find(jwks: &Jwks, kid: &str, at: Instant) -> Option<Refusal> {
    jwks.look(Some(kid), ES256, at).err().map(|absent| absent.refusal)
}

/// J5: rotation.
#[tokio::test]
async fn a_key_that_disappears_is_refused_after_the_refresh() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let endpoint = Endpoint::start(set(&[(&old, "old")]));
    let (jwks, now) = (jwks(&endpoint), Instant::now());
    jwks.refresh(now).await;
    assert_eq!(find(&jwks, "old", now), None);
    endpoint.answer(set(&[(&old, "old"), (&new, "new")]));
    jwks.refresh(now).await;
    assert_eq!((find(&jwks, "old", now), find(&jwks, "new", now)), (None, None));
    endpoint.answer(set(&[(&new, "new")]));
    jwks.refresh(now).await;
    assert_eq!(find(&jwks, "old", now), Some(Refusal::Invalid));
    assert_eq!(find(&jwks, "new", now), None);
    endpoint.answer(Answer::json(&json!({ "keys": [] })));
    jwks.refresh(now).await;
    assert_eq!(find(&jwks, "new", now), Some(Refusal::Invalid), "an issuer without keys has none");
}

/// Sessions are looked at again when a key may be gone, and only then.
#[tokio::test]
async fn a_key_that_is_withdrawn_is_no_longer_one_of_them_and_that_is_told() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let mark = |signer: &Signer| {
        let key = serde_json::from_value(signer.jwk("any")).unwrap();
        KeyMark::of(&jsonwebtoken::DecodingKey::from_jwk(&key).unwrap()).unwrap()
    };
    let (old_mark, new_mark) = (mark(&old), mark(&new));
    let endpoint = Endpoint::start(set(&[(&old, "a")]));
    let (jwks, now) = (jwks(&endpoint), Instant::now());
    assert!(jwks.has(&old_mark) && jwks.has(&new_mark), "nobody knows yet");
    assert!(jwks.refresh(now).await, "now it is known");
    assert_eq!((jwks.has(&old_mark), jwks.has(&new_mark)), (true, false));
    for (answer, told, has_old, what) in [
        (set(&[(&old, "a")]), false, true, "the same"),
        (set(&[(&old, "b"), (&new, "a")]), false, true, "another name, and one more"),
        (Answer::Hangup, false, true, "no answer"),
        (set(&[(&new, "a")]), true, false, "one is gone"),
        (set(&[(&old, "a"), (&new, "b")]), false, true, "it is back"),
        (set(&[]), true, false, "all are gone"),
    ] {
        endpoint.answer(answer);
        assert_eq!((jwks.refresh(now).await, jwks.has(&old_mark)), (told, has_old), "{what}");
    }
}

/// J5: an endpoint that is down, in each way.
#[tokio::test]
async fn known_keys_are_used_for_a_day_while_nothing_newer_can_be_had() {
    let signer = Signer::p256();
    let endpoint = Endpoint::start(set(&[(&signer, "a")]));
    let (jwks, now) = (jwks(&endpoint), Instant::now());
    jwks.refresh(now).await;
    let twice = json!({ "keys": [signer.jwk("a"), signer.jwk("a")] });
    let many: Vec<Value> = (0..=100).map(|n| signer.jwk(&n.to_string())).collect();
    for answer in [
        Answer::status(500),
        Answer::status(404),
        Answer::status(204),
        Answer::Hangup,
        Answer::text("<!doctype html><title>Please log in</title>"),
        Answer::text("{\"keys\":"),
        Answer::text("[]"),
        Answer::json(&json!({ "error": "none" })),
        Answer::json(&json!({ "keys": { "a": 1 } })),
        Answer::json(&twice),
        Answer::json(&json!({ "keys": many })),
    ] {
        endpoint.answer(answer);
        jwks.refresh(now + HOUR).await;
        assert!(jwks.state().is_failing);
        assert_eq!(find(&jwks, "a", now + 23 * HOUR), None);
        assert_eq!(find(&jwks, "b", now + HOUR), Some(Refusal::Unavailable), "it may be there by now");
    }
    assert_eq!(find(&jwks, "a", now + 24 * HOUR), Some(Refusal::Unavailable));
    endpoint.answer(set(&[(&signer, "a")]));
    jwks.refresh(now + 25 * HOUR).await;
    assert_eq!(find(&jwks, "a", now + 26 * HOUR), None);
}

#[tokio::test]
async fn before_a_set_was_fetched_nothing_is_known_of_any_key() {
    let endpoint = Endpoint::start(Answer::status(503));
    let (jwks, now) = (jwks(&endpoint), Instant::now());
    assert!(jwks.look(Some("a"), ES256, now).is_err_and(|absent| absent.may_come));
    jwks.refresh(now).await;
    assert_eq!(jwks.find(Some("a"), ES256, now).await.err(), Some(Refusal::Unavailable));
    assert_eq!(endpoint.requests(), 1, "it was tried just now");
}

#[tokio::test]
async fn a_thousand_who_ask_begin_one_fetch() {
    let signer = Signer::p256();
    let endpoint = Endpoint::start(set(&[(&signer, "a")]));
    let jwks = jwks(&endpoint);
    let ask = |kid: &'static str| {
        let asking = (0..1_000).map(|_| jwks.find(Some(kid), ES256, Instant::now()));
        futures_util::future::join_all(asking)
    };
    let all = async {
        assert!(ask("a").await.into_iter().all(|found| found.is_ok()));
        // Nor does anybody who guesses names.
        let unknown = ask("b").await;
        assert!(unknown.into_iter().all(|found| found.err() == Some(Refusal::Invalid)));
    };
    tokio::select! {
        () = jwks.run(|| {}) => unreachable!(),
        () = all => {}
    }
    assert_eq!(endpoint.requests(), 1);
}

#[tokio::test]
async fn a_key_that_is_not_known_is_looked_for_but_not_often() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let endpoint = Endpoint::start(set(&[(&old, "old")]));
    let (jwks, now) = (jwks(&endpoint), Instant::now());
    jwks.refresh(now).await;
    endpoint.answer(set(&[(&old, "old"), (&new, "new")]));
    let lately = now + Duration::from_secs(29);
    assert_eq!(jwks.find(Some("new"), ES256, lately).await.err(), Some(Refusal::Invalid));
    assert_eq!(endpoint.requests(), 1);
    let later = now + Duration::from_secs(30);
    let looked_for = async {
        jwks.wanted.notified().await;
        jwks.refresh(later).await;
    };
    let (found, ()) = tokio::join!(jwks.find(Some("new"), ES256, later), looked_for);
    assert!(found.is_ok());
    assert_eq!(endpoint.requests(), 2);
    // One that is there, and not for this algorithm, is not looked for.
    let unfit = jwks.find(Some("new"), RS256, later + HOUR).await;
    assert_eq!((unfit.err(), endpoint.requests()), (Some(Refusal::Invalid), 2));
}

#[tokio::test]
async fn a_set_is_fetched_again_before_it_is_old_and_soon_after_a_failure() {
    let endpoint = Endpoint::start(set(&[]));
    let (jwks, now) = (jwks(&endpoint), Instant::now());
    assert_eq!(jwks.schedule(now).0, now, "at once");
    jwks.refresh(now).await;
    assert_eq!(jwks.schedule(now), (now + 4 * MINUTE, now + MINUTE / 2));
    endpoint.answer(Answer::status(500));
    jwks.refresh(now + 4 * MINUTE).await;
    let soon = now + 4 * MINUTE + MINUTE / 2;
    assert_eq!(jwks.schedule(now), (soon, soon));
}

#[tokio::test]
async fn a_fetch_that_is_given_up_leaves_nobody_waiting() {
    let endpoint = Endpoint::start(Answer::Silence);
    let (jwks, now) = (jwks(&endpoint), Instant::now());
    let asking = async {
        // It waits for the fetch that is under way, and ends with it.
        jwks.find(Some("a"), ES256, now).await.err()
    };
    let given_up = async {
        tokio::select! {
            _ = jwks.refresh(now) => unreachable!("nobody answers, and it has time"),
            () = async { while endpoint.requests() == 0 { tokio::task::yield_now().await } } => {}
        }
    };
    let (refusal, ()) = tokio::join!(asking, given_up);
    assert_eq!(refusal, Some(Refusal::Unavailable));
    assert!(!jwks.state().is_under_way);
    // Whoever goes on with it fetches at once, and who asks meanwhile waits for that.
    assert_eq!(jwks.schedule(now), (now, now));
    assert!(jwks.look(Some("a"), ES256, now).is_err_and(|absent| absent.may_come));
}
