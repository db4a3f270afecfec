//! What a client says wrongly at its hello now and then, and the answer that docs/protocol.md gives to each: whatever is broken
//! meanwhile, it is told that, or to come back.

use serde_json::{Value, json};
use waldelta_testkit::Dice;
use waldelta_wal::{Epoch, Lsn, Position};

use crate::access::unknown_token;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// A cursor beyond everything.
    Future,
    /// One of an epoch that never was.
    Foreign,
    /// One from before everything.
    BeforeAll,
    /// It stored the name of other permissions beside its cursor.
    Access,
    /// No cursor at all.
    Garbage,
    /// A cursor beyond everything of a client that wants no snapshot.
    FutureAlone,
    NoToken,
    /// The token of nobody.
    UnknownToken,
    /// A token that is right but for its secret.
    AlteredToken,
}

const ALL: [Wrong; 9] = [
    Wrong::Future,
    Wrong::Foreign,
    Wrong::BeforeAll,
    Wrong::Access,
    Wrong::Garbage,
    Wrong::FutureAlone,
    Wrong::NoToken,
    Wrong::UnknownToken,
    Wrong::AlteredToken,
];

/// What has to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A reset of everything for this reason, before anything else.
    Reset(&'static str),
    /// An end with this close code and this code in its reason.
    End(u16, &'static str),
}

impl Answer {
    /// Takes a frame that comes before the answer is there. Whether it is the answer.
    pub(super) fn is(self, name: &str, frame: &str) -> bool {
        let is_of = |kind: &str| frame.starts_with(&format!(r#"{{"type":"{kind}""#));
        if let Answer::Reset(reason) = self
            && is_of("reset")
        {
            let all = !frame.contains(r#""tables""#) && frame.contains(&format!(r#""reason":"{reason}""#));
            assert!(all, "I16: {name} is to be answered by {self:?}, and gets {frame}");
            return true;
        }
        let may_come_first = ["welcome", "error", "goaway", "access"].into_iter().any(is_of);
        let start = frame.get(..frame.floor_char_boundary(500)).unwrap_or(frame);
        assert!(may_come_first, "I16: {name} is to be answered by {self:?}, and gets {start}");
        false
    }

    /// Whether an end is the answer.
    pub(super) fn is_end(self, code: u16, reason: &str) -> bool {
        matches!(self, Answer::End(wanted, name) if wanted == code && reason.contains(name))
    }
}

impl Wrong {
    /// One of these, now and then.
    pub(super) fn now_and_then(dice: &mut Dice) -> Option<Self> {
        dice.once_in(8).then(|| *dice.pick(&ALL))
    }

    /// Makes a hello from a cursor wrong.
    pub(super) fn spoil(self, hello: &mut Value, position: Position) {
        let cursor = |epoch: u32, lsn: u64| json!(Position::whole(Epoch(epoch), Lsn(lsn)).to_string());
        let epoch = position.epoch.0;
        match self {
            Wrong::Future => hello["after"] = cursor(epoch, u64::MAX >> 1),
            Wrong::FutureAlone => {
                (hello["after"], hello["snapshot"]) = (cursor(epoch, u64::MAX >> 1), json!(false));
            }
            Wrong::Foreign => hello["after"] = cursor(epoch + 1000, position.commit_lsn.0),
            Wrong::BeforeAll => hello["after"] = cursor(0, position.commit_lsn.0),
            Wrong::Access => hello["access"] = "0123456789abcdef".into(),
            Wrong::Garbage => hello["after"] = "00000001-no-cursor".into(),
            Wrong::NoToken => drop(hello.as_object_mut().and_then(|hello| hello.remove("token"))),
            Wrong::UnknownToken => hello["token"] = unknown_token().into(),
            Wrong::AlteredToken => {
                let token = hello["token"].as_str().unwrap_or_default();
                let mut altered = token.to_owned();
                altered.pop();
                altered.push(if token.ends_with('a') { 'b' } else { 'a' });
                hello["token"] = altered.into();
            }
        }
    }

    /// What is promised.
    pub(super) fn answer(self) -> Answer {
        match self {
            Wrong::Future | Wrong::Foreign | Wrong::BeforeAll => Answer::Reset("epoch_changed"),
            Wrong::Access => Answer::Reset("permission_changed"),
            Wrong::Garbage => Answer::End(4400, "WD-CURSOR-INVALID"),
            Wrong::FutureAlone => Answer::End(4410, "WD-CURSOR-NOT-RESUMABLE"),
            Wrong::NoToken => Answer::End(4401, "WD-TOKEN-MISSING"),
            Wrong::UnknownToken | Wrong::AlteredToken => Answer::End(4401, "WD-TOKEN-INVALID"),
        }
    }
}
