//! Who the client is: from its first token to the end of its last.
//!
//! A token is verified by whoever performs [`Action::Authenticate`]; when it was revoked, it is told from outside. That it ends by
//! itself is known here. What the client may see is [`super::permission`]'s part.

#[cfg(test)]
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use super::*;
use crate::clients;
use crate::wire::client::{Hello, Token};

/// A client is told so long before its token ends.
const WARN_BEFORE: Duration = Duration::from_secs(30);

/// When a token ends by itself.
pub(super) struct Expiry {
    at: Instant,
    /// The same by the clock of people, which may be set meanwhile.
    unix_us: i64,
    is_told: bool,
}

impl Expiry {
    /// `None` where it ends never, or beyond all times.
    fn of(identity: &Identity, now: Now) -> Option<Self> {
        let since_1970 = identity.expires_at?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_us = i64::try_from(since_1970.as_micros()).ok()?;
        let at = now
            .instant
            .checked_add(Duration::from_micros(u64::try_from(unix_us - now.unix_us).unwrap_or(0)))?;
        Some(Expiry { at, unix_us, is_told: false })
    }

    fn is_over(&self, now: Now) -> bool {
        now.instant >= self.at || now.unix_us >= self.unix_us
    }

    fn left(&self, now: Now) -> Duration {
        self.at.saturating_duration_since(now.instant)
    }
}

impl Session {
    /// Takes in who the client says it is; with a token, once that is verified.
    pub(super) fn hello(&mut self, mut hello: Hello, now: Now, out: &mut Vec<Action>) {
        let token = hello.token.take();
        match (token, &self.entrance) {
            (Some(_), Entrance::Open(_)) => {
                let message = unsupported("leave `token` out");
                self.fail_with(
                    Code::NotSupportedYet,
                    &message,
                    None,
                    Closing::Refused(Code::NotSupportedYet),
                    out,
                );
            }
            (None, Entrance::Open(grant)) => {
                let grant = grant.clone();
                self.enter(hello, None, grant, now, out);
            }
            (None, Entrance::Known(Admitted { identity, grant })) => {
                let (identity, grant) = (identity.clone(), grant.clone());
                self.enter(hello, Some(identity), grant, now, out);
            }
            (None, Entrance::Closed) => self.turn_away(access::Refusal::Missing, out),
            (Some(token), Entrance::Known(_) | Entrance::Closed) => {
                self.phase = Phase::Authenticating;
                self.hello = Some(Box::new(hello));
                self.verify(token, out);
            }
        }
    }

    /// A fresh token, while the one before may still be good.
    pub(super) fn auth(&mut self, token: Token, out: &mut Vec<Action>) {
        if self.is_verifying {
            let code = Code::TokensBusy;
            let message = "a token of this connection is being checked";
            out.push(Action::Send(server::error(code, message, None, false)));
        } else if self.identity.is_none() {
            let message = unsupported("send no `auth`");
            out.push(Action::Send(server::error(Code::NotSupportedYet, &message, None, false)));
        } else {
            self.verify(token, out);
        }
    }

    fn verify(&mut self, token: Token, out: &mut Vec<Action>) {
        self.is_verifying = true;
        out.push(Action::Authenticate(token));
    }

    pub(super) fn authenticated(
        &mut self,
        verified: Result<Admitted, access::Refusal>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        self.is_verifying = false;
        match (self.hello.take(), verified) {
            (Some(hello), Ok(Admitted { identity, grant })) => {
                self.enter(*hello, Some(identity), grant, now, out)
            }
            (Some(_), Err(refusal)) => self.turn_away(refusal, out),
            (None, Ok(admitted)) => self.renew(admitted, now, out),
            // It goes on with the token that it has, for as long as that lasts.
            (None, Err(refusal)) => {
                let code = refusal.code();
                out.push(Action::Send(server::error(code, code.explanation().title, None, false)));
            }
        }
    }

    fn enter(
        &mut self,
        hello: Hello,
        identity: Option<Arc<Identity>>,
        grant: Grant,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if let Some(identity) = &identity {
            if !identity.client_ids.has(&hello.client_id) {
                return self.fail(Code::ClientIdForeign, Closing::NotAllowed(Code::ClientIdForeign), out);
            }
            self.expiry = Expiry::of(identity, now);
            if self.is_expired(now) {
                return self.turn_away(access::Refusal::Expired, out);
            }
        }
        let subject = identity.as_ref().map(|identity| identity.subject.clone());
        self.client = Some(Client {
            key: clients::key(identity.as_deref(), &hello.client_id),
            id: hello.client_id.as_str().into(),
            subject,
            session: self.seat.number,
            include_own: hello.include_own,
            frontier: Arc::new(AtomicU64::new(u64::MAX)),
            wake: self.seat.wake.clone(),
            replaced: self.seat.replaced.clone(),
        });
        self.identity = identity;
        self.follow(hello, grant, now, out);
    }

    /// A fresh token was verified.
    fn renew(&mut self, Admitted { identity, grant }: Admitted, now: Now, out: &mut Vec<Action>) {
        let (Some(before), Some(client)) = (&self.identity, &self.client) else { return };
        let code = Code::ClientIdForeign;
        if !identity.is_same_person(before) {
            let message = "the fresh token is of another subject than the connection";
            return self.fail_with(code, message, None, Closing::NotAllowed(code), out);
        }
        let refused = match Expiry::of(&identity, now) {
            _ if !identity.client_ids.has(&client.id) => Some(code),
            Some(expiry) if expiry.is_over(now) => Some(Code::TokenExpired),
            expiry => {
                self.expiry = expiry;
                None
            }
        };
        if let Some(code) = refused {
            out.push(Action::Send(server::error(code, code.explanation().title, None, false)));
            return;
        }
        self.identity = Some(identity);
        out.push(Action::Send(server::authenticated(self.expiry.as_ref().map(|expiry| expiry.left(now)))));
        self.warn_of_expiry(now, out);
        self.regrant(grant, out);
    }

    /// Whoever it is, is not let in, or not any longer.
    pub(super) fn turn_away(&mut self, refusal: access::Refusal, out: &mut Vec<Action>) {
        self.fail(refusal.code(), Closing::of_refusal(refusal), out);
    }

    pub(super) fn is_expired(&self, now: Now) -> bool {
        self.expiry.as_ref().is_some_and(|expiry| expiry.is_over(now))
    }

    /// Tells the client, once, that its token ends soon.
    pub(super) fn warn_of_expiry(&mut self, now: Now, out: &mut Vec<Action>) {
        let has_begun = self.has_begun();
        if let Some(expiry) = &mut self.expiry
            && has_begun
            && self.phase != Phase::Closing
            && !expiry.is_told
            && expiry.left(now) <= WARN_BEFORE
        {
            expiry.is_told = true;
            out.push(Action::Send(server::auth_required(expiry.left(now))));
        }
    }

    /// When the token ends, or is about to.
    pub(super) fn expiry_due(&self) -> Option<Instant> {
        let expiry = self.expiry.as_ref()?;
        match expiry.is_told || !self.has_begun() {
            true => Some(expiry.at),
            false => Some(expiry.at.checked_sub(WARN_BEFORE).unwrap_or(expiry.at)),
        }
    }

    /// When the token ends by itself.
    pub(crate) fn expires_at(&self) -> Option<Instant> {
        Some(self.expiry.as_ref()?.at)
    }

    /// Who it is, once that is known.
    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }
}

fn unsupported(advice: &str) -> String {
    format!("`tokens` is not supported by this version; no authentication is configured: {advice}")
}

/// For tests: an identity that ends after `expires_in_ms`.
#[cfg(test)]
pub(super) fn identity(subject: &str, now: Now, expires_in_ms: Option<i64>) -> Arc<Identity> {
    let at = |ms: i64| {
        let unix_us = u64::try_from(now.unix_us + ms * 1_000).unwrap();
        SystemTime::UNIX_EPOCH + Duration::from_micros(unix_us)
    };
    Arc::new(Identity {
        subject: subject.into(),
        origin: access::Origin::Static("t1".into()),
        claims: Arc::default(),
        client_ids: access::ClientIds::Only(["me".to_owned(), "w-*".to_owned()].into()),
        is_admin: false,
        expires_at: expires_in_ms.map(at),
    })
}
