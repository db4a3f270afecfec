//! What is kept of who is let in.

use std::time::Duration;

use serde_json::{Map, json};
use waldelta_history::{Error, History, NewStoredToken, Revoked};
use waldelta_testkit::TestDatabase;
use waldelta_wal::Code;

use crate::support::*;

fn token(id: &str) -> NewStoredToken {
    NewStoredToken {
        id: id.into(),
        name: format!("name of {id}"),
        subject: "ada".into(),
        claims: Map::from_iter([("tenant".to_owned(), json!({"id": 7, "name": "ü\u{1F980}"}))]),
        client_ids: vec!["web-*".into(), "a,b".into()],
        is_admin: true,
        hash: "a hash".into(),
        expires_at_us: Some(4_000_000_000_123_456),
    }
}

async fn opened(hint: &str) -> (TestDatabase, History) {
    let database = TestDatabase::create(hint).await;
    let history = History::open(&config(&database)).await.unwrap();
    (database, history)
}

#[tokio::test]
async fn tokens_are_kept_as_they_were_made_and_who_lives_comes_first() {
    let (database, history) = opened("history_tokens").await;
    history.store_token(&token("a")).await.unwrap();
    let plain = NewStoredToken {
        client_ids: Vec::new(),
        claims: Map::new(),
        is_admin: false,
        expires_at_us: None,
        ..token("b")
    };
    history.store_token(&plain).await.unwrap();
    let twice = history.store_token(&token("a")).await.unwrap_err();
    assert_eq!(twice.code(), Code::HistoryWriteFailed);
    database.exec("UPDATE waldelta.tokens SET created_at = now() - interval '1 day' WHERE id = 'a'").await;
    let ids = async || -> Vec<String> {
        history.tokens().await.unwrap().into_iter().map(|token| token.made.id).collect()
    };
    assert_eq!(ids().await, ["b", "a"], "the newest first");
    assert!(history.revoke_token("b").await.unwrap());
    assert_eq!(ids().await, ["a", "b"]);

    let tokens = history.tokens().await.unwrap();
    let (a, b) = (&tokens[0], &tokens[1]);
    assert_eq!((&a.made.claims, &a.made.client_ids), (&token("a").claims, &token("a").client_ids));
    assert_eq!((&*a.made.name, &*a.made.subject, &*a.made.hash), ("name of a", "ada", "a hash"));
    assert_eq!(
        (a.made.is_admin, a.made.expires_at_us, a.revoked_at_us),
        (true, Some(4_000_000_000_123_456), None)
    );
    assert_eq!((b.made.is_admin, b.made.expires_at_us, b.made.claims.len()), (false, None, 0));
    let revoked_at_us = b.revoked_at_us.unwrap();
    assert!(history.revoke_token("b").await.unwrap());
    assert_eq!(history.tokens().await.unwrap()[1].revoked_at_us, Some(revoked_at_us), "once is enough");
    let told = "SELECT string_agg(action || ' ' || subject || ' ' || (detail ->> 'token'), ', ' ORDER BY id) FROM waldelta.audit";
    assert_eq!(
        database.query_text(told).await,
        "token_created ada a, token_created ada b, token_revoked ada b, token_revoked ada b"
    );
    database.exec("UPDATE waldelta.tokens SET claims = '{\"n\": 1e400}'").await;
    assert_eq!(history.tokens().await.unwrap_err().code(), Code::HistoryCorrupt);
}

#[tokio::test]
async fn whatever_changes_moves_the_revision_also_by_hand() {
    let (database, history) = opened("history_access_revision").await;
    let mut before = history.access_revision().await.unwrap();
    assert_eq!(history.access_revision().await.unwrap(), before);
    let mut moved = async |what: &str| {
        let now = history.access_revision().await.unwrap();
        assert_ne!(now, std::mem::replace(&mut before, now), "{what}");
    };
    history.store_token(&token("a")).await.unwrap();
    moved("a token was made").await;
    history.revoke_token("a").await.unwrap();
    moved("a token was revoked").await;
    history.revoke_jwts("i", &Revoked::Token("j".into()), None).await.unwrap();
    moved("a JWT was revoked").await;
    for by_hand in [
        "INSERT INTO waldelta.tokens (id, name, subject, hash) VALUES ('b', 'b', 'b', '')",
        "DELETE FROM waldelta.tokens WHERE id = 'b'",
        "UPDATE waldelta.revocations SET issuer = 'k'",
        "TRUNCATE waldelta.revocations",
    ] {
        database.exec(by_hand).await;
        moved(by_hand).await;
    }
    let list = history.access().await.unwrap();
    assert_eq!((list.revision, list.tokens.len(), list.revocations.len()), (before, 1, 0));
    history.store_ticket(b"t", b"o", b"{}", Duration::from_secs(30)).await.unwrap();
    assert_eq!(history.access_revision().await.unwrap(), before, "a ticket is nobody else's business");
}

#[tokio::test]
async fn what_was_revoked_again_is_revoked_for_longer() {
    let (database, history) = opened("history_revocations").await;
    let (one, all) = (Revoked::Token("j".into()), Revoked::Subject("s".into()));
    let far = Some(4_000_000_000_000_000);
    history.revoke_jwts("i", &one, far).await.unwrap();
    history.revoke_jwts("i", &all, far).await.unwrap();
    history.revoke_jwts("other", &one, None).await.unwrap();
    let before = history.revocations().await.unwrap();
    assert_eq!(before.iter().map(|r| &*r.issuer).collect::<Vec<_>>(), ["i", "i", "other"]);
    assert_eq!((&before[0].revoked, &before[1].revoked), (&one, &all));
    assert_eq!((before[0].expires_at_us, before[2].expires_at_us), (far, None));

    history.revoke_jwts("i", &one, Some(3_000_000_000_000_000)).await.unwrap();
    history.revoke_jwts("i", &all, None).await.unwrap();
    let after = history.revocations().await.unwrap();
    assert_eq!((after.len(), after[0].expires_at_us, after[1].expires_at_us), (3, far, None));
    assert!(after[1].revoked_at_us > before[1].revoked_at_us, "also those that were issued since");
    let told = "SELECT string_agg(subject || ' ' || coalesce(detail ->> 'token', 'all'), ', ' ORDER BY id) FROM waldelta.audit";
    assert_eq!(database.query_text(told).await, "i j, s all, other j, i j, s all");

    // What has expired by itself is not told any more, and is removed with the next.
    database
        .exec("UPDATE waldelta.revocations SET expires_at = now() WHERE jti = 'j' AND issuer = 'i'")
        .await;
    assert_eq!(history.revocations().await.unwrap().len(), 2);
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.revocations").await, "3");
    history.revoke_jwts("i", &Revoked::Token("k".into()), None).await.unwrap();
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.revocations").await, "3");
}

#[tokio::test]
async fn there_are_never_more_than_fit_into_memory() {
    let (database, history) = opened("history_access_bounds").await;
    database
        .exec(
            "INSERT INTO waldelta.tokens (id, name, subject, hash, revoked_at)
             SELECT 't' || i, 'n', 's', 'h', CASE WHEN i > 9999 THEN now() END FROM generate_series(1, 30000) i;
             INSERT INTO waldelta.revocations (issuer, jti) SELECT 'i', i::text FROM generate_series(1, 99999) i",
        )
        .await;
    history.store_token(&token("the last")).await.unwrap();
    let error = history.store_token(&token("one more")).await.unwrap_err();
    assert!(matches!(error, Error::TooMany { max: 10_000, .. }), "{error:?}");
    assert!(!error.is_retryable());
    let tokens = history.tokens().await.unwrap();
    assert_eq!(tokens.len(), 20_000);
    assert!(
        tokens[..10_000].iter().all(|token| token.revoked_at_us.is_none()),
        "all that live are among them"
    );
    history.revoke_token("t1").await.unwrap();
    history.store_token(&token("one more")).await.unwrap();

    history.revoke_jwts("i", &Revoked::Subject("s".into()), None).await.unwrap();
    let error = history.revoke_jwts("i", &Revoked::Token("x".into()), None).await.unwrap_err();
    assert!(matches!(error, Error::TooMany { max: 100_000, .. }), "{error:?}");
    history.revoke_jwts("i", &Revoked::Token("7".into()), None).await.unwrap();
    assert_eq!(history.revocations().await.unwrap().len(), 100_000);
}

#[tokio::test]
async fn a_ticket_is_taken_once_and_in_time() {
    let (database, history) = opened("history_tickets").await;
    let store = async |hash: &[u8], owner: &[u8]| {
        history.store_ticket(hash, owner, b"who \xff", Duration::from_secs(30)).await.unwrap()
    };
    assert!(store(b"one", b"ada").await);
    let taken = history.take_ticket(b"one").await.unwrap().unwrap();
    assert_eq!((&*taken.identity, taken.is_in_time), (&b"who \xff"[..], true));
    assert!(history.take_ticket(b"one").await.unwrap().is_none());
    assert!(store(b"two", b"ada").await);
    database.exec("UPDATE waldelta.tickets SET expires_at = now()").await;
    assert!(!history.take_ticket(b"two").await.unwrap().unwrap().is_in_time);

    database
        .exec(
            "INSERT INTO waldelta.tickets
             SELECT decode(md5(i::text), 'hex'), decode(md5((i % 1000)::text), 'hex'), '', now() + interval '1 hour'
             FROM generate_series(1, 9999) i",
        )
        .await;
    assert!(store(b"three", b"ada").await);
    assert!(!store(b"four", b"bob").await, "all together have so many");
    // Those that have expired make room: a thousand of them at a time.
    database.exec("UPDATE waldelta.tickets SET expires_at = now()").await;
    assert!(store(b"four", b"bob").await);
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.tickets").await, "9001");
}

#[tokio::test]
async fn everything_of_it_is_described() {
    let (database, _) = opened("history_access_comments").await;
    let bare = "SELECT string_agg(c.relname || coalesce('.' || a.attname, ''), ' ')
        FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relnamespace = 'waldelta'::regnamespace AND c.relname IN ('tokens', 'revocations', 'tickets', 'access_revisions')
            AND (obj_description(c.oid, 'pg_class') IS NULL
                OR col_description(c.oid, a.attnum) IS NULL AND a.attname NOT IN ('id', 'created_at', 'revoked_at', 'revision', 'expires_at'))";
    assert_eq!(database.query(bare).await, [[None]]);
}
