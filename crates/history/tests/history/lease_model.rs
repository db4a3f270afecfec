//! Who may write when: instances that take the lease, take it from each other, are cut off, killed, wake again and hear no answer, in
//! whatever order and whatever the clock says. The model beside them knows who holds the lease and what was appended: what
//! succeeded is in history once, what failed is not, and what had no answer is one of the two.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio_util::sync::CancellationToken;
use waldelta_history::{Error, History, Writer};
use waldelta_testkit::{TestDatabase, wait_until};
use waldelta_wal::Table;

use crate::support::*;

const INSTANCES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
enum Act {
    /// An instance asks for the lease.
    Ask(usize),
    /// It takes the lease from whoever has it.
    TakeOver(usize),
    /// It appends a transaction so many bytes behind what it takes for durable: at once, or in two halves.
    Append {
        instance: usize,
        gap: u64,
        is_large: bool,
    },
    /// The second half.
    Finish(usize),
    Advance {
        instance: usize,
        by: u64,
    },
    Renew(usize),
    Release(usize),
    /// Its writer is dropped, or its backend ends.
    Drop(usize),
    Kill(usize),
    /// Somebody takes over while it appends.
    Race {
        instance: usize,
        other: usize,
    },
    /// Its backend ends while it appends, and the answer is lost.
    Cut(usize),
    /// The clock of history's server jumps, as the lease sees it.
    Clock {
        minutes: i64,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let who = || 0..INSTANCES;
    let act = prop_oneof![
        4 => who().prop_map(Act::Ask),
        5 => who().prop_map(Act::TakeOver),
        8 => (who(), 0u64..3, any::<bool>())
            .prop_map(|(instance, gap, is_large)| Act::Append { instance, gap, is_large }),
        4 => who().prop_map(Act::Finish),
        2 => (who(), 0u64..4).prop_map(|(instance, by)| Act::Advance { instance, by }),
        1 => who().prop_map(Act::Renew),
        2 => who().prop_map(Act::Release),
        1 => who().prop_map(Act::Drop),
        1 => who().prop_map(Act::Kill),
        2 => (who(), who()).prop_map(|(instance, other)| Act::Race { instance, other }),
        1 => who().prop_map(Act::Cut),
        1 => (-100i64..100).prop_map(|minutes| Act::Clock { minutes }),
    ];
    prop::collection::vec(act, 10..80)
}

/// A process.
struct Instance {
    history: History,
    writer: Option<Writer>,
    /// What it takes for durable, and the large transaction that it is in the middle of.
    durable: u64,
    open: Option<u64>,
}

struct World {
    database: TestDatabase,
    instances: Vec<Instance>,
    /// Whose token is the current one, and whether its session still has the lock.
    holder: Option<usize>,
    is_locked: bool,
    /// For whom each was refused last.
    refused_for: [Option<u64>; INSTANCES],
    /// Counts who took the lease: two times are two holders.
    taken: u64,
    durable: u64,
    log: Vec<u64>,
}

impl World {
    async fn new() -> Self {
        let database = TestDatabase::create("history_lease_model").await;
        let mut instances = Vec::new();
        for instance in 0..INSTANCES {
            let history = match instance {
                0 => begun(&database).await,
                _ => History::open(&config(&database)).await.unwrap(),
            };
            instances.push(Instance { history, writer: None, durable: START, open: None });
        }
        World {
            database,
            instances,
            holder: None,
            is_locked: false,
            refused_for: [None; INSTANCES],
            taken: 0,
            durable: START,
            log: Vec::new(),
        }
    }

    async fn perform(&mut self, act: &Act) {
        match *act {
            Act::Ask(who) => self.ask(who).await,
            Act::TakeOver(who) => self.take_over(who).await,
            Act::Append { instance, gap, is_large } => self.append(instance, gap, is_large).await,
            Act::Finish(who) => self.finish(who).await,
            Act::Advance { instance, by } => self.advance(instance, by).await,
            Act::Renew(who) => self.renew(who).await,
            Act::Release(who) => self.release(who).await,
            Act::Drop(who) => self.instances[who].writer = None,
            Act::Kill(who) => self.kill(who).await,
            Act::Race { instance, other } => self.race(instance, other).await,
            Act::Cut(who) => self.cut(who).await,
            Act::Clock { minutes } => {
                let jump =
                    format!("UPDATE waldelta.leases SET renewed_at = renewed_at + interval '{minutes} min'");
                self.database.exec(&jump).await;
            }
        }
        assert_eq!(commit_lsns(&self.instances[0].history).await, self.log);
        assert_eq!(stored_end(&self.instances[0].history).await, self.durable);
    }

    fn may_write(&self, who: usize) -> bool {
        self.holder == Some(who) && self.is_locked && self.instances[who].writer.is_some()
    }

    /// It has the lease now, and begins where history is.
    fn took(&mut self, who: usize, writer: Writer) {
        self.taken += 1;
        assert_eq!(writer.head(), head(self.durable));
        (self.holder, self.is_locked) = (Some(who), true);
        self.refused_for[who] = None;
        let history = self.instances[who].history.clone();
        self.instances[who] = Instance { history, writer: Some(writer), durable: self.durable, open: None };
    }

    async fn ask(&mut self, who: usize) {
        // A connection that was dropped is noticed in a moment; one that lives keeps everybody else out.
        let holder = self.holder.filter(|_| self.is_locked);
        let is_alive = holder.is_some_and(|holder| self.instances[holder].writer.is_some());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match self.instances[who].history.writer(&format!("{who}")).await {
                Ok(writer) => {
                    assert!(!is_alive, "two writers");
                    return self.took(who, writer);
                }
                Err(Error::LeaseHeld { holder: name, .. }) if is_alive => {
                    assert_eq!(name, holder.unwrap().to_string());
                    self.refused_for[who] = Some(self.taken);
                    return;
                }
                Err(Error::LeaseHeld { .. }) if tokio::time::Instant::now() < deadline => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    async fn take_over(&mut self, who: usize) {
        let is_alive =
            self.is_locked && self.holder.is_some_and(|holder| self.instances[holder].writer.is_some());
        // It had decided about somebody else.
        let is_late = is_alive && self.refused_for[who].is_some_and(|refused_for| refused_for != self.taken);
        match self.instances[who].history.take_over(&format!("{who}")).await {
            Ok(writer) => {
                assert!(!is_late, "it was not meant");
                self.took(who, writer);
            }
            Err(Error::LeaseHeld { .. }) => {
                // One that is on its way out may be met still.
                assert!(is_late || !is_alive, "nobody was in its way");
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    /// What an attempt to move the end came to.
    fn moved(&mut self, who: usize, result: Result<(), Error>, to: u64, commit: Option<u64>) {
        let may_write = self.may_write(who);
        match result {
            Ok(()) => {
                assert!(may_write, "{who} wrote although it may not");
                assert_eq!(self.instances[who].durable, self.durable, "on top of what it does not know");
                self.durable = self.durable.max(to);
                self.log.extend(commit);
                self.instances[who].durable = self.durable;
            }
            Err(error) => {
                assert!(!may_write, "{error:?}");
                assert!(!matches!(error, Error::OutOfOrder { .. } | Error::Corrupt { .. }), "{error:?}");
            }
        }
    }

    async fn append(&mut self, who: usize, gap: u64, is_large: bool) {
        let Instance { writer: Some(writer), durable, open, .. } = &mut self.instances[who] else { return };
        if open.is_some() {
            return;
        }
        let commit = *durable + gap;
        if is_large {
            let table = numbered(writer);
            let begun = writer.append(vec![piece(commit, vec![insert(&table, 0, commit)], None)]).await;
            // Until its end nobody need notice that it is not to write.
            *open = begun.is_ok().then_some(commit);
            return assert!(begun.is_ok() || !self.may_write(who), "{begun:?}");
        }
        let result = append_at(writer, commit).await;
        self.moved(who, result, commit + 1, Some(commit));
    }

    async fn finish(&mut self, who: usize) {
        let Instance { writer: Some(writer), open, .. } = &mut self.instances[who] else { return };
        let Some(commit) = open.take() else { return };
        let table = numbered(writer);
        let last = piece(commit, vec![insert(&table, 1, commit)], Some(commit + 1));
        let result = writer.append(vec![last]).await.map(drop);
        self.moved(who, result, commit + 1, Some(commit));
    }

    async fn advance(&mut self, who: usize, by: u64) {
        let Instance { writer: Some(writer), durable, open: None, .. } = &mut self.instances[who] else {
            return;
        };
        let to = *durable + by;
        let result = writer.advance(end(to)).await;
        // There is nothing to be moved, and nobody is asked.
        if by == 0 && result.is_ok() {
            return;
        }
        self.moved(who, result, to, None);
    }

    async fn renew(&mut self, who: usize) {
        let Some(writer) = &self.instances[who].writer else { return };
        let (keeper, stop) = (writer.lease_keeper(), CancellationToken::new());
        let renewed_at = "SELECT renewed_at FROM waldelta.leases";
        let before = self.database.query_text(renewed_at).await;
        let is_renewed = async {
            let moved = async || self.database.query_text(renewed_at).await != before;
            wait_until("the lease is renewed", PATIENCE, moved).await;
        };
        tokio::select! {
            ended = keeper.run(stop.clone()) => {
                assert!(matches!(ended, Err(Error::Fenced { .. })), "{ended:?}");
                assert!(self.holder != Some(who), "it is its own lease");
            }
            () = is_renewed => assert!(self.holder == Some(who), "it is another's lease"),
        }
    }

    async fn release(&mut self, who: usize) {
        let may_write = self.may_write(who);
        let Some(writer) = self.instances[who].writer.take() else { return };
        self.instances[who].open = None;
        let released = writer.release().await;
        if may_write {
            released.unwrap();
            self.is_locked = false;
        }
    }

    /// Its backend ends. The process notices when it writes again.
    async fn kill(&mut self, who: usize) {
        if self.may_write(who) {
            self.end_backend().await;
            self.is_locked = false;
        }
    }

    /// Ends the backend that the lease names, and waits until it is gone.
    async fn end_backend(&self) {
        let end = "SELECT pg_terminate_backend(backend_pid, 60000) FROM waldelta.leases WHERE backend_pid IS NOT NULL";
        self.database.query_text(end).await;
    }

    async fn race(&mut self, who: usize, other: usize) {
        if who == other || !self.may_write(who) || self.instances[who].open.is_some() {
            return;
        }
        // It knows for sure whom it means.
        let Err(Error::LeaseHeld { .. }) = self.instances[other].history.writer("other").await.map(drop)
        else {
            panic!("two writers")
        };
        let history = self.instances[other].history.clone();
        let name = other.to_string();
        let take_over = history.take_over(&name);
        let Instance { writer: Some(writer), durable, .. } = &mut self.instances[who] else { return };
        let commit = *durable;
        let (appended, taken) = tokio::join!(append_at(writer, commit), take_over);
        self.settle(commit, appended).await;
        self.instances[who].durable = self.durable;
        self.took(other, taken.unwrap());
    }

    async fn cut(&mut self, who: usize) {
        if !self.may_write(who) || self.instances[who].open.is_some() {
            return;
        }
        let mut writer = self.instances[who].writer.take().unwrap();
        let commit = self.durable;
        let (appended, ()) = tokio::join!(append_at(&mut writer, commit), self.end_backend());
        self.is_locked = false;
        self.settle(commit, appended).await;
    }

    /// Finds out whether it is in history, where the answer leaves that open.
    async fn settle(&mut self, commit: u64, appended: Result<(), Error>) {
        let is_stored = stored_end(&self.instances[0].history).await == commit + 1;
        match &appended {
            Ok(()) => assert!(is_stored, "{commit} is lost"),
            Err(Error::Fenced { .. }) => assert!(!is_stored, "{commit} was refused, and is there"),
            Err(_) => {}
        }
        if is_stored {
            self.durable = commit + 1;
            self.log.push(commit);
        }
    }
}

fn numbered(writer: &mut Writer) -> std::sync::Arc<Table> {
    writer.number(table(1, "orders")).table
}

async fn append_at(writer: &mut Writer, commit: u64) -> Result<(), Error> {
    let table = numbered(writer);
    writer.append(vec![transaction(commit, vec![insert(&table, 0, commit)])]).await.map(drop)
}

#[test]
fn one_writes_and_what_it_wrote_stays() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cases = (Config::default().cases / 128).max(1);
    // Each step of shrinking is a database.
    let config = Config { max_shrink_iters: 100, failure_persistence: None, ..Config::with_cases(cases) };
    let run = async |acts: Vec<Act>| {
        let mut world = World::new().await;
        for act in &acts {
            world.perform(act).await;
        }
    };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&acts(), |acts| {
        runtime.block_on(run(acts));
        Ok::<(), TestCaseError>(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
