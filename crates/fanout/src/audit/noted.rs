//! Who was noted lately, of those who ask again and again, one request at a time.
//!
//! An entry can never be removed, so nobody may cause many by coming from many addresses: those of one network are one, and who
//! is beyond what can be remembered is noted together with all others. What an entry says is not known here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Who;
use crate::limits::network;

/// Somebody who goes on asking is noted this often.
const NOTE_EVERY: Duration = Duration::from_secs(600);
/// Of so many it is remembered when they were noted.
const NOTED_MAX: usize = 10_000;
/// Where there is no room, it is not looked for again before this has passed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Who asks: a person, from a network, as a client.
#[derive(PartialEq, Eq, Hash)]
struct Caller {
    person: Option<Box<str>>,
    client_id: Option<Box<str>>,
    network: Option<IpAddr>,
}

/// When those who ask were noted.
#[derive(Default)]
pub(super) struct Noted {
    callers: HashMap<Caller, Instant>,
    /// When those of whom it is not remembered were noted, all together.
    others: Option<Instant>,
    swept_at: Option<Instant>,
}

/// Whom an entry is to be written of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// Of nobody: it was noted lately.
    Known,
    /// Of the one who asks.
    Caller,
    /// Of more than can be told apart.
    Others,
}

impl Noted {
    /// Somebody asks: whether that is to be noted. It counts as noted then.
    pub(super) fn note(&mut self, who: Who<'_>, now: Instant) -> Note {
        let is_fresh = |at: &Instant| now.saturating_duration_since(*at) < NOTE_EVERY;
        let caller = Caller {
            person: who.identity.map(|identity| identity.person().into()),
            client_id: who.client_id.map(Into::into),
            network: who.address.map(network),
        };
        if self.callers.get(&caller).is_some_and(is_fresh) {
            return Note::Known;
        }
        let has_room = self.callers.len() < NOTED_MAX || self.callers.contains_key(&caller);
        let may_sweep = self.swept_at.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_INTERVAL);
        if !has_room && may_sweep {
            self.swept_at = Some(now);
            self.callers.retain(|_, at| is_fresh(at));
        }
        if has_room || self.callers.len() < NOTED_MAX {
            self.callers.insert(caller, now);
            return Note::Caller;
        }
        if self.others.as_ref().is_some_and(is_fresh) {
            return Note::Known;
        }
        self.others = Some(now);
        Note::Others
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::identity;

    fn from(address: impl Into<IpAddr>) -> Who<'static> {
        Who { address: Some(address.into()), ..Who::default() }
    }

    #[test]
    fn somebody_is_noted_once_in_a_while_whatever_address_of_a_network_it_uses() {
        let (mut noted, now) = (Noted::default(), Instant::now());
        let ann = identity(json!({}));
        let ask = |noted: &mut Noted, address: &str, now| {
            let address = Some(address.parse().unwrap());
            noted.note(Who { identity: Some(&ann), address, client_id: None }, now)
        };
        assert_eq!(ask(&mut noted, "2001:db8::1", now), Note::Caller);
        for host in 2..100 {
            assert_eq!(ask(&mut noted, &format!("2001:db8::{host}"), now), Note::Known);
        }
        assert_eq!(ask(&mut noted, "2001:db8:0:1::1", now), Note::Caller, "another network");
        assert_eq!(noted.note(from([192, 0, 2, 1]), now), Note::Caller, "nobody");
        assert_eq!(ask(&mut noted, "2001:db8::1", now + NOTE_EVERY), Note::Caller);
    }

    #[test]
    fn of_more_than_are_remembered_one_entry_is_written_and_they_are_swept_now_and_then() {
        let (mut noted, now) = (Noted::default(), Instant::now());
        let address = |n: usize| from(u32::try_from(n).unwrap().to_be_bytes());
        for n in 0..NOTED_MAX {
            assert_eq!(noted.note(address(n), now), Note::Caller);
        }
        assert_eq!(noted.note(address(NOTED_MAX), now), Note::Others);
        for n in 0..2 * NOTED_MAX {
            assert_eq!(noted.note(address(n), now), Note::Known, "{n}");
        }
        assert_eq!(noted.swept_at, Some(now), "once in this moment");
        // When there is room again each is told for itself.
        let later = now + NOTE_EVERY;
        assert_eq!(noted.note(address(NOTED_MAX), later), Note::Caller);
        assert_eq!((noted.callers.len(), noted.swept_at), (1, Some(later)));
    }
}
