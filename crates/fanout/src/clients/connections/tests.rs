//! Which sessions are written, and which a number that is heard replaces.

use std::sync::atomic::AtomicU64;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::sessions::Sessions;

/// The sessions of a process.
struct World {
    state: State,
    sessions: Sessions,
    now: Instant,
}

impl World {
    fn new() -> Self {
        World { state: State::default(), sessions: Sessions::default(), now: Instant::now() }
    }

    fn begins(&mut self, id: &str, session: u64) -> CancellationToken {
        let client = client(id, session);
        let (waits, _drawn) = oneshot::channel();
        self.state.begins(
            &client,
            &self.sessions.add(session, "p", None, CancellationToken::new()),
            waits,
            self.now,
        );
        client.replaced
    }

    /// Draws from a number on and writes all who wait; their ids.
    fn write(&mut self, from: i64) -> Vec<String> {
        let bare = self.state.without_number(self.now);
        let numbers: Vec<i64> = (from..).take(bare.len()).collect();
        self.state.drew(&bare, &numbers, self.now);
        let newcomers = self.state.newcomers();
        let ids: Vec<String> = newcomers.iter().map(|it| it.client_id.to_string()).collect();
        self.state.took(&newcomers, &ids, self.now);
        ids
    }

    fn hears(&mut self, id: &str, connection: i64) {
        self.state.heard(&[NewestConnection { client_id: id.to_owned(), connection }]);
    }
}

fn client(id: &str, session: u64) -> Client {
    Client {
        key: id.into(),
        id: id.into(),
        subject: None,
        session,
        include_own: false,
        frontier: Arc::new(AtomicU64::new(0)),
        wake: Arc::default(),
        replaced: CancellationToken::new(),
    }
}

#[test]
fn a_higher_number_replaces_and_no_other() {
    let mut world = World::new();
    let (a, b) = (world.begins("a", 1), world.begins("b", 2));
    world.hears("a", 5);
    assert!(!a.is_cancelled(), "it has no number yet, and gets a higher one");
    assert_eq!(world.write(10), ["a", "b"]);
    for (id, connection) in [("a", 9), ("a", 10), ("c", 99)] {
        world.hears(id, connection);
    }
    assert!(!a.is_cancelled() && !b.is_cancelled());
    world.hears("a", 12);
    assert!(a.is_cancelled() && !b.is_cancelled());
    assert!(world.write(20).is_empty(), "each is written once");
}

#[test]
fn what_is_heard_while_it_is_written_counts() {
    let mut world = World::new();
    let a = world.begins("a", 1);
    let bare = world.state.without_number(world.now);
    world.state.drew(&bare, &[10], world.now);
    world.hears("a", 11);
    assert!(a.is_cancelled());
    // And what the database says when it is written.
    let b = world.begins("b", 2);
    let bare = world.state.without_number(world.now);
    world.state.drew(&bare, &[12], world.now);
    let newcomers = world.state.newcomers();
    world.state.took(&newcomers, &["a".to_owned()], world.now);
    assert!(b.is_cancelled() && world.state.waiting.is_empty());
}

#[test]
fn who_is_gone_or_was_replaced_here_is_not_written() {
    let mut world = World::new();
    let _gone = world.begins("a", 1);
    world.state.ends("a", 1);
    let _older = world.begins("b", 2);
    let newer = world.begins("b", 3);
    let _late = world.begins("b", 2);
    world.state.ends("b", 2);
    assert_eq!(world.write(10), ["b"]);
    world.hears("b", 11);
    assert!(newer.is_cancelled());
    // One that ended while numbers were drawn for it and others.
    let _gone = world.begins("c", 4);
    let stays = world.begins("d", 5);
    let bare = world.state.without_number(world.now);
    world.state.ends("c", 4);
    world.state.drew(&bare, &[20, 21], world.now);
    assert_eq!(world.write(30), ["d"]);
    world.hears("d", 21);
    assert!(!stays.is_cancelled(), "its number is 21");
    world.state.ends("b", 3);
    world.state.ends("d", 5);
    assert!(world.state.present.is_empty() && world.state.waiting.is_empty());
}

#[test]
fn who_gets_no_number_in_time_replaces_nobody_and_is_replaced_by_nobody() {
    let mut world = World::new();
    let a = world.begins("a", 1);
    let bare = world.state.without_number(world.now);
    assert_eq!(bare, [1]);
    world.now += NUMBERED_WITHIN;
    world.state.drew(&bare, &[10], world.now);
    assert!(world.write(20).is_empty(), "the answer came too late");
    let b = world.begins("b", 2);
    world.now += NUMBERED_WITHIN;
    assert!(world.write(30).is_empty());
    world.hears("a", 99);
    world.hears("b", 99);
    assert!(!a.is_cancelled() && !b.is_cancelled() && world.state.numbered().is_empty());
    // One that has a number is written however long it takes.
    let _c = world.begins("c", 3);
    let bare = world.state.without_number(world.now);
    world.state.drew(&bare, &[40], world.now);
    world.now += 2 * NUMBERED_WITHIN;
    assert_eq!(world.write(50), ["c"]);
    assert_eq!(world.state.numbered(), [Arc::from("c")]);
}

#[test]
fn a_session_waits_for_its_number_and_not_for_a_database_that_does_not_answer() {
    let mut world = World::new();
    let mut comes = |session: u64| {
        let client = client(&format!("c{session}"), session);
        let (waits, drawn) = oneshot::channel();
        world.state.begins(
            &client,
            &world.sessions.add(session, "p", None, CancellationToken::new()),
            waits,
            world.now,
        );
        drawn
    };
    let ended =
        |drawn: &mut oneshot::Receiver<()>| drawn.try_recv() == Err(oneshot::error::TryRecvError::Closed);
    let mut drawn = [comes(1), comes(2), comes(3), comes(4)];
    world.state.drew(&[1], &[10], world.now);
    assert_eq!(drawn.each_mut().map(ended), [true, false, false, false]);
    world.state.drew(&[2], &[], world.now);
    world.state.wait_no_longer(&[3]);
    assert_eq!(drawn.each_mut().map(ended), [true, true, true, false]);
    assert_eq!(world.state.without_number(world.now), [4], "who has gone on without a number gets none");
    world.state.ends("c4", 4);
    assert!(ended(&mut drawn[3]));
}
