//! Who asks, as the gate found out; an extension of each request that it lets pass.

use std::sync::Arc;

use axum::http::StatusCode;
use waldelta_access::{Identity, Refusal};
use waldelta_wal::Code;

use super::problem::Problem;
use crate::audit::{Audit, Who};
use crate::clients;
use crate::limits::{Quotas, SessionShare};
use crate::peer::Peer;
use crate::rules::Grant;

/// Who asks. It has no `Debug`: what somebody may see tells of their claims.
#[derive(Clone)]
pub(crate) struct Asker {
    /// `None` where nobody has to say who they are; and for a WebSocket that has not said it yet.
    pub identity: Option<Arc<Identity>>,
    /// What they may see, as the rules were when they asked.
    pub grant: Grant,
    /// Where they ask from, where the listener tells.
    pub peer: Option<Peer>,
    /// For a WebSocket alone, which is told over it: why what its request presented is not accepted.
    pub refusal: Option<Refusal>,
    /// Whether others are answered something else: then nothing is kept for anybody but them.
    pub is_somebody: bool,
}

impl Asker {
    /// Whether a client id may be used. Who is turned away is told to the audit.
    pub(crate) fn check_client_id(&self, audit: &Audit, client_id: &str) -> Result<(), Problem> {
        match &self.identity {
            Some(identity) if !identity.client_ids.has(client_id) => {
                let code = Code::ClientIdForeign;
                audit.refused(Who { client_id: Some(client_id), ..self.who() }, code);
                Err(Problem::new(StatusCode::FORBIDDEN, code, code.explanation().title))
            }
            _ => Ok(()),
        }
    }

    /// What a client of theirs is known by among all clients.
    pub(crate) fn key(&self, client_id: &str) -> Arc<str> {
        clients::key(self.identity.as_deref(), client_id)
    }

    /// Their share of what is held for as long as it lasts, as a session is: given back when it is dropped. Who is turned away is
    /// told to the audit.
    pub(crate) fn share(
        &self,
        quotas: &Quotas,
        audit: &Audit,
        client_id: &str,
    ) -> Result<SessionShare, Problem> {
        let address = self.peer.map(|peer| peer.address);
        quotas.session(address, self.identity.as_deref()).map_err(|_closing| {
            let code = Code::TooManyConnections;
            self.too_many(audit, client_id, code, code.explanation().title)
        })
    }

    /// There is no place for them: the answer, which the audit is told of, as it is of sessions.
    pub(crate) fn too_many(&self, audit: &Audit, client_id: &str, code: Code, detail: &str) -> Problem {
        let client_id = Some(client_id).filter(|client_id| !client_id.is_empty());
        audit.refused(Who { client_id, ..self.who() }, code);
        Problem::new(StatusCode::TOO_MANY_REQUESTS, code, detail)
    }

    /// For the audit.
    pub(crate) fn who(&self) -> Who<'_> {
        Who {
            identity: self.identity.as_deref(),
            client_id: None,
            address: self.peer.map(|peer| peer.address),
        }
    }
}
