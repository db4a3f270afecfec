//! What one session is told of transactions, by example.

use serde_json::Value;
use waldelta_wal::{Author, Operation};

use super::*;
use crate::filter::FilterError;
use crate::subscription::{Part, Subscription};
use crate::testing::{
    change, filtered, head, message, position, reset_change, schema_change, subscription, table,
};

/// `op@id` of each change, `*` before it in a frame for an author, `…` behind a frame that is not the last of its transaction.
fn told(frames: &[Utf8Bytes]) -> Vec<String> {
    let describe = |frame: &Utf8Bytes| {
        let frame: Value = serde_json::from_str(frame).unwrap();
        if frame["type"] == "schema" {
            return format!("schema {} v{}", frame["table"].as_str().unwrap(), frame["version"]);
        }
        let changes = frame["changes"].as_array().unwrap();
        let changes: Vec<_> =
            changes.iter().map(|c| format!("{}@{}", c["op"].as_str().unwrap(), c["key"]["id"])).collect();
        let own = if frame["own"] == true { "*" } else { "" };
        let part = frame["part"].as_u64().map_or(String::new(), |part| format!("{part}:"));
        let more = if frame["last"] == true { "" } else { "…" };
        format!("{own}{part}{}{more}", changes.join(","))
    };
    frames.iter().map(describe).collect()
}

fn selection(tables: &[&str]) -> Selection {
    crate::testing::everything(tables.iter().map(|table| subscription(table, table)).collect())
}

fn by(author: &str, change: Change) -> Change {
    Change { author: Some(Arc::new(Author { client_id: author.into(), metadata: None })), ..change }
}

struct Told {
    delivery: Delivery,
    selection: Selection,
    gets_own: bool,
}

impl Told {
    fn new(tables: &[&str], gets_own: bool) -> Self {
        Self::with(selection(tables), gets_own)
    }

    fn with(selection: Selection, gets_own: bool) -> Self {
        let mut delivery = Delivery::default();
        for name in ["t", "u"] {
            delivery.shape_told(&table(name));
        }
        Told { delivery, selection, gets_own }
    }

    fn of(&mut self, lsn: u64, changes: &[Change], last: bool) -> Vec<String> {
        told(&self.frames(lsn, changes, last).unwrap().frames)
    }

    fn frames(&mut self, lsn: u64, changes: &[Change], last: bool) -> Result<Frames, Undeliverable> {
        let to = Recipient {
            client_id: "me",
            gets_own: self.gets_own,
            selection: &self.selection,
            prev: position(0),
        };
        self.delivery.frames(to, &head(lsn, lsn), changes, last)
    }
}

#[test]
fn an_author_is_told_of_each_of_its_transactions() {
    let (t, u) = (Arc::new(table("t")), Arc::new(table("u")));
    let mine = by("me", change(0, Operation::Insert, &t, 1));
    let trigger = change(1, Operation::Insert, &t, 2);
    let elsewhere = by("me", change(0, Operation::Insert, &u, 3));
    let nothing =
        Change { table: None, data: None, row_key: None, ..by("me", change(0, Operation::Message, &t, 4)) };
    let other = by("you", change(0, Operation::Insert, &t, 5));
    for (changes, echoed, dropped) in [
        (vec![mine.clone(), trigger], "*insert@1,insert@2", "*insert@2"),
        (vec![mine], "*insert@1", "*"),
        (vec![elsewhere], "*", "*"),
        (vec![nothing], "*", "*"),
        (vec![other], "insert@5", "insert@5"),
    ] {
        assert_eq!(Told::new(&["t"], true).of(10, &changes, true), [echoed]);
        assert_eq!(Told::new(&["t"], false).of(10, &changes, true), [dropped]);
    }
}

#[test]
fn what_concerns_nobody_here_makes_no_frame() {
    let changes = [change(0, Operation::Insert, &Arc::new(table("u")), 1)];
    assert!(Told::new(&["t"], true).of(10, &changes, true).is_empty());
}

#[test]
fn parts_end_with_one_that_says_so() {
    let (t, u) = (Arc::new(table("t")), Arc::new(table("u")));
    let mut to = Told::new(&["t"], false);
    assert_eq!(to.of(10, &[change(0, Operation::Insert, &t, 1)], false), ["0:insert@1…"]);
    assert!(to.of(10, &[by("me", change(1, Operation::Insert, &u, 2))], false).is_empty());
    assert!(to.delivery.is_inside());
    assert_eq!(
        to.of(10, &[change(2, Operation::Insert, &u, 3)], true),
        ["*1:"],
        "own, and the end of what was begun"
    );
    assert!(!to.delivery.is_inside());
    assert!(to.of(20, &[change(0, Operation::Insert, &u, 1)], false).is_empty());
    assert!(
        to.of(20, &[change(1, Operation::Insert, &u, 2)], true).is_empty(),
        "nothing of it concerned the client"
    );
    assert!(to.of(30, &[by("me", change(0, Operation::Insert, &u, 1))], false).is_empty());
    assert_eq!(
        to.of(30, &[change(1, Operation::Insert, &u, 2)], true),
        ["*"],
        "its author is told at the end"
    );
}

#[test]
fn a_transaction_begun_elsewhere_always_gets_its_end() {
    let (t, u) = (Arc::new(table("t")), Arc::new(table("u")));
    let mut to = Told::new(&["t"], false);
    to.delivery.goes_on();
    assert!(to.of(10, &[change(5, Operation::Insert, &u, 1)], false).is_empty());
    assert_eq!(to.of(10, &[change(6, Operation::Insert, &u, 2)], true), ["0:"], "nothing of it, but its end");
    assert!(to.of(20, &[change(0, Operation::Insert, &u, 3)], true).is_empty(), "only of that one");
    to.delivery.goes_on();
    assert_eq!(to.of(10, &[change(5, Operation::Insert, &t, 1)], true), ["0:insert@1"]);
}

#[test]
fn a_large_transaction_is_cut() {
    let t = Arc::new(table("t"));
    let large = |seq| {
        let text = "x".repeat(PART_BYTES_MAX);
        Change {
            data: Some(format!(r#"{{"id":{seq},"v":"{text}"}}"#).into()),
            ..change(seq, Operation::Insert, &t, seq.into())
        }
    };
    let all = [large(0), large(1), large(2)];
    assert_eq!(Told::new(&["t"], false).of(10, &all, true), ["0:insert@0…", "1:insert@1…", "2:insert@2"]);
}

#[test]
fn a_shape_is_told_before_its_first_row_and_between_two_versions() {
    let one = Arc::new(Table { version: 2, ..table("t") });
    let two = Arc::new(Table { version: 3, ..table("t") });
    let mut to = Told::new(&["t"], false);
    assert_eq!(
        to.of(10, &[change(0, Operation::Insert, &one, 1), change(1, Operation::Insert, &two, 2)], true),
        ["schema public.t v2", "0:insert@1…", "schema public.t v3", "1:insert@2"]
    );
    assert_eq!(to.of(20, &[change(0, Operation::Insert, &two, 3)], true), ["insert@3"]);
}

#[test]
fn a_change_of_shape_is_told_where_it_is_and_once() {
    let shape = |version| Arc::new(Table { version, ..table("t") });
    let (one, two, three, u) = (shape(1), shape(2), shape(3), Arc::new(table("u")));
    let row = |seq, table: &Arc<Table>| change(seq, Operation::Insert, table, seq.into());
    for (changes, frames) in [
        // Before the first row that has it, with nothing else, and behind the last row of the shape before.
        (vec![schema_change(0, &two), row(1, &two)], vec!["schema public.t v2", "insert@1"]),
        (vec![schema_change(0, &two)], vec!["schema public.t v2"]),
        (vec![row(0, &one), schema_change(1, &two)], vec!["0:insert@0…", "schema public.t v2", "1:"]),
        (
            vec![schema_change(0, &two), schema_change(1, &three), row(2, &three)],
            vec!["schema public.t v2", "schema public.t v3", "insert@2"],
        ),
        (
            vec![row(0, &u), schema_change(1, &two), row(2, &u), row(3, &two), schema_change(4, &three)],
            vec!["schema public.t v2", "0:insert@0,insert@2,insert@3…", "schema public.t v3", "1:"],
        ),
        // Of another table, and one that is known.
        (vec![schema_change(0, &u)], vec![]),
        (vec![schema_change(0, &one), row(1, &one)], vec!["insert@1"]),
    ] {
        let followed =
            if frames.iter().any(|frame| frame.contains("insert@0,")) { &["t", "u"][..] } else { &["t"] };
        assert_eq!(Told::new(followed, false).of(10, &changes, true), frames);
    }
}

#[test]
fn a_change_of_shape_is_told_to_who_changes_rows_too() {
    let two = Arc::new(Table { version: 2, ..table("t") });
    let mine = [by("me", schema_change(0, &two)), by("me", change(1, Operation::Insert, &two, 1))];
    let mut to = Told::new(&["t"], false);
    assert_eq!(to.of(10, &mine, true), ["schema public.t v2", "*"]);
    assert_eq!(Told::new(&["t"], false).of(10, &mine[..1], true), ["schema public.t v2", "*"]);
    // In pages.
    let mut to = Told::new(&["t"], false);
    assert_eq!(to.of(10, &mine[..1], false), ["schema public.t v2"]);
    assert_eq!(to.of(10, &mine[1..], true), ["*"]);
    let mut to = Told::new(&["t"], true);
    assert_eq!(to.of(10, &[change(0, Operation::Insert, &Arc::new(table("t")), 1)], false), ["0:insert@1…"]);
    assert_eq!(to.of(10, &[schema_change(1, &two)], true), ["schema public.t v2", "1:"]);
}

#[test]
fn messages_reach_who_follows_everything_whatever_a_snapshot_shows() {
    let mut everything = Told::new(&["*"], false);
    let alone = |to: &mut Told| {
        let to_whom =
            Recipient { client_id: "me", gets_own: to.gets_own, selection: &to.selection, prev: position(0) };
        told(&to.delivery.frames(to_whom, &head(110, 0), &[message(0, "hello")], true).unwrap().frames)
    };
    everything.delivery.overlaps.push(Overlap {
        tables: Tables { selection: selection(&["*"]), part: Part::All },
        without: Vec::new(),
        from: position(100),
        until: position(200),
        shows: Arc::new(|xid| xid < 500),
    });
    let row = change(1, Operation::Insert, &Arc::new(table("t")), 1);
    assert_eq!(everything.of(120, &[message(0, "hello"), row], true), ["message@null"], "the row is in it");
    assert_eq!(alone(&mut everything), ["message@null"]);
    let name = table("t").name;
    assert!(!everything.delivery.holds(&name, &head(110, 0)), "no snapshot shows what has no id");
    assert!(alone(&mut Told::new(&["public.*", "t"], false)).is_empty());
}

#[test]
fn a_snapshots_overlap_drops_exactly_what_it_shows() {
    let (t, u) = (Arc::new(table("t")), Arc::new(table("u")));
    let mut to = Told::new(&["t", "u"], false);
    to.delivery.overlaps.push(Overlap {
        tables: Tables { selection: selection(&["t", "u"]), part: Part::Except(selection(&["u"])) },
        without: Vec::new(),
        from: position(100),
        until: position(200),
        shows: Arc::new(|xid| xid == 120),
    });
    let both = |id| [change(0, Operation::Insert, &t, id), change(1, Operation::Insert, &u, id)];
    assert_eq!(
        to.of(90, &both(90), true),
        ["insert@90"],
        "up to the snapshot's position: the other table only"
    );
    assert_eq!(to.of(100, &both(100), true), ["insert@100"]);
    assert_eq!(to.of(110, &both(110), true), ["insert@110,insert@110"], "later and not shown");
    assert_eq!(to.of(120, &both(120), true), ["insert@120"], "later, but shown");
    let two = Arc::new(Table { version: 2, ..table("t") });
    assert!(to.of(120, &[schema_change(0, &two)], true).is_empty(), "the snapshot came with the shape");
    assert_eq!(
        to.of(130, &both(130).map(|change| by("me", change)), true),
        ["*insert@130"],
        "own changes of the new table are delivered: the snapshot replaced what the client had"
    );
    assert_eq!(
        to.of(120, &[by("me", change(0, Operation::Insert, &t, 120))], true),
        ["*"],
        "shown and own: still confirmed"
    );
    to.delivery.settle(position(199));
    assert!(!to.delivery.overlaps.is_empty());
    to.delivery.settle(position(200));
    assert!(to.delivery.overlaps.is_empty());
}

/// A snapshot that is shared may have been taken before the one that the client had.
#[test]
fn the_newest_snapshot_of_a_table_alone_says_what_its_rows_hold() {
    let t = Arc::new(table("t"));
    let mut to = Told::new(&["t"], false);
    let overlap = |until, shown| Overlap {
        tables: Tables { selection: selection(&["t"]), part: Part::All },
        without: Vec::new(),
        from: position(100),
        until: position(until),
        shows: Arc::new(move |xid| xid <= shown),
    };
    to.delivery.overlaps.extend([overlap(300, 270), overlap(200, 110)]);
    let row = |id| [change(0, Operation::Insert, &t, id)];
    assert!(to.of(110, &row(110), true).is_empty(), "both show it");
    assert_eq!(to.of(120, &row(120), true), ["insert@120"], "the first shows it, but its rows were replaced");
    to.delivery.settle(position(250));
    assert_eq!(to.of(260, &row(260), true), ["insert@260"], "also when the newer one plays no role any more");
    to.delivery.settle(position(300));
    assert!(to.delivery.overlaps.is_empty());
}

#[test]
fn a_snapshot_holds_nothing_of_a_table_that_it_left_out() {
    let (t, u) = (Arc::new(table("t")), Arc::new(table("u")));
    let mut to = Told::new(&["*"], false);
    to.delivery.overlaps.push(Overlap {
        tables: Tables { selection: selection(&["*"]), part: Part::All },
        without: vec![u.name.clone()],
        from: position(100),
        until: position(200),
        shows: Arc::new(|_| true),
    });
    let both = [change(0, Operation::Insert, &t, 1), change(1, Operation::Insert, &u, 2)];
    assert_eq!(to.of(110, &both, true), ["insert@2"]);
    assert!(to.of(100, &both, true).is_empty(), "its reset comes after that");
    for (lsn, of_t, of_u) in [(100, true, true), (110, true, false)] {
        let head = head(lsn, lsn);
        let holds = [&t, &u].map(|table| to.delivery.holds(&table.name, &head));
        assert_eq!(holds, [of_t, of_u], "{lsn}");
    }
}

#[test]
fn resets_and_what_was_left_out_are_no_changes_of_a_frame() {
    let t = Arc::new(table("t"));
    let skipped = change(1, Operation::Skip, &t, 1);
    let changes = [reset_change(0, "t"), skipped, change(2, Operation::Insert, &t, 2)];
    let mut to = Told::new(&["*"], false);
    assert_eq!(to.of(10, &changes, true), ["insert@2"]);
    assert!(to.of(20, &changes[..2], true).is_empty());
}

/// Rows of `t` with their id in `v`, of which a client has those up to 9.
fn row(seq: u32, id: i64) -> Change {
    let data = Some(format!(r#"{{"id":{id},"v":"{id}"}}"#).into());
    Change { data, ..change(seq, Operation::Insert, &Arc::new(table("t")), id) }
}

fn only(filter: &str) -> Told {
    Told::with(crate::testing::everything(vec![filtered("s1", "t", filter)]), false)
}

#[test]
fn rows_that_a_filter_leaves_out_make_no_frame_but_for_their_author() {
    let mut to = only("id < 10");
    assert_eq!(to.of(10, &[row(0, 1), row(1, 11), row(2, 2)], true), ["insert@1,insert@2"]);
    assert!(to.of(20, &[row(0, 11), row(1, 12)], true).is_empty());
    assert_eq!(to.of(30, &[by("me", row(0, 11)), row(1, 12)], true), ["*"]);
    assert!(to.of(40, &[row(0, 11)], false).is_empty());
    assert_eq!(to.of(40, &[row(1, 1), row(2, 12)], false), ["0:insert@1…"]);
    assert_eq!(to.of(40, &[row(3, 13)], true), ["1:"], "what was begun ends");
    let told = to.frames(50, &[row(0, 1), row(1, 11)], true).unwrap();
    assert_eq!((told.changes, told.cursor.is_some()), (1, true));
}

#[test]
fn the_bytes_of_rows_that_are_left_out_cut_no_frame() {
    let large = |seq, id: i64| {
        let text = "x".repeat(PART_BYTES_MAX);
        Change { data: Some(format!(r#"{{"id":{id},"v":"{text}"}}"#).into()), ..row(seq, id) }
    };
    let all = [row(0, 1), large(1, 11), large(2, 12), row(3, 2)];
    assert_eq!(only("id < 10").of(10, &all, true), ["insert@1,insert@2"]);
}

#[test]
fn a_shape_is_told_with_the_columns_that_were_asked_for() {
    let columns = Some(["id".to_owned()].into());
    let selection = crate::testing::everything(vec![Subscription { columns, ..subscription("s1", "t") }]);
    let mut to = Told::with(selection, false);
    let two = Arc::new(Table { version: 2, ..table("t") });
    let told = to.frames(10, &[schema_change(0, &two), change(1, Operation::Insert, &two, 1)], true).unwrap();
    let frames: Vec<Value> = told.frames.iter().map(|frame| serde_json::from_str(frame).unwrap()).collect();
    assert_eq!(frames[0]["columns"].as_array().unwrap().len(), 1, "{}", frames[0]);
    assert_eq!(frames[1]["changes"][0]["data"], serde_json::json!({"id": 1}));
}

#[test]
fn nothing_is_told_of_a_table_that_a_subscription_does_not_fit() {
    let mut narrow = table("t");
    narrow.columns.truncate(1);
    let (narrow, u) = (Arc::new(narrow), Arc::new(table("u")));
    let mut to = only("v = 'x'");
    assert!(
        to.of(10, &[change(0, Operation::Insert, &u, 1)], true).is_empty(),
        "another table is none of it"
    );
    for operation in [Operation::Insert, Operation::Truncate, Operation::Schema] {
        let changes = [row(0, 1), change(1, operation, &narrow, 1)];
        let Err(Undeliverable::Misfit(misfit)) = to.frames(20, &changes, true) else { panic!("it was told") };
        assert_eq!((&*misfit.subscription, &misfit.table), ("s1", &narrow.name));
        assert_eq!(*misfit.error, FilterError::NoColumn { column: "v".into() });
    }
    // What a snapshot holds is not told, whatever shape it had.
    to.delivery.overlaps.push(Overlap {
        tables: Tables { selection: to.selection.clone(), part: Part::All },
        without: Vec::new(),
        from: position(100),
        until: position(200),
        shows: Arc::new(|_| false),
    });
    assert!(to.of(90, &[change(0, Operation::Insert, &narrow, 1)], true).is_empty());
    assert!(to.frames(110, &[change(0, Operation::Insert, &narrow, 1)], true).is_err());
}

#[test]
fn looks_of_many_or_large_subscriptions_are_not_kept() {
    let values: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let filter = format!("id IN ({})", values.join(","));
    let mut heavy = Told::with(crate::testing::everything(vec![filtered("s", "t", &filter)]), true);
    let row = |table: Table| [change(0, Operation::Insert, &Arc::new(table), 1)];
    assert_eq!(heavy.of(10, &row(table("t")), true), ["insert@1"]);
    assert_eq!(heavy.delivery.routes.len(), 1, "as much as its share counts is kept");
    assert_eq!(heavy.of(11, &row(table("t")), true), ["insert@1"]);
    assert_eq!((heavy.delivery.routes.len(), heavy.delivery.routes_bytes), (0, 0));

    let mut light = Told::new(&["*"], true);
    for n in 0..3 * ROUTES_MAX as u64 {
        // Whoever reads history makes shapes anew.
        light.of(20 + n, &row(table("t")), true);
        assert!(light.delivery.routes.len() <= ROUTES_MAX);
    }
    assert!(light.delivery.routes_bytes > 0);
    assert_eq!(light.delivery.untold(&[]).count(), 0);
    assert_eq!((light.delivery.routes.len(), light.delivery.routes_bytes), (0, 0), "it shares frames");
}
