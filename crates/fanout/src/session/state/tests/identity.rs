//! Tokens: what is needed to be let in, what a fresh one changes, and how one ends.

use waldelta_access::Refusal as NotLetIn;

use super::*;
use crate::session::state::identity::identity;
use crate::wire::client::Token;

fn token(text: &str) -> Option<Token> {
    Some(Token(text.into()))
}

impl Scenario {
    fn entering(entrance: Entrance) -> Self {
        let mut it = Self::new();
        it.session.entrance = entrance;
        it.now.unix_us = 1_700_000_000_000_000;
        it
    }

    fn admitted(&self, subject: &str, expires_in_ms: Option<i64>) -> Admitted {
        let identity = identity(subject, self.now, expires_in_ms);
        Admitted { identity, grant: Grant::everything() }
    }

    fn verified(&mut self, subject: &str, expires_in_ms: Option<i64>) -> Vec<String> {
        let admitted = self.admitted(subject, expires_in_ms);
        self.apply(Event::Authenticated(Ok(admitted)))
    }

    fn hello_as(&mut self, client_id: &str, token: Option<Token>) -> Vec<String> {
        let hello = Hello {
            client_id: client_id.into(),
            token,
            after: None,
            access: None,
            subscriptions: vec![subscription("s1", "t")],
            include_own: false,
            snapshot: true,
            snapshot_from: None,
        };
        self.frame(ClientFrame::Hello(hello))
    }

    /// A live session whose token ends after so many milliseconds.
    fn live_until(expires_in_ms: Option<i64>) -> Self {
        let mut it = Self::entering(Entrance::Closed);
        assert_eq!(it.hello_as("me", token("a")), ["authenticate a"]);
        assert_eq!(it.verified("ann", expires_in_ms), ["attach 1", "ask", "resolve"]);
        it.apply(Event::Attached(position(100)));
        it.apply(Event::FrontierKnown);
        it.begin(Some(100));
        it.private(100, &[], 100, true);
        it
    }

    fn told(&mut self, event: Event) -> Vec<Value> {
        let mut actions = Vec::new();
        self.session.apply(event, self.now, &mut actions);
        let frames = actions.iter().filter_map(|action| match action {
            Action::Send(frame) => Some(serde_json::from_str(frame).unwrap()),
            _ => None,
        });
        frames.collect()
    }
}

#[test]
fn without_a_token_nobody_is_let_in_where_one_is_needed() {
    let mut it = Scenario::entering(Entrance::Closed);
    assert_eq!(it.hello_as("me", None), ["error WD-TOKEN-MISSING", "close 4401"]);
    for (refusal, expected) in [
        (NotLetIn::Invalid, ["error WD-TOKEN-INVALID", "close 4401"]),
        (NotLetIn::Expired, ["error WD-TOKEN-EXPIRED", "close 4401"]),
        (NotLetIn::Revoked, ["error WD-TOKEN-REVOKED", "close 4401"]),
        (NotLetIn::Busy, ["error WD-TOKENS-BUSY", "close 1013"]),
        (NotLetIn::Unavailable, ["error WD-KEYS-UNAVAILABLE", "close 1013"]),
    ] {
        let mut it = Scenario::entering(Entrance::Closed);
        assert_eq!(it.hello_as("me", token("a")), ["authenticate a"]);
        assert!(it.session.client().is_none() && it.session.grant().is_none(), "nothing is known of it yet");
        assert_eq!(it.apply(Event::Authenticated(Err(refusal))), expected);
    }
    let mut it = Scenario::entering(Entrance::Closed);
    it.hello_as("me", token("a"));
    assert_eq!(it.verified("ann", Some(-1)), ["error WD-TOKEN-EXPIRED", "close 4401"]);
}

#[test]
fn what_the_request_has_said_is_enough_and_a_token_goes_before_it() {
    let mut it = Scenario::entering(Entrance::Closed);
    it.session.entrance = Entrance::Known(it.admitted("ann", None));
    assert_eq!(it.hello_as("me", None), ["attach 1", "ask", "resolve"]);
    let client = it.session.client().unwrap();
    assert_eq!((client.subject.as_deref(), &*client.key), (Some("ann"), r#"["ann","me"]"#));
    let mut it = Scenario::entering(Entrance::Closed);
    it.session.entrance = Entrance::Known(it.admitted("ann", None));
    assert_eq!(it.hello_as("me", token("b")), ["authenticate b"]);
    it.verified("bob", None);
    assert_eq!(it.session.identity().map(|it| &*it.subject), Some("bob"));
}

#[test]
fn where_nobody_authenticates_tokens_are_refused_by_name() {
    let mut it = Scenario::new();
    assert_eq!(it.hello_as("me", token("a")), ["error WD-NOT-SUPPORTED-YET", "close 4400"]);
    let mut it = Scenario::live();
    let auth = ClientFrame::Auth(Token("a".into()));
    assert_eq!(it.frame(auth), ["error WD-NOT-SUPPORTED-YET"]);
    assert_eq!(it.session.state(), "live");
}

#[test]
fn a_client_id_that_the_token_does_not_name_is_refused() {
    for (client_id, expected) in [
        ("me", &["attach 1", "ask", "resolve"][..]),
        ("w-1", &["attach 1", "ask", "resolve"][..]),
        ("you", &["error WD-CLIENT-ID-FOREIGN", "close 4403"][..]),
    ] {
        let mut it = Scenario::entering(Entrance::Closed);
        it.hello_as(client_id, token("a"));
        assert_eq!(it.verified("ann", None), expected, "{client_id}");
    }
}

#[test]
fn one_token_is_verified_at_a_time_and_nothing_else_comes_in_meanwhile() {
    let mut it = Scenario::entering(Entrance::Closed);
    it.hello_as("me", token("a"));
    assert_eq!(it.frame(ClientFrame::Auth(Token("b".into()))), ["error WD-TOKENS-BUSY"]);
    assert!(it.apply(Event::Regranted(Grant::everything())).is_empty());
    assert_eq!(it.session.want(), Want::Nothing);
    assert_eq!(it.hello_as("me", token("a")), ["error WD-FRAME-INVALID", "close 4400"]);
    assert!(it.verified("ann", None).is_empty(), "it has gone");
}

#[test]
fn a_token_that_ends_is_told_in_time_and_ends_the_session() {
    let mut it = Scenario::live_until(Some(100_000));
    let ends_at = it.now.instant + 100 * SECOND;
    assert_eq!(it.session.expires_at(), Some(ends_at));
    while it.now.instant < ends_at - 30 * SECOND {
        it.apply(Event::Heard);
        it.now.instant = it.session.deadline().max(it.now.instant);
        if it.now.instant < ends_at - 30 * SECOND {
            assert!(!it.apply(Event::Tick).contains(&"auth_required".to_owned()));
        }
    }
    assert_eq!(it.now.instant, ends_at - 30 * SECOND, "it wakes for that");
    assert_eq!(
        it.told(Event::Tick)[0],
        serde_json::json!({"type": "auth_required", "expires_in_ms": 30_000})
    );
    assert!(it.told(Event::Tick).is_empty(), "once");
    let mut last = Vec::new();
    while last.is_empty() {
        it.apply(Event::Heard);
        it.now.instant = it.session.deadline();
        last = it.apply(Event::Tick).into_iter().filter(|what| what != "ping").collect();
    }
    assert_eq!(
        (last, it.now.instant),
        (vec!["error WD-TOKEN-EXPIRED".to_owned(), "close 4401".into()], ends_at)
    );
}

#[test]
fn a_clock_that_is_set_forward_ends_it_too() {
    let mut it = Scenario::live_until(Some(100_000));
    it.now.unix_us += 100_000_000;
    assert_eq!(it.apply(Event::Tick), ["error WD-TOKEN-EXPIRED", "close 4401"]);
}

#[test]
fn a_token_that_ends_sooner_is_told_with_the_welcome() {
    let mut it = Scenario::entering(Entrance::Closed);
    it.hello_as("me", token("a"));
    it.verified("ann", Some(20_000));
    assert_eq!(it.begin(Some(100)), ["welcome", "auth_required"]);
    // And where it takes a snapshot.
    let mut it = Scenario::entering(Entrance::Closed);
    it.hello_as("me", token("a"));
    it.verified("ann", Some(20_000));
    assert_eq!(it.begin(None), ["welcome", "hydrate all", "auth_required"]);
    assert_eq!(it.later(20 * SECOND).apply(Event::Tick), ["error WD-TOKEN-EXPIRED", "close 4401"]);
}

#[test]
fn a_fresh_token_of_the_same_subject_goes_on_where_the_other_was() {
    let mut it = Scenario::live_until(Some(20_000));
    assert_eq!(it.frame(ClientFrame::Auth(Token("b".into()))), ["authenticate b"]);
    let told = it.apply(Event::Authenticated(Err(NotLetIn::Invalid)));
    assert_eq!((told, it.session.state()), (vec!["error WD-TOKEN-INVALID".to_owned()], "live"));
    assert_eq!(it.frame(ClientFrame::Auth(Token("c".into()))), ["authenticate c"]);
    let admitted = it.admitted("ann", Some(60_000));
    let told = it.told(Event::Authenticated(Ok(admitted)));
    assert_eq!(told, [serde_json::json!({"type": "authenticated", "expires_in_ms": 60_000})]);
    assert_eq!((it.session.expires_at(), it.session.state()), (Some(it.now.instant + 60 * SECOND), "live"));
    // It is warned of that one's end anew.
    assert_eq!(it.later(30 * SECOND).apply(Event::Tick)[0], "auth_required");
    it.frame(ClientFrame::Auth(Token("d".into())));
    let admitted = it.admitted("ann", None);
    assert_eq!(it.told(Event::Authenticated(Ok(admitted))), [serde_json::json!({"type": "authenticated"})]);
    assert_eq!(it.session.expires_at(), None);
}

#[test]
fn a_fresh_token_that_does_not_fit_changes_nothing_and_one_of_another_subject_ends_it() {
    let mut it = Scenario::live_until(None);
    let mut foreign = it.admitted("ann", None);
    let mut other = Identity::clone(&foreign.identity);
    other.client_ids = access::ClientIds::Only(["you".to_owned()].into());
    foreign.identity = Arc::new(other);
    it.frame(ClientFrame::Auth(Token("b".into())));
    assert_eq!(it.apply(Event::Authenticated(Ok(foreign))), ["error WD-CLIENT-ID-FOREIGN"]);
    it.frame(ClientFrame::Auth(Token("c".into())));
    assert_eq!(it.verified("ann", Some(-1)), ["error WD-TOKEN-EXPIRED"]);
    assert_eq!((it.session.state(), it.session.expires_at()), ("live", None));
    it.frame(ClientFrame::Auth(Token("d".into())));
    assert_eq!(it.verified("bob", None), ["error WD-CLIENT-ID-FOREIGN", "close 4403"]);
}

#[test]
fn a_fresh_token_of_another_issuer_is_of_somebody_else_who_is_called_the_same() {
    let mut it = Scenario::live_until(None);
    let mut foreign = it.admitted("ann", None);
    let origin = access::Origin::Jwt { issuer: "https://other".into(), id: None, issued_at: None, key: None };
    foreign.identity = Arc::new(Identity { origin, ..Identity::clone(&foreign.identity) });
    it.frame(ClientFrame::Auth(Token("b".into())));
    let told = it.apply(Event::Authenticated(Ok(foreign)));
    assert_eq!(told, ["error WD-CLIENT-ID-FOREIGN", "close 4403"]);
}

#[test]
fn who_is_revoked_goes_at_once_whatever_the_session_does() {
    let revoked = || Event::Unauthorized(NotLetIn::Revoked);
    let expected = ["error WD-TOKEN-REVOKED", "close 4401"];
    assert_eq!(Scenario::live_until(None).apply(revoked()), expected);
    let mut it = Scenario::entering(Entrance::Closed);
    it.hello_as("me", token("a"));
    it.verified("ann", None);
    it.begin(None);
    assert_eq!(it.session.state(), "hydrating");
    assert_eq!(it.apply(revoked()), expected);
    assert!(it.apply(Event::Hydration(ended(100, 100))).is_empty(), "nothing after the end");
}
