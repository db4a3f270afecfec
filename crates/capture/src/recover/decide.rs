//! What is the case, and what would let capture go on: decided from what was found, and nothing else. Pure.
//!
//! Each finding is a failure with its state, and a plan. Identity comes first, then the timeline, then whether the source
//! has what history holds, then the slot: a finding further down means nothing while one before it stands. What a new epoch
//! needs at the source and a person has to make (a publication, a `wal_level`) turns the plan into their decision, and leaves
//! the failure as it is.

use waldelta_history::{Captured, Head};
use waldelta_source::Source;
use waldelta_source::catalog::{Identity, Slot};
use waldelta_wal::{EndLsn, Lsn, quote_ident};

use crate::{Error, OnGap, questions, setup};

/// From here on logical decoding is switched on by the first slot, if `wal_level` is at least replica.
const VERSION_WITH_DYNAMIC_WAL_LEVEL: u32 = 190_000;

/// What was found at the source.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) identity: Identity,
    /// The timeline, by whoever knows it best.
    pub(crate) timeline: u32,
    /// Where the timeline that history was captured from was left. Only looked for where it is another one.
    pub(crate) fork: Fork,
    /// Where the current epoch of history begins. Only looked for with `fork`.
    pub(crate) epoch_start: EndLsn,
    pub(crate) slot: Option<Slot>,
    /// Whether anything was ever streamed from the slot, as far as the server remembers.
    pub(crate) slot_was_used: bool,
    pub(crate) publication: Option<questions::Publication>,
    /// Changes were met that cannot be decoded with the publication, because it was missing when they were made.
    pub(crate) undecodable: bool,
}

/// Where one timeline left another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fork {
    /// They are the same.
    Same,
    /// Here.
    At(Lsn),
    /// The one does not come from the other.
    Unrelated,
    /// The server does not know any more.
    Unknown,
}

/// What would let capture go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing stands in the way.
    GoOn,
    /// It passes by itself.
    Wait,
    /// A new epoch.
    NewEpoch(Begin),
    /// Somebody has to do one of these first: SQL, or a command.
    Person(Vec<String>),
}

/// How the new epoch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) slot: SlotStep,
    /// From where on everything will be stored; `None`: from where the new slot begins.
    pub(crate) start: Option<EndLsn>,
    /// Whether nothing is missing between the epoch before and this one.
    pub(crate) continues: bool,
    /// Where the timelines part.
    pub(crate) fork: Option<Lsn>,
    pub(crate) by: By,
}

/// What becomes of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotStep {
    /// It is as it must be.
    Keep,
    /// It is of no use any more: dropped, and created anew.
    Replace,
    /// There is none.
    Create,
}

/// Who may let it happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Nothing is missing, so nobody has to be asked.
    Itself,
    /// Whoever has set `capture.on_gap` to `new_epoch`, or says so now.
    OnGap,
    /// Somebody who has looked: by itself it could be a mistake.
    Person,
}

/// A failure, if there is one, and the plan.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) failure: Option<Error>,
    pub(crate) plan: Plan,
}

impl Begin {
    /// Whether it may happen without anybody saying so now.
    pub(crate) fn may_happen_by_itself(&self, on_gap: OnGap) -> bool {
        match self.by {
            By::Itself => true,
            By::OnGap => on_gap == OnGap::NewEpoch,
            By::Person => false,
        }
    }
}

/// Decides. History holds everything of `captured` up to the durable end of `head`.
pub(crate) fn decide(source: &Source, captured: &Captured, head: Head, found: &Found) -> Decision {
    let case = Case { source, captured, durable: head.durable_end, found };
    let finding = case
        .feed()
        .or_else(|| case.standby())
        .or_else(|| case.identity())
        .or_else(|| case.timeline())
        .or_else(|| case.behind())
        .or_else(|| case.slot())
        .or_else(|| case.publication())
        .or_else(|| case.slot_in_use());
    match finding {
        None => Decision { failure: None, plan: Plan::GoOn },
        Some((failure, plan)) => Decision { failure: Some(failure), plan: case.possible(plan) },
    }
}

type Finding = Option<(Error, Plan)>;

struct Case<'a> {
    source: &'a Source,
    captured: &'a Captured,
    durable: EndLsn,
    found: &'a Found,
}

impl Case<'_> {
    fn feed(&self) -> Finding {
        let error = check_feed(self.captured, self.source).err()?;
        let advice = format!(
            "set source.slot = {:?} and source.publication = {:?}, or point history.url at this source's history",
            self.captured.slot, self.captured.publication
        );
        Some((error, Plan::Person(vec![advice])))
    }

    fn standby(&self) -> Finding {
        let Identity { version, is_standby, .. } = self.found.identity;
        (is_standby && version < setup::VERSION_OF_STANDBY_SLOTS).then(|| {
            let advice = "name the primary as source.url; a standby is captured from PostgreSQL 16 on";
            (Error::StandbyTooOld, Plan::Person(vec![advice.to_owned()]))
        })
    }

    fn identity(&self) -> Finding {
        let error = check_source(self.captured, &self.found.identity).err()?;
        let same_cluster = self.captured.system_id == self.found.identity.system_id;
        Some((error, self.with_gap(if same_cluster { By::OnGap } else { By::Person })))
    }

    fn timeline(&self) -> Finding {
        let (stored, timeline) = (self.captured.timeline, self.found.timeline);
        if stored == timeline {
            return None;
        }
        let durable = self.durable;
        let fork = match self.found.fork {
            Fork::At(fork) => Some(fork),
            Fork::Same | Fork::Unrelated | Fork::Unknown => None,
        };
        let survived = fork.map(|fork| durable.min(EndLsn(fork)));
        let slot = self.slot_beyond(survived);
        let is_whole = survived == Some(durable);
        let failure = match is_whole {
            true => Error::TimelineChanged { stored, found: timeline, fork, durable, slot },
            false => Error::DivergedTimeline { stored, found: timeline, fork, durable, slot },
        };
        let plan = match survived {
            Some(start) if slot == CAME_ALONG && start >= self.found.epoch_start => Plan::NewEpoch(Begin {
                slot: SlotStep::Keep,
                start: Some(start),
                continues: true,
                fork,
                by: if is_whole { By::Itself } else { By::OnGap },
            }),
            // An old primary that has come back, it may be.
            _ => match self.with_gap(if timeline < stored { By::Person } else { By::OnGap }) {
                Plan::NewEpoch(begin) => Plan::NewEpoch(Begin { fork, ..begin }),
                plan => plan,
            },
        };
        Some((failure, plan))
    }

    /// What has become of the slot on another timeline, for people. It came along only if it reaches back to where the
    /// new epoch has to begin.
    fn slot_beyond(&self, start: Option<EndLsn>) -> &'static str {
        match &self.found.slot {
            None => "there is no slot",
            Some(_) if self.foreign().is_some() => "the slot is somebody else's",
            Some(slot) if slot.is_lost() => "the slot was invalidated",
            Some(Slot { confirmed: Some(confirmed), .. })
                if start.is_some_and(|start| *confirmed <= start) =>
            {
                CAME_ALONG
            }
            Some(_) => "the slot does not reach back that far",
        }
    }

    fn behind(&self) -> Finding {
        let Identity { wal_end, is_standby, .. } = self.found.identity;
        if self.durable.0 <= wal_end {
            return None;
        }
        let plan = if is_standby { Plan::Wait } else { self.with_gap(By::OnGap) };
        Some((Error::SourceBehind { durable: self.durable, wal_end, is_standby }, plan))
    }

    /// Whether it is there, ours, alive and not ahead.
    fn slot(&self) -> Finding {
        let name = || self.source.slot.clone();
        let Some(slot) = &self.found.slot else {
            // A standby that nobody has spoken of may be an address that is on its way to the next primary.
            let is_meant = !self.found.identity.is_standby || self.source.primary.is_some();
            let by = if is_meant { By::OnGap } else { By::Person };
            return Some((Error::SlotMissing { slot: name() }, self.with_gap(by)));
        };
        if let Some(error) = self.foreign() {
            return Some((error, self.with_gap(By::OnGap)));
        }
        if let Some(reason) = slot.loss() {
            let error = Error::SlotLost { slot: name(), reason: reason.to_owned() };
            return Some((error, self.with_gap(By::OnGap)));
        }
        // Before whether it is in use: a gap must be named even while somebody else makes it larger.
        let confirmed = slot.confirmed.filter(|confirmed| *confirmed > self.durable)?;
        let likely = match (self.found.slot_was_used, slot.restart) {
            (true, _) => "somebody else has read it, or history was restored from an older backup",
            (false, Some(restart)) if restart >= self.durable.0 => "it was likely dropped and created again",
            (false, _) => "somebody has advanced it, or it was dropped and created again",
        };
        let error = Error::SlotAhead { confirmed, durable: self.durable, likely };
        Some((error, self.with_gap(By::OnGap)))
    }

    fn publication(&self) -> Finding {
        let publication = || self.source.publication.clone();
        if self.found.publication.is_none() {
            // The plan is made possible below.
            return Some((
                Error::PublicationMissing { publication: publication() },
                Plan::Person(self.publish()),
            ));
        }
        let begin =
            Begin { slot: SlotStep::Replace, start: None, continues: false, fork: None, by: By::OnGap };
        self.found
            .undecodable
            .then(|| (Error::PublicationYounger { publication: publication() }, Plan::NewEpoch(begin)))
    }

    fn slot_in_use(&self) -> Finding {
        let pid = self.found.slot.as_ref()?.active_pid?;
        Some((Error::SlotActive { slot: self.source.slot.clone(), pid }, Plan::Wait))
    }

    /// A slot of our name that is somebody else's.
    fn foreign(&self) -> Option<Error> {
        check_slot_ours(self.source, self.found.slot.as_ref()?, &self.found.identity).err()
    }

    /// A new epoch with a gap, at the slot if it can be used, else at a new one.
    fn with_gap(&self, by: By) -> Plan {
        let (slot, start) = match &self.found.slot {
            None => (SlotStep::Create, None),
            Some(_) if self.foreign().is_some() => {
                return Plan::Person(vec![
                    "name another slot: source.slot, --slot".to_owned(),
                    format!(
                        "-- if nobody else needs it\nSELECT pg_drop_replication_slot('{}')",
                        self.source.slot.replace('\'', "''")
                    ),
                ]);
            }
            Some(slot) if slot.is_lost() => (SlotStep::Replace, None),
            Some(slot) => match slot.confirmed {
                Some(confirmed) => (SlotStep::Keep, Some(confirmed)),
                // It is just being created.
                None => return Plan::Wait,
            },
        };
        Plan::NewEpoch(Begin { slot, start, continues: false, fork: None, by })
    }

    /// The plan, or what a person has to do before it can be carried out.
    fn possible(&self, plan: Plan) -> Plan {
        let Plan::NewEpoch(begin) = &plan else { return plan };
        if self.found.publication.is_none() {
            return Plan::Person(self.publish());
        }
        let Identity { version, wal_level, is_standby, .. } = &self.found.identity;
        let suffices =
            wal_level == "logical" || (wal_level == "replica" && *version >= VERSION_WITH_DYNAMIC_WAL_LEVEL);
        // What a standby says of itself is not what its primary writes.
        if begin.slot != SlotStep::Keep && !suffices && !is_standby {
            return Plan::Person(vec![
                "ALTER SYSTEM SET wal_level = 'logical'\n-- then restart PostgreSQL".to_owned(),
            ]);
        }
        plan
    }

    fn publish(&self) -> Vec<String> {
        let publication = quote_ident(&self.source.publication);
        vec![
            format!(
                "waldelta init --apply\n-- creates publication {publication} for all tables that can be captured; then look again: \
                 waldelta recover"
            ),
            format!(
                "-- or, for chosen tables\nCREATE PUBLICATION {publication} FOR TABLE <tables>, waldelta.canary\n    WITH \
                 (publish_via_partition_root = {})",
                self.source.plugin == waldelta_source::Plugin::Pgoutput
            ),
        ]
    }
}

/// What is said of a slot that another timeline has too, and that reaches back far enough.
const CAME_ALONG: &str = "the slot came along";

/// Whether history is fed by what the configuration names.
pub(crate) fn check_feed(captured: &Captured, source: &Source) -> Result<(), Error> {
    for (what, stored, configured) in
        [("slot", &captured.slot, &source.slot), ("publication", &captured.publication, &source.publication)]
    {
        if stored != configured {
            return Err(Error::OtherFeed { what, stored: stored.clone(), configured: configured.clone() });
        }
    }
    Ok(())
}

/// Whether cluster and database are those that history was captured from.
pub(crate) fn check_source(captured: &Captured, identity: &Identity) -> Result<(), Error> {
    if captured.system_id != identity.system_id {
        return Err(Error::SourceChanged {
            what: "system identifier",
            stored: captured.system_id,
            found: identity.system_id,
        });
    }
    if captured.database_oid != identity.database_oid {
        return Err(Error::SourceChanged {
            what: "database (object id)",
            stored: captured.database_oid.into(),
            found: identity.database_oid.into(),
        });
    }
    Ok(())
}

/// Whether the slot is of our plugin and database: nothing else is ever read or dropped.
pub(crate) fn check_slot_ours(source: &Source, slot: &Slot, identity: &Identity) -> Result<(), Error> {
    for (what, found, expected) in
        [("plugin", &*slot.plugin, source.plugin.name()), ("database", &slot.database, &identity.database)]
    {
        if found != expected {
            return Err(Error::SlotForeign {
                slot: source.slot.clone(),
                what,
                found: found.to_owned(),
                expected: expected.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
