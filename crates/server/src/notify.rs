//! Tells of states that are entered and left: by webhook, and by NOTIFY in history's database. Who looks at no dashboard learns of it
//! all the same.
//!
//! It looks at the status model, as every other view does, and never at a part. What is told is what is different from the look before; a
//! restart therefore tells again what is still the case. Telling holds up nothing: what cannot be told in time is in the log.

mod conditions;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use waldelta_history::History;
use waldelta_wal::Code;

use self::conditions::{Condition, Place, conditions};
use self::webhook::Webhook;
use crate::config::NotifyConfig;
use crate::failure;
use crate::status::{self, Observer};

/// How often it is looked. What lasts for one look only is told where it is critical.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Notices that wait at most; the log has those that come then.
const WAITING_MAX: usize = 64;
/// NOTIFY may take this long.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// A payload of NOTIFY has fewer bytes than 8,000: what failed may be told in so many characters, of up to four bytes.
const MESSAGE_CHARS_MAX: usize = 1_200;

/// What is told of one condition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Notice {
    /// `entered` or `left`.
    event: &'static str,
    #[serde(flatten)]
    place: Place,
    #[serde(flatten)]
    condition: Condition,
    /// The process that tells it.
    instance: Arc<str>,
    /// When, as RFC 3339.
    at: String,
}

/// What was found by the looks before.
#[derive(Default)]
struct Told {
    /// What was told as entered, and not as left.
    entered: BTreeMap<Place, Condition>,
    /// What was the case at the last look and was not told.
    seen: BTreeMap<Place, Condition>,
}

impl Told {
    /// What is to be told by now.
    fn look(&mut self, now: BTreeMap<Place, Condition>) -> Vec<(&'static str, Place, Condition)> {
        let mut news = Vec::new();
        for (place, condition) in &now {
            let lasts = condition.is_critical() || self.seen.contains_key(place);
            if lasts && !self.entered.contains_key(place) {
                self.entered.insert(place.clone(), condition.clone());
                news.push(("entered", place.clone(), condition.clone()));
            }
        }
        let left = self.entered.extract_if(.., |place, _| !now.contains_key(place));
        news.extend(left.map(|(place, condition)| ("left", place, condition)));
        self.seen = now;
        news
    }
}

/// Looks and tells until `stop`.
pub(crate) async fn run(
    config: NotifyConfig,
    instance: String,
    observer: Arc<Observer>,
    history: History,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let webhook = Webhook::new(&config)?;
    let (notices, waiting) = mpsc::channel(WAITING_MAX);
    let looking = async {
        let instance: Arc<str> = instance.into();
        let mut told = Told::default();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            for (event, place, condition) in told.look(conditions(&observer.read(), config.lag_seconds_max)) {
                let (instance, at) = (instance.clone(), now());
                let notice = Notice { event, place, condition, instance, at };
                if notices.try_send(notice).is_err() {
                    tracing::warn!(
                        code = Code::NotifyFailed.as_str(),
                        "too many changes of state wait to be told"
                    );
                }
            }
        }
    };
    let telling = tell(waiting, webhook, &config.channel, &history);
    stop.run_until_cancelled(async {
        tokio::select! {
            () = looking => {}
            () = telling => {}
        }
    })
    .await;
    Ok(())
}

/// Tells one after the other, in order.
async fn tell(
    mut waiting: mpsc::Receiver<Notice>,
    webhook: Option<Webhook>,
    channel: &str,
    history: &History,
) {
    while let Some(notice) = waiting.recv().await {
        let body = match serde_json::to_string(&notice) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(%error, "a change of state could not be written as JSON");
                continue;
            }
        };
        if !channel.is_empty() {
            let notified = tokio::time::timeout(NOTIFY_TIMEOUT, history.announce(channel, &body)).await;
            if let Err(error) =
                notified.map_err(anyhow::Error::new).and_then(|done| done.map_err(anyhow::Error::new))
            {
                failed("NOTIFY", &error);
            }
        }
        if let Some(webhook) = &webhook
            && let Err(error) = webhook.deliver(body).await
        {
            failed("the webhook", &error);
        }
    }
}

fn failed(by: &str, error: &anyhow::Error) {
    let (code, error) = (Code::NotifyFailed.as_str(), failure::chain_text(error));
    tracing::warn!(code, error, "a change of state could not be told by {by}");
}

fn now() -> String {
    waldelta_fanout::Timestamp(status::now_us()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[(&'static str, &'static str)]) -> BTreeMap<Place, Condition> {
        names.iter().map(|(name, severity)| (Place::new("capture", name), Condition::new(severity))).collect()
    }

    fn told(told: &mut Told, names: &[(&'static str, &'static str)]) -> Vec<String> {
        let news = told.look(of(names));
        news.into_iter().map(|(event, place, _)| format!("{event} {}", place.name())).collect()
    }

    #[test]
    fn what_lasts_is_told_once_and_what_is_over_too() {
        let mut it = Told::default();
        assert_eq!(told(&mut it, &[("reconnecting", "warning")]), [""; 0], "it may be over by the next look");
        assert_eq!(told(&mut it, &[("reconnecting", "warning")]), ["entered reconnecting"]);
        assert_eq!(told(&mut it, &[("reconnecting", "warning")]), [""; 0]);
        assert_eq!(
            told(&mut it, &[("slot_lost", "critical")]),
            ["entered slot_lost", "left reconnecting"],
            "what is critical is told at once"
        );
        assert_eq!(told(&mut it, &[]), ["left slot_lost"]);
        assert_eq!(told(&mut it, &[("reconnecting", "warning")]), [""; 0], "each time it has to last");
        assert_eq!(told(&mut it, &[]), [""; 0]);
    }
}
