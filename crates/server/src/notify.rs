//! Tells of states that are entered and left: by webhook, and by NOTIFY in history's database. Who looks at no dashboard learns of it
//! all the same.
//!
//! It looks at the status model, as every other view does, and never at a part. What is told is what is different from the look before; a
//! restart therefore tells again what is still the case. Telling holds up nothing: what cannot be told in time is in the log.

mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use waldelta_history::History;
use waldelta_wal::Code;

use self::webhook::Webhook;
use crate::config::NotifyConfig;
use crate::failure;
use crate::status::{self, Check, Observer, Severity};

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
    check: Check,
    /// The process that tells it.
    instance: Arc<str>,
    /// When, as RFC 3339.
    at: String,
}

/// What is the case where: of what, and its name.
type Found = BTreeMap<(String, String), Check>;

/// What was found by the looks before.
#[derive(Default)]
struct Told {
    /// What was told as entered, and not as left.
    entered: Found,
    /// What was the case at the last look.
    seen: Found,
}

impl Told {
    /// What is to be told by now.
    fn look(&mut self, checks: Vec<Check>) -> Vec<(&'static str, Check)> {
        let bad = checks.into_iter().filter(|check| check.severity != Severity::Ok);
        let now: Found = bad.map(|check| ((check.of.clone(), check.name.clone()), check)).collect();
        let mut news = Vec::new();
        for (place, check) in &now {
            let lasts = check.severity == Severity::Critical || self.seen.contains_key(place);
            if lasts && !self.entered.contains_key(place) {
                self.entered.insert(place.clone(), check.clone());
                news.push(("entered", check.clone()));
            }
        }
        let left = self.entered.extract_if(.., |place, _| !now.contains_key(place));
        news.extend(left.map(|(_, check)| ("left", check)));
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
            for (event, check) in told.look(observer.read().checks) {
                let (instance, at) = (instance.clone(), now());
                let notice = Notice { event, check: shortened(check), instance, at };
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

/// So that it has room in a payload.
fn shortened(check: Check) -> Check {
    let short = |text: String| text.chars().take(MESSAGE_CHARS_MAX).collect();
    Check { message: check.message.map(short), ..check }
}

fn now() -> String {
    waldelta_fanout::Timestamp(status::now_us()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, severity: Severity) -> Check {
        let (of, name) = ("capture".to_owned(), name.to_owned());
        Check { of, name, severity, code: None, message: Some("x".repeat(5_000)), fix: None }
    }

    fn told(told: &mut Told, names: &[(&str, Severity)]) -> Vec<String> {
        let checks = names.iter().map(|(name, severity)| check(name, *severity));
        told.look(checks.collect())
            .into_iter()
            .map(|(event, check)| format!("{event} {}", check.name))
            .collect()
    }

    #[test]
    fn what_lasts_is_told_once_and_what_is_over_too() {
        use Severity::{Critical, Ok, Warning};
        let mut it = Told::default();
        assert_eq!(told(&mut it, &[("reconnecting", Warning)]), [""; 0], "it may be over by the next look");
        assert_eq!(told(&mut it, &[("reconnecting", Warning)]), ["entered reconnecting"]);
        assert_eq!(told(&mut it, &[("reconnecting", Warning)]), [""; 0]);
        assert_eq!(
            told(&mut it, &[("slot_lost", Critical)]),
            ["entered slot_lost", "left reconnecting"],
            "what is critical is told at once"
        );
        assert_eq!(told(&mut it, &[("streaming", Ok)]), ["left slot_lost"]);
        assert_eq!(told(&mut it, &[("reconnecting", Warning)]), [""; 0], "each time it has to last");
        assert_eq!(told(&mut it, &[]), [""; 0]);
    }

    #[test]
    fn a_notice_has_room_in_a_payload() {
        let message = shortened(check("x", Severity::Ok)).message.unwrap();
        assert_eq!(message.len(), MESSAGE_CHARS_MAX);
    }
}
