//! Proving who we are to the server: no password, clear text where nobody can read along, MD5, SCRAM-SHA-256. Pure: it
//! turns the server's demands into answers and never touches the socket.

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;

use waldelta_pgconn::Target;

use super::error::Error;

/// What an authentication message of the server leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send this.
    Answer(BytesMut),
    /// Wait for the next message.
    Wait,
    /// We are in.
    Done,
}

/// One authentication exchange.
pub(crate) struct Authentication<'a> {
    user: &'a str,
    password: Option<&'a str>,
    /// Only a login that is tied to its TLS connection will do, which is not spoken here.
    binding_required: bool,
    /// Nobody on the way can read along.
    private: bool,
    scram: Option<ScramSha256>,
    /// The server's signature was checked, or none was to be had because it never asked for SCRAM.
    proven: bool,
}

impl<'a> Authentication<'a> {
    /// `private`: nobody on the way can read along.
    pub(crate) fn new(target: &'a Target, private: bool) -> Self {
        let binding_required = target.channel_binding_required();
        Self::with(target.user(), target.password(), binding_required, private)
    }

    fn with(user: &'a str, password: Option<&'a str>, binding_required: bool, private: bool) -> Self {
        Authentication { user, password, binding_required, private, scram: None, proven: true }
    }

    /// Takes the body of an Authentication message.
    pub(crate) fn take(&mut self, body: &[u8]) -> Result<Step, Error> {
        let Some((code, rest)) = body.split_first_chunk::<4>() else {
            return Err(Error::Unexpected { what: "authenticate" });
        };
        if self.binding_required {
            return Err(Error::ChannelBindingRequired);
        }
        match u32::from_be_bytes(*code) {
            // A server that breaks a SCRAM exchange off and lets us in all the same has not shown who it is.
            0 if self.proven => Ok(Step::Done),
            0 => Err(Error::Unexpected { what: "authenticate" }),
            3 if !self.private => Err(Error::PasswordExposed),
            3 => password_message(self.password()?.as_bytes()),
            5 => {
                let salt = rest.try_into().map_err(|_| Error::Unexpected { what: "authenticate by MD5" })?;
                password_message(md5_hash(self.user.as_bytes(), self.password()?.as_bytes(), salt).as_bytes())
            }
            10 => self.begin_scram(rest),
            11 => {
                let scram = self.scram.as_mut().ok_or(Error::Unexpected { what: "authenticate by SCRAM" })?;
                scram.update(rest).map_err(Error::Scram)?;
                let mut answer = BytesMut::new();
                frontend::sasl_response(scram.message(), &mut answer).map_err(Error::Scram)?;
                Ok(Step::Answer(answer))
            }
            12 => {
                let mut scram =
                    self.scram.take().ok_or(Error::Unexpected { what: "authenticate by SCRAM" })?;
                scram.finish(rest).map_err(Error::Scram)?;
                self.proven = true;
                Ok(Step::Wait)
            }
            other => Err(Error::AuthenticationUnsupported { method: method_name(other) }),
        }
    }

    fn password(&self) -> Result<&'a str, Error> {
        self.password.ok_or(Error::PasswordMissing)
    }

    fn begin_scram(&mut self, mechanisms: &[u8]) -> Result<Step, Error> {
        if !mechanisms.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) {
            return Err(Error::AuthenticationUnsupported {
                method: "a SASL mechanism other than SCRAM-SHA-256".into(),
            });
        }
        // Channel binding is not spoken here; "unsupported" is the honest word also where the server offers it.
        let scram = ScramSha256::new(self.password()?.as_bytes(), ChannelBinding::unsupported());
        let mut answer = BytesMut::new();
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut answer).map_err(Error::Scram)?;
        self.scram = Some(scram);
        self.proven = false;
        Ok(Step::Answer(answer))
    }
}

fn password_message(password: &[u8]) -> Result<Step, Error> {
    let mut answer = BytesMut::new();
    frontend::password_message(password, &mut answer).map_err(Error::Scram)?;
    Ok(Step::Answer(answer))
}

/// Names of the methods by their codes (PostgreSQL documentation, "Message Formats").
fn method_name(code: u32) -> String {
    match code {
        2 => "Kerberos V5".into(),
        7 | 8 => "GSSAPI".into(),
        9 => "SSPI".into(),
        other => format!("method {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(code: u32, rest: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes(), rest].concat()
    }

    #[test]
    fn trust_needs_nothing() {
        assert_eq!(Authentication::with("u", None, false, false).take(&demand(0, b"")).unwrap(), Step::Done);
    }

    #[test]
    fn a_password_in_clear_only_where_nobody_reads_along() {
        let exposed = Authentication::with("u", Some("p"), false, false).take(&demand(3, b""));
        assert!(matches!(exposed, Err(Error::PasswordExposed)));
        let private = Authentication::with("u", Some("p"), false, true).take(&demand(3, b"")).unwrap();
        assert_eq!(private, Step::Answer(BytesMut::from(&b"p\0\0\0\x06p\0"[..])));
        let missing = Authentication::with("u", None, false, true).take(&demand(3, b""));
        assert!(matches!(missing, Err(Error::PasswordMissing)));
    }

    #[test]
    fn md5_is_salted() {
        // select 'md5' || md5(md5('p' || 'u') || E'\x01\x02\x03\x04')
        let Step::Answer(answer) =
            Authentication::with("u", Some("p"), false, false).take(&demand(5, &[1, 2, 3, 4])).unwrap()
        else {
            panic!("an answer")
        };
        assert_eq!(&answer[5..8], b"md5");
        assert_eq!(answer.len(), 5 + 3 + 32 + 1);
        let bad_salt = Authentication::with("u", Some("p"), false, false).take(&demand(5, &[1, 2]));
        assert!(matches!(bad_salt, Err(Error::Unexpected { .. })));
    }

    #[test]
    fn a_server_that_skips_its_proof_is_not_believed() {
        let mut exchange = Authentication::with("u", Some("p"), false, false);
        let Step::Answer(answer) =
            exchange.take(&demand(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")).unwrap()
        else {
            panic!("an answer")
        };
        assert!(answer.windows(8).any(|window| window == b"n,,n=,r="), "no channel binding is claimed");
        assert!(matches!(exchange.take(&demand(0, b"")), Err(Error::Unexpected { .. })));
    }

    #[test]
    fn what_is_not_spoken_is_named() {
        let bound = Authentication::with("u", Some("p"), true, true).take(&demand(0, b""));
        assert!(matches!(bound, Err(Error::ChannelBindingRequired)));
        let kerberos = Authentication::with("u", None, false, false).take(&demand(7, b"")).unwrap_err();
        assert_eq!(kerberos.to_string(), "the server wants authentication by GSSAPI, which is not supported");
        assert!(Authentication::with("u", Some("p"), false, false).take(&demand(10, b"OTHER\0\0")).is_err());
        assert!(Authentication::with("u", Some("p"), false, false).take(&demand(11, b"r=")).is_err());
        assert!(Authentication::with("u", Some("p"), false, false).take(b"\0").is_err());
    }
}
