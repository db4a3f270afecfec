//! The processes of the program, each with routes of its own to the two databases: they are killed, frozen and started again here, and
//! looked at in between.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use waldelta_testkit::{Dice, Route, Service, ServiceOptions};

use crate::chronicle::Chronicle;
use crate::clocks::Clock;
use crate::world::World;

/// How the work is shared: two processes that do all of it, of which one stands by to write, and one that only serves clients; or two
/// that serve, and two that write.
const SHARES: [(&[&str], usize); 2] =
    [(&["all", "all", "fanout"], 3), (&["fanout", "fanout", "capture", "capture"], 2)];
const NAMES: [&str; 4] = ["A", "B", "C", "D"];
/// What a debug build with the clients of a round needs is a part of this.
const MEMORY_BYTES_MAX: u64 = 700 << 20;
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// The line of a panic that a failpoint caused on purpose.
const ON_PURPOSE: &str = "failpoint ";

/// All of them.
pub(crate) struct Fleet {
    members: Vec<Mutex<Member>>,
    routes: Vec<[Route; 2]>,
    streams: Vec<String>,
    /// How many of them, the first ones, serve clients.
    serving: usize,
    /// Those that may write history.
    writers: Vec<usize>,
    /// Of each of them; none where they cannot be made wrong.
    clocks: Vec<Clock>,
    kills: AtomicU64,
    memory_bytes_peak: AtomicU64,
}

/// One process, over all of its lives.
pub(crate) struct Member {
    pub name: &'static str,
    service: Service,
    options: ServiceOptions,
    /// The failpoints of this life, which may end it.
    armed: Option<String>,
    is_frozen: bool,
    /// It was ended, and whoever did it starts it again.
    is_down: bool,
}

impl Fleet {
    /// Starts all of them; the seed says in which roles.
    pub(crate) async fn start(world: &World, seed: u64, chronicle: &Chronicle) -> Self {
        let (roles, serving) = *Dice::of(seed, "roles").pick(&SHARES);
        chronicle.note(format!("processes: {}", roles.join(", ")));
        let clocks = clocks(seed, roles.len());
        let (mut members, mut routes, mut streams) = (Vec::new(), Vec::new(), Vec::new());
        for (role, name) in roles.iter().zip(NAMES) {
            let pair =
                [&world.source_cluster, &world.history_cluster].map(|cluster| Route::to(cluster.port()));
            let mut options = world.run_options(role, &pair[0], &pair[1]);
            // What it says then must not be secret either.
            if Dice::of(seed, &format!("log of {name}")).once_in(3) {
                options = options.env("WALDELTA_LOG", "debug");
            }
            let options = clocks.get(members.len()).map_or(options.clone(), |clock| clock.add_to(options));
            let service = Service::start(options.clone()).await;
            streams.push(service.stream());
            members.push(Mutex::new(Member {
                name,
                service,
                options,
                armed: None,
                is_frozen: false,
                is_down: false,
            }));
            routes.push(pair);
        }
        let (kills, memory_bytes_peak) = (AtomicU64::new(0), AtomicU64::new(0));
        let writers = (0..roles.len()).filter(|number| roles[*number] != "fanout").collect();
        Fleet { members, routes, streams, serving, writers, clocks, kills, memory_bytes_peak }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// One of those that serve clients.
    pub(crate) fn any_serving(&self, dice: &mut Dice) -> usize {
        dice.index(self.serving)
    }

    /// Those that may write history, by their numbers.
    pub(crate) fn writers(&self) -> &[usize] {
        &self.writers
    }

    /// Their wall clocks; none where these cannot be made wrong.
    pub(crate) fn clocks(&self) -> &[Clock] {
        &self.clocks
    }

    /// One of them, for whoever does something to it.
    pub(crate) async fn member(&self, number: usize) -> MutexGuard<'_, Member> {
        self.members[number].lock().await
    }

    /// One of them that runs now, and is not at the moment in somebody's hands: its name and process id.
    pub(crate) fn running(&self, number: usize) -> Option<(&'static str, u32)> {
        let mut member = self.members[number].try_lock().ok()?;
        let runs = !member.is_down && !member.is_frozen && member.service.exited().is_none();
        runs.then(|| (member.name, member.service.pid()))
    }

    /// The way of one of them to the source (0) or to history (1).
    pub(crate) fn route(&self, number: usize, to: usize) -> &Route {
        &self.routes[number][to]
    }

    /// URL of the stream of one of them.
    pub(crate) fn stream(&self, number: usize) -> &str {
        &self.streams[number]
    }

    /// Host and port of one of them.
    pub(crate) fn address(&self, number: usize) -> &str {
        self.streams[number].trim_start_matches("ws://").trim_end_matches("/v1/stream")
    }

    /// Counts a process or server that was ended.
    pub(crate) fn count_kill(&self) {
        self.kills.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub(crate) fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }

    /// The most memory that one of them had, in MB.
    pub(crate) fn memory_mb_peak(&self) -> u64 {
        self.memory_bytes_peak.load(Ordering::Relaxed) >> 20
    }

    /// Looks after all of them: one that ended by a failpoint is started again, one that ended without a reason is a failure, and so
    /// is one that takes too much memory.
    pub(crate) fn look_after(&self, chronicle: &Chronicle) {
        for member in &self.members {
            // Whoever holds it is at it.
            let Ok(mut member) = member.try_lock() else { continue };
            if member.is_down {
                continue;
            }
            if let Some(status) = member.service.exited() {
                let armed = member.armed.take();
                assert!(armed.is_some(), "{} ended by itself ({status}): {}", member.name, member.log_end());
                chronicle.note(format!("{} ended by {}", member.name, armed.unwrap_or_default()));
                self.count_kill();
                member.launch(None);
                continue;
            }
            let bytes = member.service.rss_bytes();
            self.memory_bytes_peak.fetch_max(bytes, Ordering::Relaxed);
            assert!(bytes < MEMORY_BYTES_MAX, "{} has {} MB in memory", member.name, bytes >> 20);
        }
    }

    /// Ends those whose failpoints could still end them, so that all live on undisturbed.
    pub(crate) async fn disarm(&self, chronicle: &Chronicle) {
        for member in &self.members {
            let mut member = member.lock().await;
            if member.armed.is_some() {
                chronicle.note(format!("{} is started without failpoints", member.name));
                member.kill().await;
                member.launch(None);
            }
        }
    }

    /// Panics in what they have logged that nobody caused.
    pub(crate) async fn panics(&self) -> Vec<String> {
        let mut found = Vec::new();
        for member in &self.members {
            let member = member.lock().await;
            let log = member.service.log();
            let lines: Vec<&str> = log.lines().collect();
            for (number, _) in lines.iter().enumerate().filter(|(_, line)| line.contains("panicked at")) {
                let around = lines[number..lines.len().min(number + 2)].join(" / ");
                if !around.contains(ON_PURPOSE) {
                    found.push(format!("{}: {around}", member.name));
                }
            }
        }
        found
    }

    /// What each has logged.
    pub(crate) async fn logs(&self) -> Vec<(&'static str, String)> {
        let mut logs = Vec::new();
        for member in &self.members {
            let member = member.lock().await;
            logs.push((member.name, member.service.log()));
        }
        logs
    }

    /// Writes what each has logged into this folder, and gives the end of it.
    pub(crate) async fn report(&self, folder: &Path) -> HashMap<&'static str, String> {
        let mut ends = HashMap::new();
        for member in &self.members {
            let member = member.lock().await;
            // A report that cannot be written is not worth losing the rest of it.
            let _ = std::fs::write(folder.join(format!("{}.log", member.name)), member.service.log());
            ends.insert(member.name, member.log_end());
        }
        ends
    }
}

/// A clock for each process, all of them right.
fn clocks(seed: u64, processes: usize) -> Vec<Clock> {
    let file = |number| {
        std::env::temp_dir().join(format!("waldelta-torture-{}-{seed}-{number}.clock", std::process::id()))
    };
    (0..processes).filter_map(|number| Clock::new(file(number))).collect()
}

impl Member {
    /// Whether it was ended and is to be started again.
    pub(crate) fn is_down(&self) -> bool {
        self.is_down
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self) {
        if self.service.exited().is_none() {
            self.service.kill9().await;
        }
        (self.is_frozen, self.is_down) = (false, true);
    }

    /// An orderly stop.
    pub(crate) async fn stop(&mut self) {
        if self.service.exited().is_none() {
            self.service.terminate();
            self.service.wait_exit(STOP_PATIENCE).await;
        }
        self.is_down = true;
    }

    /// Starts it again, with failpoints or without; does not wait until it is ready.
    pub(crate) fn launch(&mut self, armed: Option<String>) {
        let options = match &armed {
            Some(failpoints) => self.options.clone().failpoints(failpoints),
            None => self.options.clone(),
        };
        (self.armed, self.is_down) = (armed, false);
        self.service.spawn_again_with(options);
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&mut self) {
        self.is_frozen = self.service.exited().is_none();
        if self.is_frozen {
            self.service.freeze();
        }
    }

    /// SIGCONT.
    pub(crate) fn thaw(&mut self) {
        if std::mem::take(&mut self.is_frozen) {
            self.service.thaw();
        }
    }

    /// Whether it is ready now.
    pub(crate) async fn is_ready(&self) -> bool {
        matches!(self.service.ready().await, Some((200, _)))
    }

    fn log_end(&self) -> String {
        const LINES: usize = 30;
        let log = self.service.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}
