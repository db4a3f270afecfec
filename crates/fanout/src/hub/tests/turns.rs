//! Routing that lets others have their turn in the middle of a transaction: how often, and what sessions see that come and go
//! meanwhile.

use std::pin::pin;
use std::task::{Context, Waker};

use super::*;

/// What is pending that lets others have their turn, each time; at last what it comes to.
fn turn_by_turn<T>(future: impl Future<Output = T>, mut between: impl FnMut(usize)) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for turn in 0.. {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => between(turn),
        }
    }
    unreachable!()
}

/// An update without its old row, which may have been in anybody's copy.
fn blind_update(table: &Arc<Table>, seq: u32, id: i64) -> Change {
    let image = Some(format!(r#"{{"id":{id},"v":"none of theirs"}}"#).into());
    Change { data: image, ..change(seq, Operation::Update, table, id) }
}

#[test]
fn others_have_their_turn_after_a_bounded_number_of_evaluations() {
    const FILTERS: usize = 2_000;
    const ROWS: u32 = 20;
    let registry = registry();
    let attached: Vec<_> =
        (0..FILTERS).map(|n| attach_filtered(&registry, &format!("c{n}"), &format!("v = '{n}'"))).collect();
    let t = Arc::new(table("t"));
    // Who has just come is taken in turn by turn too.
    let first = Transaction { head: head(20, 5), changes: vec![change(0, Operation::Insert, &t, 1)] };
    let mut turns = 0;
    turn_by_turn(router(&registry, Pace::new()).route_whole(&first), |turn| turns = turn + 1);
    registry.routed_to(position(20));
    assert!(turns > 10, "{turns} turns while {FILTERS} scopes were taken in");

    let changes = (0..ROWS).map(|seq| blind_update(&t, seq, seq.into())).collect();
    let transaction = Transaction { head: head(30, 6), changes };
    let mut turns = 0;
    let mut router = router(&registry, Pace::new());
    let work = turn_by_turn(router.route_whole(&transaction), |turn| turns = turn + 1);
    assert_eq!(work.evaluations, FILTERS as u64 * u64::from(ROWS));
    // Nothing between two turns is more than a thousand evaluations, of which each counts as 256 bytes of 256 KiB.
    let least = usize::try_from(work.evaluations).unwrap() / 1_024;
    assert!(turns >= least, "{turns} turns for {} evaluations", work.evaluations);
    assert!(turns <= 20 * least, "{turns} turns are more than anybody needs");
    for one in [&attached[0], &attached[FILTERS - 1]] {
        let deletes = told(&items(one, 20)[0]);
        assert_eq!(deletes.len(), ROWS as usize);
        assert!(deletes.iter().all(|(op, _)| op == "delete"));
    }
}

#[test]
fn others_have_their_turn_between_frames() {
    let registry = registry();
    let attached: Vec<_> = (0..50)
        .map(|n| attach_as(&registry, &format!("c{n}"), subscription(&format!("s{n}"), "t")))
        .collect();
    let t = Arc::new(table("t"));
    let image = Some(format!(r#"{{"id":1,"v":"{}"}}"#, "x".repeat(200 << 10)).into());
    let changes = vec![Change { data: image, ..change(0, Operation::Insert, &t, 1) }];
    let mut turns = 0;
    let mut router = router(&registry, Pace::new());
    let transaction = Transaction { head: head(20, 5), changes };
    turn_by_turn(router.route_whole(&transaction), |turn| turns = turn + 1);
    assert!(turns >= 50 / 2, "{turns} turns for 50 frames of 200 KiB");
    assert!(attached.iter().all(|one| items(one, 10).len() == 1));
}

/// What a session does that reads its scope's tail and everything else elsewhere, where all that is durable is.
struct Reader {
    attachment: Attachment,
    /// Its rows are those with this rest.
    rest: u64,
    at: u64,
    seen: Vec<u64>,
}

impl Reader {
    fn come(registry: &Arc<Registry>, number: u64) -> Self {
        let rest = number % 4;
        let attachment = attach_filtered(registry, &format!("r{number}"), &format!("id = {rest}"));
        Reader { attachment, rest, at: 10, seen: Vec::new() }
    }

    /// Reads what there is: what is durable up to `head`.
    fn read(&mut self, registry: &Registry, head: u64) {
        let joined_at = self.attachment.joined_at.commit_lsn.0;
        let lsns = if self.at < joined_at {
            let elsewhere = (self.at + 1..=joined_at.min(head)).filter(|lsn| lsn % 4 == self.rest);
            let lsns = elsewhere.collect();
            self.at = joined_at.min(head).max(self.at);
            lsns
        } else {
            let routed = registry.routed().commit_lsn.0;
            let lsns: Vec<u64> =
                items(&self.attachment, self.at).iter().map(|item| item.position.commit_lsn.0).collect();
            self.at = lsns.last().copied().unwrap_or(self.at).max(routed);
            lsns
        };
        self.seen.extend(lsns);
    }
}

/// Sessions come, read and go at each turn of the routing: each is told each row once, in order.
#[test]
fn who_comes_in_the_middle_of_a_transaction_misses_nothing_and_gets_nothing_twice() {
    const LAST: u64 = 60;
    let registry = registry();
    let t = Arc::new(table("t"));
    let mut readers: Vec<Reader> = (0..3).map(|number| Reader::come(&registry, number)).collect();
    let (mut come, mut in_the_middle) = (3, 0);
    for lsn in 11..=LAST {
        let id = i64::try_from(lsn % 4).unwrap();
        // Others are in it, so that there is more than one scope to frame it for.
        let changes = vec![
            change(0, Operation::Insert, &t, id),
            change(1, Operation::Insert, &t, 100),
            change(2, Operation::Insert, &t, 101),
        ];
        let transaction = Transaction { head: head(lsn, lsn), changes };
        // Each piece of work is followed by a turn.
        let mut router = router(&registry, Pace::of(1));
        turn_by_turn(router.route_whole(&transaction), |turn| {
            in_the_middle += 1;
            match (turn as u64 + lsn) % 5 {
                0 => {
                    readers.push(Reader::come(&registry, come));
                    come += 1;
                }
                1 if readers.len() > 6 => {
                    let mut gone = readers.remove((lsn % 6) as usize);
                    gone.read(&registry, lsn);
                    gone.check();
                }
                _ => readers.iter_mut().for_each(|reader| reader.read(&registry, lsn)),
            }
        });
        registry.routed_to(position(lsn));
    }
    assert!(in_the_middle > 200, "{in_the_middle} turns");
    for mut reader in readers {
        // First elsewhere, then the tail.
        (0..2).for_each(|_| reader.read(&registry, LAST));
        assert_eq!(reader.at, LAST);
        reader.check();
    }
}

impl Reader {
    fn check(&self) {
        let expected = (11..=self.at).filter(|lsn| lsn % 4 == self.rest);
        assert!(self.seen.iter().copied().eq(expected), "{:?} of {} up to {}", self.seen, self.rest, self.at);
    }
}

#[test]
fn a_scope_that_goes_in_the_middle_takes_nobody_along() {
    let registry = registry();
    let stays = attach(&registry, "stays", "t");
    let mut goes = Some(attach(&registry, "goes", "public.*"));
    let t = Arc::new(table("t"));
    let changes: Vec<_> = (0..20u32).map(|seq| change(seq, Operation::Insert, &t, seq.into())).collect();
    let mut router = router(&registry, Pace::of(1));
    let mut again = None;
    let transaction = Transaction { head: head(20, 5), changes };
    turn_by_turn(router.route_whole(&transaction), |turn| match turn {
        5 => drop(goes.take()),
        8 => again = Some(attach(&registry, "again", "public.*")),
        _ => {}
    });
    registry.routed_to(position(20));
    assert_eq!(items(&stays, 10).len(), 1);
    let again = again.unwrap();
    assert_eq!(
        (again.joined_at, items(&again, 20).len()),
        (position(20), 0),
        "it reads the transaction elsewhere"
    );
    let next = Transaction { head: head(30, 6), changes: vec![change(0, Operation::Insert, &t, 1)] };
    turn_by_turn(router.route_whole(&next), |_| {});
    assert_eq!((items(&again, 20).len(), items(&stays, 20).len()), (1, 1));
}

#[test]
fn routing_that_is_given_up_goes_on_with_the_next_transaction() {
    let registry = registry();
    let attached: Vec<_> =
        (0..10).map(|n| attach_filtered(&registry, &format!("c{n}"), &format!("id > {n}"))).collect();
    let t = Arc::new(table("t"));
    let insert =
        |lsn| Transaction { head: head(lsn, lsn), changes: vec![change(0, Operation::Insert, &t, 100)] };
    let mut lsn = 20;
    // After one turn, after two, and so on: while scopes are taken in, filters bound and evaluated, and frames made.
    for turns in 1.. {
        let transaction = insert(lsn);
        let is_whole = {
            let mut router = router(&registry, Pace::of(1));
            let mut routing = pin!(router.route_whole(&transaction));
            let mut context = Context::from_waker(Waker::noop());
            (0..turns).any(|_| routing.as_mut().poll(&mut context).is_ready())
        };
        if is_whole {
            break;
        }
        registry.begin();
        assert_eq!(registry.routed(), position(lsn));
        for one in &attached {
            assert!(one.scope.read(position(lsn - 1), 1).is_err(), "its sessions read it elsewhere");
        }
        let next = insert(lsn + 1);
        route_whole(&registry, &next);
        registry.routed_to(position(lsn + 1));
        assert!(attached.iter().all(|one| items(one, lsn).len() == 1));
        lsn += 10;
    }
    assert!(lsn > 200, "up to {lsn}");
}
