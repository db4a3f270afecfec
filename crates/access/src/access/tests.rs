//! Static tokens, revocations and tickets on a real history, with the time as an argument.

use serde_json::{Map, Value, json};
use waldelta_history::Revoked;
use waldelta_pgconn::{Environment, Target};
use waldelta_testkit::{Route, TestCluster, TestDatabase};

use super::*;
use crate::jwks::tests::endpoint::{Answer, Endpoint};
use crate::signing::Signer;
use crate::{ClientIds, MadeToken, NewToken};

async fn history(database: &TestDatabase) -> History {
    let config = waldelta_history::Config {
        target: Target::parse(database.url(), &Environment::default()).unwrap(),
        feed_bytes_max: 1 << 20,
        connections_max: 4,
        partition_bytes: 1 << 20,
    };
    History::open(&config).await.unwrap()
}

fn config() -> Config {
    Config { required: true, static_tokens: true, ..Config::default() }
}

/// What one process has.
async fn access(history: &History) -> Access {
    let access = Access::new(config(), history.clone());
    access.load().await.unwrap();
    access
}

fn new(subject: &str) -> NewToken {
    let Value::Object(claims) = json!({"tenant": "s3cret-claim", "level": 3}) else { unreachable!() };
    NewToken {
        name: "test".into(),
        subject: subject.into(),
        claims,
        client_ids: vec!["web-*".into(), "desk".into()],
        is_admin: false,
        expires_at: None,
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The same text with another character at this place.
fn altered(text: &str, place: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[place] = if bytes[place] == b'0' { b'1' } else { b'0' };
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_token_says_whose_it_is_and_another_text_says_nothing() {
    let database = TestDatabase::create("access_forged").await;
    let history = history(&database).await;
    let early = Access::new(config(), history.clone());
    let MadeToken { id, secret } = new("ada").make(&history).await.unwrap();
    let other = new("bob").make(&history).await.unwrap();
    let token = secret.0;
    assert_eq!(early.verify(&token).await.unwrap_err(), Refusal::Unavailable, "nothing is read yet");
    let access = access(&history).await;

    // Also before the right one was there to compare with.
    let (_, foreign) = other.secret.0.split_once('.').unwrap();
    let forged = [
        altered(&token, token.len() - 1),
        altered(&token, 3),
        format!("wd_{id}.{foreign}"),
        format!("wd_{id}.{}", "0".repeat(64)),
    ];
    let malformed = [
        token[..token.len() - 1].to_owned(),
        format!("{token}0"),
        token.to_uppercase(),
        format!("wd_{id}"),
        format!("wd_{id}."),
        "wd_.".to_owned(),
        token[3..].to_owned(),
        format!(" {token}"),
        format!("wd_{}", "0".repeat(TOKEN_BYTES_MAX)),
        "a.b.c".to_owned(),
        "a.b".to_owned(),
        "x".repeat(1 << 20),
    ];
    for text in forged.iter().chain(&malformed) {
        assert_eq!(access.verify(text).await.unwrap_err(), Refusal::Invalid, "{text}");
    }
    assert_eq!(access.verify("").await.unwrap_err(), Refusal::Missing);

    let identity = access.verify(&token).await.unwrap();
    assert_eq!((&*identity.subject, identity.is_admin, identity.expires_at), ("ada", false, None));
    assert_eq!(identity.origin, Origin::Static(id.as_str().into()));
    assert_eq!(
        *identity.claims,
        *json!({"tenant": "s3cret-claim", "level": 3, "sub": "ada"}).as_object().unwrap()
    );
    assert!(
        identity.client_ids.has("web-7")
            && identity.client_ids.has("desk")
            && !identity.client_ids.has("desk2")
    );
    for text in &forged {
        assert_eq!(access.verify(text).await.unwrap_err(), Refusal::Invalid, "{text}");
    }
    access.verify(&token).await.unwrap();
    let kept = database.query_text("SELECT string_agg(t::text, '') FROM waldelta.tokens t").await;
    assert!(!kept.contains(token.split_once('.').unwrap().1), "{kept}");
    assert!(kept.contains("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
}

#[tokio::test]
async fn a_revoked_token_is_noticed_at_the_next_look_and_other_tokens_stay() {
    let database = TestDatabase::create("access_revoked").await;
    let history = history(&database).await;
    let (ada, bob) = (new("ada").make(&history).await.unwrap(), new("bob").make(&history).await.unwrap());
    let access = access(&history).await;
    let identity = access.verify(&ada.secret.0).await.unwrap();
    let others = access.verify(&bob.secret.0).await.unwrap();
    let mut changes = access.changes();
    access.load().await.unwrap();
    assert!(!changes.has_changed().unwrap(), "nothing has changed");

    assert!(history.revoke_token(&ada.id).await.unwrap());
    assert_eq!(access.check(&identity), Ok(()), "nobody has looked");
    access.load().await.unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert_eq!(access.check(&identity), Err(Refusal::Revoked));
    assert_eq!(access.verify(&ada.secret.0).await.unwrap_err(), Refusal::Revoked);
    assert_eq!(
        access.verify(&altered(&ada.secret.0, 60)).await.unwrap_err(),
        Refusal::Invalid,
        "who guesses learns nothing"
    );
    assert_eq!(access.check(&others), Ok(()));
    assert!(history.revoke_token(&ada.id).await.unwrap(), "once more is no mistake");
    assert!(!history.revoke_token("0123456789abcdef").await.unwrap());

    // By hand it works as well.
    database.exec("DELETE FROM waldelta.tokens WHERE subject = 'bob'").await;
    access.load().await.unwrap();
    assert!(changes.has_changed().unwrap());
    assert_eq!(access.check(&others), Err(Refusal::Revoked));
    assert_eq!(access.verify(&bob.secret.0).await.unwrap_err(), Refusal::Invalid);
}

#[tokio::test]
async fn a_token_that_was_made_just_now_is_taken_by_every_process() {
    let database = TestDatabase::create("access_new").await;
    let history = history(&database).await;
    let access = access(&history).await;
    for subject in ["ada", "bob"] {
        let made = new(subject).make(&history).await.unwrap();
        let forged: Vec<String> = (0..3).map(|n| altered(&made.secret.0, 3 + n)).collect();
        let guesses = futures_util::future::join_all(forged.iter().map(|text| access.verify(text)));
        let (guesses, taken) = tokio::join!(guesses, access.verify(&made.secret.0));
        assert_eq!(&*taken.unwrap().subject, subject);
        assert!(guesses.iter().all(Result::is_err));
    }
}

/// Whoever is told that its token is wrong does not come back.
#[tokio::test]
async fn nobody_is_told_that_a_new_token_is_wrong_while_history_is_out_of_reach() {
    let cluster = TestCluster::own(&[]).await;
    let route = Route::to(cluster.port());
    let database = TestDatabase::create_on(&cluster, "access_cut").await;
    let access = access(&history(&database.on(&cluster).through(&route)).await).await;
    let made = new("ada").make(&history(&database).await).await.unwrap();
    route.close();
    let at_once = (0..8).map(|_| access.verify(&made.secret.0));
    let refused: Vec<_> =
        futures_util::future::join_all(at_once).await.into_iter().map(Result::unwrap_err).collect();
    assert_eq!(refused, [Refusal::Unavailable; 8]);
    route.turn_to(cluster.port());
    assert_eq!(&*access.verify(&made.secret.0).await.unwrap().subject, "ada");
}

#[tokio::test]
async fn a_picture_that_changes_forgets_no_secret_that_was_proven() {
    let database = TestDatabase::create("access_proven").await;
    let history = history(&database).await;
    let token = new("ada").make(&history).await.unwrap();
    let access = access(&history).await;
    access.verify(&token.secret.0).await.unwrap();
    let proof = |access: &Access| Arc::clone(&access.inner.known().unwrap().token(&token.id).unwrap().proof);
    let before = proof(&access);
    new("bob").make(&history).await.unwrap();
    access.load().await.unwrap();
    assert!(Arc::ptr_eq(&before, &proof(&access)));
    // Another secret under the same id is another token.
    let stolen = "UPDATE waldelta.tokens SET hash = (SELECT hash FROM waldelta.tokens WHERE subject = 'bob') WHERE subject = 'ada'";
    database.exec(stolen).await;
    access.load().await.unwrap();
    assert!(!Arc::ptr_eq(&before, &proof(&access)));
    assert_eq!(access.verify(&token.secret.0).await.unwrap_err(), Refusal::Invalid);
}

#[tokio::test]
async fn a_token_ends_at_its_time_also_where_it_was_let_in_before() {
    let database = TestDatabase::create("access_expiry").await;
    let history = history(&database).await;
    let made = NewToken { expires_at: Some(at(5_000_000_000)), ..new("ada") }.make(&history).await.unwrap();
    let access = access(&history).await;
    let inner = &access.inner;
    let identity = inner.verify(&made.secret.0, at(4_999_999_999)).await.unwrap();
    assert_eq!(identity.expires_at, Some(at(5_000_000_000)));
    assert_eq!(inner.check(&identity, at(4_999_999_999)), Ok(()));
    assert_eq!(inner.check(&identity, at(5_000_000_000)), Err(Refusal::Expired));
    assert_eq!(inner.verify(&made.secret.0, at(5_000_000_000)).await.unwrap_err(), Refusal::Expired);
    assert_eq!(inner.issue(&identity, at(5_000_000_000)).await.unwrap_err(), Refusal::Expired);
    // A ticket ends with its token.
    let ticket = inner.issue(&identity, at(4_999_999_990)).await.unwrap();
    assert_eq!(ticket.expires_in, Duration::from_secs(10));
    assert_eq!(inner.redeem(&ticket.text, at(5_000_000_000)).await.unwrap_err(), Refusal::Expired);
    // By hand it can be made to end earlier.
    database.exec("UPDATE waldelta.tokens SET expires_at = to_timestamp(4000000000)").await;
    access.load().await.unwrap();
    assert_eq!(inner.check(&identity, at(4_000_000_000)), Err(Refusal::Expired));
}

#[tokio::test]
async fn what_is_no_longer_taken_ends_when_the_settings_change() {
    let database = TestDatabase::create("access_settings").await;
    let history = history(&database).await;
    let made = new("ada").make(&history).await.unwrap();
    let access = access(&history).await;
    let identity = access.verify(&made.secret.0).await.unwrap();
    let mut changes = access.changes();
    changes.mark_unchanged();
    access.configure(Config { static_tokens: false, ..config() });
    assert!(changes.has_changed().unwrap());
    assert_eq!(access.check(&identity), Err(Refusal::Revoked));
    assert_eq!(access.verify(&made.secret.0).await.unwrap_err(), Refusal::Invalid);
    access.configure(config());
    assert_eq!(access.check(&identity), Ok(()));
    access.verify(&made.secret.0).await.unwrap();
}

/// An identity as a JWT of this issuer would give it.
fn of_jwt(issuer: &str, id: Option<&str>, issued_at: Option<u64>) -> Identity {
    Identity {
        subject: "ada".into(),
        origin: Origin::Jwt { issuer: issuer.into(), id: id.map(Into::into), issued_at, key: None },
        claims: Arc::new(Map::new()),
        client_ids: ClientIds::Any,
        is_admin: false,
        expires_at: None,
    }
}

/// An issuer of `https://issuer.example`, whose tokens say no more than they must.
fn issuer(keys: crate::Keys) -> crate::Issuer {
    crate::Issuer {
        issuer: "https://issuer.example".into(),
        audiences: vec!["waldelta".into()],
        algorithms: vec!["ES256".into()],
        keys,
    }
}

fn token_by(signer: &Signer) -> String {
    let claims = json!({ "iss": "https://issuer.example", "aud": "waldelta", "sub": "ada", "exp": seconds_now() + 600 });
    signer.token(&signer.header(), &claims)
}

#[tokio::test]
async fn who_came_by_a_key_that_its_issuer_has_no_longer_is_let_in_no_longer() {
    let database = TestDatabase::create("access_keys").await;
    let history = history(&database).await;
    let (old, new) = (Signer::p256(), Signer::p256());
    let of = |signer: &Signer| Config {
        issuers: vec![issuer(crate::Keys::Pem(signer.public.clone()))],
        ..config()
    };
    let access = Access::new(of(&old), history.clone());
    access.load().await.unwrap();
    let identity = access.verify(&token_by(&old)).await.unwrap();
    let tickets = [access.issue(&identity).await.unwrap(), access.issue(&identity).await.unwrap()];
    assert_eq!(access.check(&identity), Ok(()));
    let by_ticket = access.redeem(&tickets[0].text).await.unwrap();

    let mut changes = access.changes();
    changes.mark_unchanged();
    access.configure(of(&new));
    assert!(changes.has_changed().unwrap());
    for identity in [&identity, &by_ticket] {
        assert_eq!(access.check(identity), Err(Refusal::Revoked));
    }
    assert_eq!(access.redeem(&tickets[1].text).await.unwrap_err(), Refusal::Revoked);
    assert_eq!(access.verify(&token_by(&old)).await.unwrap_err(), Refusal::Invalid);
    let renewed = access.verify(&token_by(&new)).await.unwrap();
    assert_eq!(access.check(&renewed), Ok(()));
    access.configure(of(&old));
    assert_eq!((access.check(&identity), access.check(&renewed)), (Ok(()), Err(Refusal::Revoked)));
}

#[tokio::test]
async fn identities_are_looked_at_again_when_the_keys_of_an_issuer_come() {
    let database = TestDatabase::create("access_jwks").await;
    let history = history(&database).await;
    let (signer, stranger) = (Signer::p256(), Signer::p256());
    let endpoint = Endpoint::start(Answer::json(&json!({ "keys": [signer.jwk("a")] })));
    let keys = crate::Keys::Jwks { url: endpoint.url(), allow_private: true };
    let access = Access::new(Config { issuers: vec![issuer(keys)], ..config() }, history.clone());
    let of_stranger = Config { issuers: vec![issuer(crate::Keys::Pem(stranger.public.clone()))], ..config() };
    let elsewhere = Access::new(of_stranger, history);
    elsewhere.load().await.unwrap();
    access.load().await.unwrap();
    // A ticket of another process, which takes other keys.
    let ticket = elsewhere.issue(&elsewhere.verify(&token_by(&stranger)).await.unwrap()).await.unwrap();
    let foreign = access.redeem(&ticket.text).await.unwrap();
    assert_eq!(access.check(&foreign), Ok(()), "which keys there are is not known yet");
    let mut changes = access.changes();
    changes.mark_unchanged();
    let (stop, patience) = (CancellationToken::new(), Duration::from_secs(60));
    let looked_at = async {
        tokio::time::timeout(patience, changes.changed()).await.unwrap().unwrap();
        assert_eq!(access.check(&foreign), Err(Refusal::Revoked));
        access.verify(&token_by(&signer)).await.unwrap();
        stop.cancel();
    };
    tokio::join!(access.run(stop.clone()), looked_at);
}

fn seconds_now() -> u64 {
    clock::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn jwts_are_revoked_by_their_id_or_by_their_subject_up_to_then() {
    const ISSUER: &str = "https://issuer.example";
    let database = TestDatabase::create("access_revoked_jwt").await;
    let history = history(&database).await;
    let keys = crate::Keys::Secret(vec![7; 32]);
    let issuer = crate::Issuer {
        issuer: ISSUER.into(),
        audiences: vec!["waldelta".into()],
        algorithms: vec!["HS256".into()],
        keys,
    };
    let config = Config { issuers: vec![issuer], leeway: Duration::from_secs(5), ..config() };
    let access = Access::new(config, history.clone());
    let (now, one) = (seconds_now(), of_jwt(ISSUER, Some("one"), Some(seconds_now() - 60)));
    assert_eq!(access.check(&one), Err(Refusal::Unavailable), "what was revoked is not known yet");
    access.load().await.unwrap();
    assert_eq!(access.check(&one), Ok(()));
    assert_eq!(access.check(&of_jwt("https://other.example", None, Some(now))), Err(Refusal::Revoked));

    history.revoke_jwts(ISSUER, &Revoked::Token("one".into()), None).await.unwrap();
    history.revoke_jwts("https://other.example", &Revoked::Subject("ada".into()), None).await.unwrap();
    access.load().await.unwrap();
    assert_eq!(access.check(&one), Err(Refusal::Revoked));
    let two = of_jwt(ISSUER, Some("two"), Some(now - 60));
    assert_eq!(access.check(&two), Ok(()));
    assert_eq!(access.check(&of_jwt(ISSUER, None, None)), Ok(()));

    history.revoke_jwts(ISSUER, &Revoked::Subject("ada".into()), None).await.unwrap();
    access.load().await.unwrap();
    assert_eq!(access.check(&two), Err(Refusal::Revoked));
    assert_eq!(
        access.check(&of_jwt(ISSUER, None, None)),
        Err(Refusal::Revoked),
        "it does not say when it was issued"
    );
    assert_eq!(access.check(&of_jwt(ISSUER, None, Some(u64::MAX))), Err(Refusal::Revoked));
    assert_eq!(access.check(&of_jwt(ISSUER, Some("three"), Some(now + 3_600))), Ok(()), "issued since");
    assert_eq!(access.check(&Identity { subject: "bob".into(), ..of_jwt(ISSUER, None, None) }), Ok(()));
}

#[tokio::test]
async fn of_many_who_redeem_a_ticket_in_two_processes_one_is_let_in() {
    let database = TestDatabase::create("access_tickets").await;
    let (here, there) = (history(&database).await, history(&database).await);
    let made = new("ada").make(&here).await.unwrap();
    let (here, there) = (access(&here).await, access(&there).await);
    let identity = here.verify(&made.secret.0).await.unwrap();
    let ticket = here.issue(&identity).await.unwrap();
    assert_eq!(ticket.expires_in, Duration::from_secs(30));
    let redeems = (0..40).map(|n| if n % 2 == 0 { &here } else { &there }.redeem(&ticket.text));
    let redeemed = futures_util::future::join_all(redeems).await;
    let (winners, losers): (Vec<_>, Vec<_>) = redeemed.into_iter().partition(Result::is_ok);
    assert_eq!((winners.len(), losers.len()), (1, 39));
    assert!(losers.iter().all(|lost| matches!(lost, Err(Refusal::Invalid))));
    // It is who the token says.
    let redeemed = winners[0].as_ref().unwrap();
    assert_eq!((&redeemed.subject, &redeemed.origin), (&identity.subject, &identity.origin));
    assert_eq!((&redeemed.claims, &redeemed.client_ids), (&identity.claims, &identity.client_ids));
    assert_eq!((redeemed.is_admin, redeemed.expires_at), (identity.is_admin, identity.expires_at));

    for nonsense in ["", "wt_", &ticket.text[..66], &ticket.text.to_uppercase(), &made.secret.0] {
        assert_eq!(here.redeem(nonsense).await.unwrap_err(), Refusal::Invalid, "{nonsense}");
    }
    // A ticket is no token.
    assert_eq!(here.verify(&here.issue(&identity).await.unwrap().text).await.unwrap_err(), Refusal::Invalid);
}

#[tokio::test]
async fn a_ticket_ends_with_its_time_and_with_its_token() {
    let database = TestDatabase::create("access_late_tickets").await;
    let history = history(&database).await;
    let made = new("ada").make(&history).await.unwrap();
    let access = access(&history).await;
    let identity = access.verify(&made.secret.0).await.unwrap();
    let late = access.issue(&identity).await.unwrap();
    database.exec("UPDATE waldelta.tickets SET expires_at = now() - interval '1 millisecond'").await;
    assert_eq!(access.redeem(&late.text).await.unwrap_err(), Refusal::Expired);
    assert_eq!(access.redeem(&late.text).await.unwrap_err(), Refusal::Invalid, "it is used up");

    let (one, two) = (access.issue(&identity).await.unwrap(), access.issue(&identity).await.unwrap());
    let kept =
        database.query_text("SELECT string_agg(encode(t.hash, 'escape'), '') FROM waldelta.tickets t").await;
    assert!(!kept.contains(&one.text[3..]) && !kept.contains(&two.text[3..]));
    history.revoke_token(&made.id).await.unwrap();
    access.load().await.unwrap();
    assert_eq!(access.redeem(&one.text).await.unwrap_err(), Refusal::Revoked);
    assert_eq!(access.issue(&identity).await.unwrap_err(), Refusal::Revoked);
    // What nobody redeems is removed.
    database.exec("UPDATE waldelta.tickets SET expires_at = now()").await;
    history.forget_tickets().await.unwrap();
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.tickets").await, "0");
}

#[tokio::test]
async fn a_subject_has_so_many_tickets_and_another_one_has_its_own() {
    let database = TestDatabase::create("access_many_tickets").await;
    let history = history(&database).await;
    let (ada, bob) = (new("ada").make(&history).await.unwrap(), new("bob").make(&history).await.unwrap());
    let access = access(&history).await;
    let ada = access.verify(&ada.secret.0).await.unwrap();
    let bob = access.verify(&bob.secret.0).await.unwrap();
    for _ in 0..32 {
        access.issue(&ada).await.unwrap();
    }
    assert_eq!(access.issue(&ada).await.unwrap_err(), Refusal::Busy);
    access.issue(&bob).await.unwrap();
    database.exec("UPDATE waldelta.tickets SET expires_at = now()").await;
    access.issue(&ada).await.unwrap();
    assert_eq!(
        database.query_text("SELECT count(*) FROM waldelta.tickets").await,
        "1",
        "the old ones are gone"
    );
}

#[tokio::test]
async fn what_is_known_is_kept_while_history_is_out_of_reach() {
    let database = TestDatabase::create("access_unreachable").await;
    let history = history(&database).await;
    let made = new("ada").make(&history).await.unwrap();
    let access = access(&history).await;
    let identity = access.verify(&made.secret.0).await.unwrap();
    database.exec("ALTER TABLE waldelta.access_revisions RENAME TO elsewhere; ALTER TABLE waldelta.tickets RENAME TO no_tickets").await;
    assert!(access.load().await.is_err());
    assert_eq!(access.check(&identity), Ok(()));
    access.verify(&made.secret.0).await.unwrap();
    let unknown = altered(&made.secret.0, 5);
    assert_eq!(access.verify(&unknown).await.unwrap_err(), Refusal::Unavailable, "it may be a new one");
    assert_eq!(access.issue(&identity).await.unwrap_err(), Refusal::Unavailable);
    assert_eq!(access.redeem(&format!("wt_{}", "0".repeat(64))).await.unwrap_err(), Refusal::Unavailable);
    database.exec("ALTER TABLE waldelta.elsewhere RENAME TO access_revisions; UPDATE waldelta.tokens SET revoked_at = now()").await;
    access.load().await.unwrap();
    assert_eq!(access.check(&identity), Err(Refusal::Revoked));
}

#[tokio::test]
async fn a_history_that_never_answers_is_given_up_and_asked_again() {
    let database = TestDatabase::create("access_silent").await;
    let history = history(&database).await;
    let made = new("ada").make(&history).await.unwrap();
    let access = access(&history).await;
    let identity = access.verify(&made.secret.0).await.unwrap();
    let held = database.client().await;
    let hold = "BEGIN; LOCK TABLE waldelta.access_revisions, waldelta.tickets IN ACCESS EXCLUSIVE MODE";
    held.batch_execute(hold).await.unwrap();
    let (unknown, nobodys) = (altered(&made.secret.0, 5), format!("wt_{}", "0".repeat(64)));
    let all = async {
        tokio::join!(access.load(), access.verify(&unknown), access.issue(&identity), access.redeem(&nobodys),)
    };
    let (loaded, looked, issued, redeemed) = timeout(Duration::from_secs(60), all).await.expect("it ends");
    assert_eq!(loaded.unwrap_err().code(), waldelta_wal::Code::HistoryUnreachable);
    assert!(matches!(looked, Err(Refusal::Busy | Refusal::Unavailable)), "{looked:?}");
    assert_eq!(issued.unwrap_err(), Refusal::Unavailable);
    assert_eq!(redeemed.unwrap_err(), Refusal::Unavailable);
    assert_eq!(access.check(&identity), Ok(()));
    held.batch_execute("ROLLBACK; UPDATE waldelta.tokens SET revoked_at = now()").await.unwrap();
    access.load().await.unwrap();
    assert_eq!(access.check(&identity), Err(Refusal::Revoked));
}

#[tokio::test]
async fn tickets_that_are_made_up_wait_in_a_line_that_has_an_end() {
    let database = TestDatabase::create("access_ticket_line").await;
    let history = history(&database).await;
    let access = access(&history).await;
    let nobodys = format!("wt_{}", "0".repeat(64));
    let inner = &access.inner;
    assert_eq!(access.redeem(&nobodys).await.unwrap_err(), Refusal::Invalid);
    let full = inner.redeem_waiting.try_acquire_many(258).unwrap();
    assert_eq!(access.redeem(&nobodys).await.unwrap_err(), Refusal::Busy);
    drop(full);
    // Nobody waits for long, and who gave up is out of the line.
    let turns = inner.redeeming.acquire_many(2).await.unwrap();
    tokio::time::pause();
    assert_eq!(access.redeem(&nobodys).await.unwrap_err(), Refusal::Busy);
    tokio::time::resume();
    drop(turns);
    assert_eq!((inner.redeeming.available_permits(), inner.redeem_waiting.available_permits()), (2, 258));
    assert_eq!(access.redeem(&nobodys).await.unwrap_err(), Refusal::Invalid);
}

#[tokio::test]
async fn whoever_runs_it_learns_of_revocations_and_of_settings() {
    let database = TestDatabase::create("access_run").await;
    let history = history(&database).await;
    let made = new("ada").make(&history).await.unwrap();
    // While nobody needs a token nothing is read.
    let access = Access::new(Config::default(), history.clone());
    let stop = CancellationToken::new();
    let mut changes = access.changes();
    let seen = async {
        access.configure(config());
        let patience = Duration::from_secs(60);
        let known = async {
            while access.inner.known().is_err() {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(patience, known).await.unwrap();
        access.verify(&made.secret.0).await.unwrap();
        stop.cancel();
    };
    tokio::join!(access.run(stop.clone()), seen);
}

#[tokio::test]
async fn nothing_that_is_printed_has_a_secret_or_a_claim() {
    let database = TestDatabase::create("access_debug").await;
    let history = history(&database).await;
    let new = new("ada");
    let made = new.make(&history).await.unwrap();
    let access = access(&history).await;
    let identity = access.verify(&made.secret.0).await.unwrap();
    let ticket = access.issue(&identity).await.unwrap();
    let list = history.access().await.unwrap();
    let printed = format!(
        "{new:?} {made:?} {identity:?} {ticket:?} {list:?} {:?}",
        access.verify(&altered(&made.secret.0, 70)).await
    );
    assert!(printed.contains("ada"), "{printed}");
    let secret = made.secret.0.split_once('.').unwrap().1;
    for hidden in [secret, &ticket.text[3..], "s3cret-claim", "argon2id"] {
        assert!(!printed.contains(hidden), "{hidden} in {printed}");
    }
    let unfit =
        NewToken { claims: Map::from_iter([("sub".to_owned(), json!("s3cret-claim"))]), ..new.clone() };
    let error = unfit.make(&history).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}

#[tokio::test]
async fn a_token_is_made_of_what_fits() {
    let database = TestDatabase::create("access_unfit").await;
    let history = history(&database).await;
    let claims = |text: String| Map::from_iter([("c".to_owned(), json!(text))]);
    for unfit in [
        NewToken { name: " ".into(), ..new("a") },
        NewToken { name: "a\nb".into(), ..new("a") },
        NewToken { name: "n".repeat(201), ..new("a") },
        new(""),
        new("a\0"),
        NewToken { claims: claims("x".repeat(4096)), ..new("a") },
        NewToken { client_ids: vec!["x".into(); 101], ..new("a") },
        NewToken { client_ids: vec![String::new()], ..new("a") },
        NewToken { client_ids: vec!["x".repeat(129)], ..new("a") },
    ] {
        let error = unfit.make(&history).await.unwrap_err();
        assert_eq!(error.code(), waldelta_wal::Code::ConfigInvalid, "{error}");
    }
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.tokens").await, "0");
}
