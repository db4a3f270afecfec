//! Decisions, each from what was found.

use expected::*;
use waldelta_pgconn::{Environment, Target};
use waldelta_source::Plugin;
use waldelta_wal::{Code, Epoch, ValuePolicy};

use super::*;

/// What of a decision matters, in few words.
mod expected {
    use super::*;

    #[derive(Debug, PartialEq)]
    pub(super) enum Told {
        Well,
        Waits(Code),
        Person(Code),
        /// Code, slot, start, continues, fork, by whom.
        Begins(Code, SlotStep, Option<u64>, bool, Option<u64>, By),
    }

    pub(super) fn told(decision: Decision) -> Told {
        let Some(failure) = decision.failure else {
            assert_eq!(decision.plan, Plan::GoOn);
            return Told::Well;
        };
        let code = failure.code();
        match decision.plan {
            Plan::GoOn => panic!("{code:?} and nothing to do"),
            Plan::Wait => Told::Waits(code),
            Plan::Person(advice) => {
                assert!(!advice.is_empty());
                Told::Person(code)
            }
            Plan::NewEpoch(Begin { slot, start, continues, fork, by }) => {
                Told::Begins(code, slot, start.map(|start| start.0.0), continues, fork.map(|fork| fork.0), by)
            }
        }
    }
}

fn source() -> Source {
    Source {
        target: Target::parse("postgresql://u@localhost/app", &Environment::default()).unwrap(),
        publication: "waldelta".into(),
        slot: "waldelta".into(),
        plugin: Plugin::Pgoutput,
        values: ValuePolicy::default(),
        primary: None,
    }
}

fn captured() -> Captured {
    Captured {
        system_id: 7,
        timeline: 2,
        database_oid: 16_384,
        slot: "waldelta".into(),
        publication: "waldelta".into(),
    }
}

fn slot(confirmed: u64) -> Slot {
    Slot {
        plugin: "pgoutput".into(),
        database: "app".into(),
        active_pid: None,
        confirmed: Some(EndLsn(Lsn(confirmed))),
        restart: Some(Lsn(confirmed - 50)),
        wal_status: Some("reserved".into()),
        safe_wal_bytes: None,
        retained_bytes: 0,
        two_phase: false,
        invalidation_reason: None,
        conflicting: None,
        failover: None,
        synced: None,
        inactive_seconds: None,
    }
}

/// History holds up to 1000; the slot is confirmed up to 900; the WAL ends at 5000.
fn well() -> Found {
    Found {
        identity: Identity {
            system_id: 7,
            timeline: 2,
            database_oid: 16_384,
            database: "app".into(),
            encoding: "UTF8".into(),
            version: 150_000,
            wal_level: "logical".into(),
            is_standby: false,
            next_xid: 800,
            wal_end: Lsn(5_000),
        },
        timeline: 2,
        fork: Fork::Same,
        epoch_start: EndLsn(Lsn(100)),
        slot: Some(slot(900)),
        slot_was_used: true,
        publication: Some(questions::Publication::WithCanary),
        undecodable: false,
    }
}

fn of(change: impl FnOnce(&mut Found)) -> Told {
    let mut found = well();
    change(&mut found);
    let head = Head { epoch: Epoch(1), durable_end: EndLsn(Lsn(1_000)) };
    told(decide(&source(), &captured(), head, &found))
}

/// Of another timeline, left where it says.
fn promoted(fork: Fork, change: impl FnOnce(&mut Found)) -> Told {
    of(|found| {
        (found.timeline, found.identity.timeline, found.fork) = (3, 3, fork);
        change(found);
    })
}

fn at(lsn: u64) -> Fork {
    Fork::At(Lsn(lsn))
}

const GAP: bool = false;
const CONTINUES: bool = true;

#[test]
fn nothing_stands_in_the_way() {
    assert_eq!(of(|_| {}), Told::Well);
    // Told everything, and nothing more.
    assert_eq!(of(|found| found.slot = Some(slot(1_000))), Told::Well);
}

#[test]
fn a_slot_that_cannot_be_gone_on_with() {
    let gap = |code, step, start| Told::Begins(code, step, start, GAP, None, By::OnGap);
    assert_eq!(of(|found| found.slot = None), gap(Code::SlotMissing, SlotStep::Create, None));
    let lost = Slot { restart: None, wal_status: Some("lost".into()), ..slot(900) };
    assert_eq!(of(|found| found.slot = Some(lost)), gap(Code::SlotLost, SlotStep::Replace, None));
    let conflicting = Slot { conflicting: Some(true), ..slot(900) };
    assert_eq!(of(|found| found.slot = Some(conflicting)), gap(Code::SlotLost, SlotStep::Replace, None));
    // What it has from there on is whole: nothing is gained by a new one.
    assert_eq!(of(|found| found.slot = Some(slot(1_001))), gap(Code::SlotAhead, SlotStep::Keep, Some(1_001)));
}

#[test]
fn a_slot_that_is_lost_says_why() {
    let reason = |slot: Slot| slot.loss().map(str::to_owned);
    let lost = || Slot { wal_status: Some("lost".into()), ..slot(900) };
    assert_eq!(reason(slot(900)), None);
    assert_eq!(reason(lost()).as_deref(), Some("wal_removed"));
    let told = |word: &str| Some(word.to_owned());
    let idle = Slot { invalidation_reason: told("idle_timeout"), conflicting: Some(false), ..lost() };
    assert_eq!(reason(idle), told("idle_timeout"));
    let creating = Slot { restart: None, confirmed: None, active_pid: Some(1), ..slot(900) };
    assert_eq!(reason(creating), None, "it is being created");
}

#[test]
fn a_slot_ahead_says_what_is_likely() {
    let likely = |was_used: bool, restart: u64| {
        let mut found = well();
        found.slot = Some(Slot { restart: Some(Lsn(restart)), ..slot(2_000) });
        found.slot_was_used = was_used;
        let head = Head { epoch: Epoch(1), durable_end: EndLsn(Lsn(1_000)) };
        decide(&source(), &captured(), head, &found).failure.unwrap().to_string()
    };
    assert!(likely(true, 1_900).contains("restored"));
    assert!(likely(false, 1_900).ends_with("likely dropped and created again"));
    assert!(likely(false, 900).contains("advanced"));
}

#[test]
fn a_slot_that_others_use_or_own() {
    let used = Slot { active_pid: Some(42), ..slot(900) };
    assert_eq!(of(|found| found.slot = Some(used.clone())), Told::Waits(Code::SlotActive));
    let ahead = Slot { active_pid: Some(42), ..slot(1_001) };
    let begins = Told::Begins(Code::SlotAhead, SlotStep::Keep, Some(1_001), GAP, None, By::OnGap);
    assert_eq!(of(|found| found.slot = Some(ahead)), begins, "a gap is named before who makes it larger");
    for foreign in [
        Slot { plugin: "test_decoding".into(), ..slot(900) },
        Slot { database: "other".into(), ..slot(900) },
        Slot { plugin: String::new(), database: String::new(), confirmed: None, ..slot(900) },
    ] {
        assert_eq!(of(|found| found.slot = Some(foreign)), Told::Person(Code::SlotUnusable));
    }
}

#[test]
fn another_source() {
    let created = |by| Told::Begins(Code::SourceChanged, SlotStep::Create, None, GAP, None, by);
    let elsewhere = |found: &mut Found| {
        found.identity.system_id = 8;
        found.slot = None;
    };
    assert_eq!(of(elsewhere), created(By::Person), "it can be a wrong URL");
    let recreated = |found: &mut Found| {
        found.identity.database_oid = 17_000;
        found.slot = None;
    };
    assert_eq!(of(recreated), created(By::OnGap));
    // The slot of the other database is still there: nobody has dropped that.
    let other = |found: &mut Found| {
        (found.identity.database_oid, found.identity.database) = (17_000, "other".into());
    };
    assert_eq!(of(other), Told::Person(Code::SourceChanged));
}

#[test]
fn a_promotion_that_history_survived() {
    let goes_on = |start| {
        Told::Begins(Code::TimelineChanged, SlotStep::Keep, Some(start), CONTINUES, Some(4_000), By::Itself)
    };
    assert_eq!(promoted(at(4_000), |_| {}), goes_on(1_000));
    // A slot that lags on the new primary sends again what history has: that is dropped.
    assert_eq!(promoted(at(4_000), |found| found.slot = Some(slot(200))), goes_on(1_000));
    let at_fork =
        Told::Begins(Code::TimelineChanged, SlotStep::Keep, Some(1_000), CONTINUES, Some(1_000), By::Itself);
    assert_eq!(promoted(at(1_000), |_| {}), at_fork);
}

#[test]
fn a_promotion_without_the_slot() {
    let gap = |step, start| Told::Begins(Code::TimelineChanged, step, start, GAP, Some(4_000), By::OnGap);
    assert_eq!(promoted(at(4_000), |found| found.slot = None), gap(SlotStep::Create, None));
    let lost = Slot { wal_status: Some("lost".into()), ..slot(900) };
    assert_eq!(promoted(at(4_000), |found| found.slot = Some(lost)), gap(SlotStep::Replace, None));
    assert_eq!(
        promoted(at(4_000), |found| found.slot = Some(slot(4_500))),
        gap(SlotStep::Keep, Some(4_500)),
        "created after the promotion"
    );
}

#[test]
fn a_promotion_that_history_is_ahead_of() {
    let diverged = |step, start, continues, fork, by| {
        Told::Begins(Code::DivergedTimeline, step, start, continues, fork, by)
    };
    assert_eq!(
        promoted(at(950), |_| {}),
        diverged(SlotStep::Keep, Some(950), CONTINUES, Some(950), By::OnGap)
    );
    assert_eq!(
        promoted(at(800), |_| {}),
        diverged(SlotStep::Keep, Some(900), GAP, Some(800), By::OnGap),
        "the slot does not reach back to the fork"
    );
    assert_eq!(
        promoted(at(50), |found| found.slot = Some(slot(50))),
        diverged(SlotStep::Keep, Some(50), GAP, Some(50), By::OnGap),
        "nor does this epoch"
    );
    assert_eq!(promoted(Fork::Unknown, |_| {}), diverged(SlotStep::Keep, Some(900), GAP, None, By::OnGap));
    let older = |found: &mut Found| (found.timeline, found.identity.timeline) = (1, 1);
    assert_eq!(
        promoted(Fork::Unrelated, older),
        diverged(SlotStep::Keep, Some(900), GAP, None, By::Person),
        "an old primary came back"
    );
}

#[test]
fn a_source_that_has_less_than_history() {
    let behind = |found: &mut Found| found.identity.wal_end = Lsn(999);
    let begins = Told::Begins(Code::SourceBehind, SlotStep::Keep, Some(900), GAP, None, By::OnGap);
    assert_eq!(of(behind), begins);
    let replaying = |found: &mut Found| {
        behind(found);
        (found.identity.version, found.identity.is_standby) = (160_000, true);
    };
    assert_eq!(of(replaying), Told::Waits(Code::SourceBehind));
}

#[test]
fn a_publication_that_is_gone_or_was() {
    assert_eq!(of(|found| found.publication = None), Told::Person(Code::PublicationMissing));
    let was_gone = Told::Begins(Code::PublicationMissing, SlotStep::Replace, None, GAP, None, By::OnGap);
    assert_eq!(of(|found| found.undecodable = true), was_gone);
    let both = |found: &mut Found| {
        found.undecodable = true;
        found.slot = Some(Slot { active_pid: Some(42), ..slot(900) });
    };
    assert_eq!(of(both), was_gone, "our own connection may not have gone yet");
}

/// The state stays what it is; the plan becomes what somebody has to do.
#[test]
fn a_new_epoch_needs_a_publication_and_the_wal() {
    let without = |found: &mut Found| (found.slot, found.publication) = (None, None);
    assert_eq!(of(without), Told::Person(Code::SlotMissing));
    let level = |version, is_standby| {
        of(|found| {
            found.slot = None;
            found.identity.wal_level = "replica".into();
            (found.identity.version, found.identity.is_standby) = (version, is_standby);
        })
    };
    assert_eq!(level(180_000, false), Told::Person(Code::SlotMissing));
    let begins = || Told::Begins(Code::SlotMissing, SlotStep::Create, None, GAP, None, By::OnGap);
    assert_eq!(level(190_000, false), begins(), "the slot switches it on");
    let person = Told::Begins(Code::SlotMissing, SlotStep::Create, None, GAP, None, By::Person);
    assert_eq!(
        level(180_000, true),
        person,
        "what its primary writes is not known; nor that a standby is meant"
    );
    assert_eq!(level(150_000, true), Told::Person(Code::VersionUnsupported));
}

#[test]
fn what_may_happen_by_itself() {
    let begin = |by| Begin { slot: SlotStep::Keep, start: None, continues: false, fork: None, by };
    for (by, on_stop, on_new_epoch) in
        [(By::Itself, true, true), (By::OnGap, false, true), (By::Person, false, false)]
    {
        assert_eq!(begin(by).may_happen_by_itself(OnGap::Stop), on_stop);
        assert_eq!(begin(by).may_happen_by_itself(OnGap::NewEpoch), on_new_epoch);
    }
}
