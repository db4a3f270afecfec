//! Tasks with names: spawned here only, watched, and joined before the process ends.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How a named task ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its name.
    pub name: &'static str,
    /// Its result; a panic is an error too.
    pub result: anyhow::Result<()>,
}

/// The tasks of a running service.
pub(crate) struct Supervisor {
    tasks: JoinSet<Ended>,
    stop: CancellationToken,
}

impl Supervisor {
    /// No tasks yet; cancelling `stop` asks all of them to end.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Supervisor { tasks: JoinSet::new(), stop }
    }

    /// Starts a task. A panic in it ends that task alone and is told by [`Supervisor::next`].
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let inner = JoinSet::new();
        self.tasks.spawn(named(name, inner, task));
    }

    /// Waits for the next task that ends; `None` when there are none left.
    pub(crate) async fn next(&mut self) -> Option<Ended> {
        match self.tasks.join_next().await? {
            Ok(ended) => Some(ended),
            Err(error) => Some(Ended { name: "supervisor", result: Err(error.into()) }),
        }
    }

    /// Waits until the task of this name has ended; those that fail before it, or it, are put into `failed`.
    pub(crate) async fn until(&mut self, name: &str, failed: &mut Vec<Ended>) {
        while let Some(ended) = self.next().await {
            let is_it = ended.name == name;
            failed.extend(told(ended));
            if is_it {
                return;
            }
        }
    }

    /// Asks every task to end and waits for them; those that have not ended at the deadline are cut off. Gives back those that
    /// failed.
    pub(crate) async fn stop(mut self, deadline: Duration) -> Vec<Ended> {
        self.stop.cancel();
        let mut failed = Vec::new();
        let drained = tokio::time::timeout(deadline, async {
            while let Some(ended) = self.next().await {
                failed.extend(told(ended));
            }
        })
        .await;
        if drained.is_err() {
            tracing::warn!(left = self.tasks.len(), "tasks had not ended at the deadline and were cut off");
        }
        failed
    }
}

/// Tells the log how a task ended, and gives it back if it failed.
fn told(ended: Ended) -> Option<Ended> {
    match &ended.result {
        Ok(()) => {
            tracing::debug!(task = ended.name, "ended");
            None
        }
        Err(error) => {
            let error = format!("{error:#}");
            tracing::warn!(task = ended.name, error, "ended with a failure");
            Some(ended)
        }
    }
}

/// Runs the task in a set of its own so that its panic becomes a result that has its name.
async fn named(
    name: &'static str,
    mut inner: JoinSet<anyhow::Result<()>>,
    task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> Ended {
    inner.spawn(task);
    let result = match inner.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(anyhow::Error::new(error)),
        None => Ok(()),
    };
    Ended { name, result }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_result_with_the_name_of_the_task() {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        supervisor.spawn("falls", async { panic!("on purpose") });
        let ended = supervisor.next().await.unwrap();
        assert_eq!(ended.name, "falls");
        assert!(format!("{:#}", ended.result.unwrap_err()).contains("on purpose"));
    }

    #[tokio::test]
    async fn stop_asks_every_task_and_joins_it() {
        let stop = CancellationToken::new();
        let (sender, mut told) = tokio::sync::mpsc::channel(1);
        let mut supervisor = Supervisor::new(stop.clone());
        supervisor.spawn("waits", async move {
            stop.cancelled().await;
            sender.send(()).await?;
            Ok(())
        });
        supervisor.spawn("fails", async { anyhow::bail!("why") });
        let failed = supervisor.stop(Duration::from_secs(5)).await;
        assert_eq!(failed.iter().map(|ended| ended.name).collect::<Vec<_>>(), ["fails"]);
        assert!(told.try_recv().is_ok(), "the task had ended before stop returned");
    }

    #[tokio::test]
    async fn one_task_is_waited_for_while_the_others_go_on() {
        let stop = CancellationToken::new();
        let mut supervisor = Supervisor::new(stop.clone());
        supervisor.spawn("goes on", async move {
            stop.cancelled().await;
            Ok(())
        });
        supervisor.spawn("fails", async { anyhow::bail!("why") });
        let (let_go, gone) = tokio::sync::oneshot::channel();
        supervisor.spawn("goes", async { Ok(gone.await?) });
        let mut failed = Vec::new();
        supervisor.until("fails", &mut failed).await;
        assert_eq!(failed.iter().map(|ended| ended.name).collect::<Vec<_>>(), ["fails"]);
        let_go.send(()).unwrap();
        supervisor.until("goes", &mut failed).await;
        assert_eq!((failed.len(), supervisor.stop(Duration::from_secs(5)).await.len()), (1, 0));
    }
}
