//! Waiting for a condition instead of sleeping.

use std::time::Duration;

use tokio::time::{Instant, sleep};

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Looks at `condition` until it holds; panics with `what` when it did not within `patience`.
///
/// ```ignore
/// wait_until("the slot is active", Duration::from_secs(10), async || slot_is_active(&client).await).await;
/// ```
pub async fn wait_until(what: &str, patience: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + patience;
    loop {
        // One look may itself hang, for example on a server that was killed.
        match tokio::time::timeout_at(deadline, condition()).await {
            Ok(true) => return,
            Ok(false) if Instant::now() < deadline => sleep(POLL_INTERVAL).await,
            _ => panic!("waited {patience:?} in vain until {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_as_soon_as_the_condition_holds() {
        let mut looks = 0;
        wait_until("three looks", Duration::from_secs(5), async || {
            looks += 1;
            looks == 3
        })
        .await;
        assert_eq!(looks, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "in vain until pigs fly")]
    async fn says_what_it_waited_for() {
        wait_until("pigs fly", Duration::from_millis(30), async || false).await;
    }

    #[tokio::test]
    #[should_panic(expected = "in vain until it answers")]
    async fn a_look_that_hangs_does_not_hang_the_test() {
        wait_until("it answers", Duration::from_millis(30), async || std::future::pending().await).await;
    }
}
