//! Whoever comes and goes, whatever they filter by and whatever commits: each is told what a loop over all subscriptions and both
//! images of each change says, in frames that follow one another. Index, scopes, routes and frames are the real ones.
//!
//! What may be seen at all is the business of `audit`, and who comes in the middle of a transaction that of `turns`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use waldelta_wal::{Position, ReplicaIdentity};

use super::*;

const NAMES: [&str; 2] = ["t", "u"];
const SEATS: usize = 4;

/// A row: its id, and a letter or NULL.
type Row = (i64, Option<char>);

/// Filters, each with what it means.
type Meaning = fn(Row) -> bool;
const FILTERS: [(&str, Meaning); 9] = [
    ("v = 'a'", |(_, v)| v == Some('a')),
    ("v = 'b'", |(_, v)| v == Some('b')),
    ("v IN ('a', 'c')", |(_, v)| v == Some('a') || v == Some('c')),
    ("id < 2", |(id, _)| id < 2),
    ("id = 1 AND v = 'c'", |(id, v)| id == 1 && v == Some('c')),
    ("NOT v = 'b'", |(_, v)| v.is_some_and(|v| v != 'b')),
    ("v > 'a' OR id = 3", |(id, v)| v.is_some_and(|v| v > 'a') || id == 3),
    ("v IS NULL", |(_, v)| v.is_none()),
    ("id IN (0, 3) AND NOT v IS NULL", |(id, v)| (id == 0 || id == 3) && v.is_some()),
];
const LETTERS: [Option<char>; 4] = [None, Some('a'), Some('b'), Some('c')];

/// What a subscription is of: a table, both, or everything; all rows or those of a filter.
#[derive(Clone, Debug)]
struct Follow {
    table: &'static str,
    filter: Option<usize>,
}

#[derive(Clone, Debug)]
enum Deed {
    Put {
        table: usize,
        id: i64,
        v: Option<char>,
    },
    Move {
        table: usize,
        id: i64,
        to: i64,
        v: Option<char>,
    },
    Delete {
        table: usize,
        id: i64,
    },
    Truncate {
        table: usize,
    },
    Message,
    Reset {
        table: usize,
    },
    /// Something that was left out.
    Skip {
        table: usize,
    },
}

#[derive(Clone, Debug)]
enum Act {
    Come {
        seat: usize,
        follows: Vec<Follow>,
        include_own: bool,
        knows_frontier: bool,
    },
    Go {
        seat: usize,
    },
    /// Each change with its author, by seat.
    Commit {
        deeds: Vec<(Deed, Option<usize>)>,
    },
    /// One of which no more is known than its tables and authors, or not even that.
    Large {
        tables: BTreeSet<usize>,
        author: Option<usize>,
        is_known: bool,
    },
    /// The router falls behind.
    Cut,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let (table, id, seat) = (|| 0usize..2, || 0i64..4, || 0..SEATS);
    let v = || prop::sample::select(LETTERS.to_vec());
    let follow = prop_oneof![
        6 => (prop::sample::select(vec!["t", "u"]), 0..FILTERS.len())
            .prop_map(|(table, filter)| Follow { table, filter: Some(filter) }),
        1 => prop::sample::select(vec!["t", "u", "public.*", "*", "other.*"])
            .prop_map(|table| Follow { table, filter: None }),
    ];
    let deed = prop_oneof![
        8 => (table(), id(), v()).prop_map(|(table, id, v)| Deed::Put { table, id, v }),
        3 => (table(), id(), id(), v()).prop_map(|(table, id, to, v)| Deed::Move { table, id, to, v }),
        3 => (table(), id()).prop_map(|(table, id)| Deed::Delete { table, id }),
        1 => table().prop_map(|table| Deed::Truncate { table }),
        1 => Just(Deed::Message),
        1 => prop_oneof![3 => table().prop_map(|table| Deed::Skip { table }), 1 => table().prop_map(|table| Deed::Reset { table })],
    ];
    let author = || prop::option::weighted(0.3, seat());
    let act = prop_oneof![
        4 => (seat(), prop::collection::vec(follow, 1..4), any::<bool>(), any::<bool>())
            .prop_map(|(seat, follows, include_own, knows_frontier)| Act::Come { seat, follows, include_own, knows_frontier }),
        1 => seat().prop_map(|seat| Act::Go { seat }),
        12 => prop::collection::vec((deed, author()), 0..4).prop_map(|deeds| Act::Commit { deeds }),
        1 => (prop::collection::btree_set(table(), 0..3), author(), any::<bool>())
            .prop_map(|(tables, author, is_known)| Act::Large { tables, author, is_known }),
        1 => Just(Act::Cut),
    ];
    prop::collection::vec(act, 1..60)
}

/// What is known of a row before or after a change: it is not there, it is this one, or only its id is known.
#[derive(Clone, Copy)]
enum Image {
    None,
    Whole(Row),
    Id(i64),
}

impl Follow {
    fn is_of(&self, table: &str) -> bool {
        self.table == table || self.table == "public.*" || self.table == "*"
    }

    /// Whether it passes for sure, and whether it may: of a row that is not known, all that it could be are tried.
    fn verdict(&self, image: Image) -> (bool, bool) {
        let passes = |row| self.filter.is_none_or(|filter| FILTERS[filter].1(row));
        match image {
            Image::None => (false, false),
            Image::Whole(row) => (passes(row), passes(row)),
            Image::Id(id) => {
                let each = LETTERS.map(|v| passes((id, v)));
                (each.iter().all(|passes| *passes), each.contains(&true))
            }
        }
    }
}

/// A change with what a model needs to know of it.
struct Made {
    change: Change,
    deed: Deed,
    before: Image,
    after: Image,
    author: Option<usize>,
}

/// What is told of a change: operation, id, letter and subscriptions.
type Told = Value;

/// What somebody who follows this is told of a change: of rows, of truncates and of messages alone.
fn told(follows: &[Follow], made: &Made) -> Vec<Told> {
    let ids = |possible: &dyn Fn(&Follow) -> bool| -> Vec<String> {
        let following = follows.iter().enumerate().filter(|(_, follow)| possible(follow));
        following.map(|(index, _)| index.to_string()).collect()
    };
    let tell = |op: &str, image: Image, sub: Vec<String>| match image {
        Image::None => json!([op, null, null, sub]),
        Image::Whole((id, v)) if op != "delete" => json!([op, id, v.map(String::from), sub]),
        Image::Whole((id, _)) | Image::Id(id) => json!([op, id, null, sub]),
    };
    let table = match made.deed {
        Deed::Message => {
            let sub = ids(&|follow| follow.table == "*");
            return if sub.is_empty() { Vec::new() } else { vec![tell("message", Image::None, sub)] };
        }
        Deed::Skip { .. } | Deed::Reset { .. } => return Vec::new(),
        Deed::Put { table, .. }
        | Deed::Move { table, .. }
        | Deed::Delete { table, .. }
        | Deed::Truncate { table } => NAMES[table],
    };
    if let Deed::Truncate { .. } = made.deed {
        let sub = ids(&|follow| follow.is_of(table));
        return if sub.is_empty() { Vec::new() } else { vec![tell("truncate", Image::None, sub)] };
    }
    let (before, after) = (made.before, made.after);
    let may_be = |image| ids(&move |follow: &Follow| follow.is_of(table) && follow.verdict(image).1);
    let (was, is) = (may_be(before), may_be(after));
    let id = |image| match image {
        Image::Whole((id, _)) | Image::Id(id) => Some(id),
        Image::None => None,
    };
    let stays = id(before) == id(after);
    match (was.is_empty(), is.is_empty()) {
        (true, true) => Vec::new(),
        (true, false) => vec![tell("insert", after, is)],
        (false, true) => vec![tell("delete", before, was)],
        (false, false) if stays => vec![tell("update", after, is)],
        (false, false) => vec![tell("delete", before, was), tell("insert", after, is)],
    }
}

/// A session.
struct Reader {
    follows: Vec<Follow>,
    attachment: Attachment,
    gets_own: bool,
    /// Up to here it has read.
    at: Position,
    /// The last transaction of which it was told changes, if any since it could know.
    told: Option<Position>,
}

struct World {
    registry: Arc<Registry>,
    tables: [Arc<Table>; 2],
    rows: [BTreeMap<i64, Option<char>>; 2],
    readers: [Option<Reader>; SEATS],
    lsn: u64,
    sessions: u64,
}

impl World {
    fn new(is_full: bool, scope_bytes_max: usize) -> Self {
        let identity = if is_full { ReplicaIdentity::Full } else { ReplicaIdentity::Default };
        // Not the first shape that history knows of it: that one would be read by everybody.
        let shape = |name, identity| Arc::new(Table { identity, version: 2, ..table(name) });
        World {
            registry: Arc::new(Registry::new(position(10), scope_bytes_max, 10_000)),
            tables: [shape("t", ReplicaIdentity::Full), shape("u", identity)],
            rows: Default::default(),
            readers: Default::default(),
            lsn: 10,
            sessions: 0,
        }
    }

    fn perform(&mut self, act: &Act) {
        match act {
            Act::Come { seat, follows, include_own, knows_frontier } => {
                self.come(*seat, follows, *include_own, *knows_frontier);
            }
            Act::Go { seat } => self.readers[*seat] = None,
            Act::Commit { deeds } => self.commit(deeds),
            Act::Large { tables, author, is_known } => self.large(tables, *author, *is_known),
            Act::Cut => {
                self.lsn += 10;
                self.registry.cut(position(self.lsn));
                let behind = |reader: &mut Reader| {
                    assert!(
                        reader.attachment.scope.read(reader.at, usize::MAX).is_err(),
                        "it has missed something"
                    );
                    (reader.at, reader.told) = (position(self.lsn), None);
                };
                self.readers.iter_mut().flatten().for_each(behind);
            }
        }
    }

    fn come(&mut self, seat: usize, follows: &[Follow], include_own: bool, knows_frontier: bool) {
        let subscription = |(index, follow): (usize, &Follow)| match follow.filter {
            Some(filter) => filtered(&index.to_string(), follow.table, FILTERS[filter].0),
            None => subscription(&index.to_string(), follow.table),
        };
        let selection = crate::testing::everything(follows.iter().enumerate().map(subscription).collect());
        self.sessions += 1;
        // What began before it came, it is told of whoever did it.
        let frontier = if knows_frontier { 0 } else { u64::MAX };
        let client = Client {
            key: format!("{seat}").into(),
            id: format!("c{seat}").into(),
            subject: None,
            session: self.sessions,
            include_own,
            frontier: Arc::new(AtomicU64::new(frontier)),
            wake: Arc::default(),
            replaced: CancellationToken::new(),
        };
        let attachment = self.registry.attach(&selection, &client).unwrap();
        assert_eq!(attachment.joined_at, position(self.lsn));
        let gets_own = include_own || !knows_frontier;
        // The one before it leaves after it has come.
        let reader =
            Reader { follows: follows.to_vec(), at: attachment.joined_at, attachment, gets_own, told: None };
        self.readers[seat] = Some(reader);
    }

    fn commit(&mut self, deeds: &[(Deed, Option<usize>)]) {
        let mut all: Vec<Made> = Vec::new();
        for (deed, author) in deeds {
            let made = self.make(u32::try_from(all.len()).unwrap(), deed, *author);
            all.extend(made);
        }
        self.lsn += 10;
        let changes = all.iter().map(|made| made.change.clone()).collect();
        route_whole(&self.registry, &Transaction { head: head(self.lsn, self.lsn), changes });
        self.registry.routed_to(position(self.lsn));
        for seat in 0..SEATS {
            let Some(reader) = &mut self.readers[seat] else { continue };
            let is_author = all.iter().any(|made| made.author == Some(seat));
            let resets = |made: &Made| matches!(made.deed, Deed::Reset { table } if reader.follows.iter().any(|follow| follow.is_of(NAMES[table])));
            if all.iter().any(resets) {
                reader.is_sent_away(position(self.lsn));
                continue;
            }
            let is_left_to_it = |made: &&Made| reader.gets_own || made.author != Some(seat);
            let all_told: Vec<Told> = all.iter().flat_map(|made| told(&reader.follows, made)).collect();
            let own: Vec<Told> =
                all.iter().filter(is_left_to_it).flat_map(|made| told(&reader.follows, made)).collect();
            let expected = if is_author { Some((own, true)) } else { Some((all_told.clone(), false)) };
            let expected = expected.filter(|_| is_author || !all_told.is_empty());
            reader.reads(seat, position(self.lsn), expected, !all_told.is_empty());
        }
    }

    /// Does it, and makes the change that tells of it.
    fn make(&mut self, seq: u32, deed: &Deed, author: Option<usize>) -> Option<Made> {
        let named = |seat: usize| Arc::new(Author { client_id: format!("c{seat}"), metadata: None });
        let (change, before, after) = match *deed {
            Deed::Message => (message(seq, "x"), Image::None, Image::None),
            Deed::Reset { table } => (reset_change(seq, NAMES[table]), Image::None, Image::None),
            Deed::Skip { table } => {
                (super::change(seq, Operation::Skip, &self.tables[table], 1), Image::None, Image::None)
            }
            Deed::Truncate { table } => {
                self.rows[table].clear();
                (super::change(seq, Operation::Truncate, &self.tables[table], 0), Image::None, Image::None)
            }
            Deed::Put { table, id, v } => self.replace(seq, table, id, Some((id, v)))?,
            Deed::Move { table, id, to, .. } if id == to || self.rows[table].contains_key(&to) => {
                return None;
            }
            Deed::Move { table, id, to, v } => {
                self.rows[table].get(&id)?;
                self.replace(seq, table, id, Some((to, v)))?
            }
            Deed::Delete { table, id } => self.replace(seq, table, id, None)?,
        };
        // A reset is nobody's.
        let author = author.filter(|_| !matches!(deed, Deed::Reset { .. }));
        let change = Change { author: author.map(named), ..change };
        Some(Made { change, deed: deed.clone(), before, after, author })
    }

    /// The row of this id becomes another; what was known of it before is what the source tells.
    fn replace(
        &mut self,
        seq: u32,
        table: usize,
        id: i64,
        after: Option<Row>,
    ) -> Option<(Change, Image, Image)> {
        let before = self.rows[table].remove(&id).map(|v| (id, v));
        let operation = match (before, after) {
            (None, None) => return None,
            (None, Some(_)) => Operation::Insert,
            (Some(_), Some(_)) => Operation::Update,
            (Some(_), None) => Operation::Delete,
        };
        self.rows[table].extend(after);
        let shape = &self.tables[table];
        let is_full = shape.identity == ReplicaIdentity::Full;
        let image = |(id, v): Row| Bytes::from(json!({"id": id, "v": v.map(String::from)}).to_string());
        let key_is_told = before.is_some_and(|before| after.is_none_or(|after| after.0 != before.0));
        let old_data = match before {
            Some(before) if is_full => Some(image(before)),
            Some(_) if key_is_told => Some(Bytes::from(json!({"id": id}).to_string())),
            _ => None,
        };
        let change = super::change(seq, operation, shape, after.map_or(id, |after| after.0));
        let before = match before {
            None => Image::None,
            Some(before) if is_full => Image::Whole(before),
            Some(_) => Image::Id(id),
        };
        let change = Change { data: after.map(image), old_data, ..change };
        Some((change, before, after.map_or(Image::None, Image::Whole)))
    }

    fn large(&mut self, tables: &BTreeSet<usize>, author: Option<usize>, is_known: bool) {
        self.lsn += 10;
        let named = |seat: usize| Arc::new(Author { client_id: format!("c{seat}"), metadata: None });
        let touched = Touched {
            tables: tables.iter().map(|table| self.tables[*table].name.clone()).collect(),
            authors: author.map(named).into_iter().collect(),
        };
        route(&self.registry, &super::large(self.lsn, is_known.then_some(touched)));
        self.registry.routed_to(position(self.lsn));
        for (seat, reader) in self.readers.iter_mut().enumerate() {
            let Some(reader) = reader else { continue };
            let follows = |follow: &Follow| {
                follow.table == "*" || tables.iter().any(|table| follow.is_of(NAMES[*table]))
            };
            if !is_known || reader.follows.iter().any(follows) {
                reader.is_sent_away(position(self.lsn));
            } else {
                let expected = (author == Some(seat)).then(|| (Vec::new(), true));
                reader.reads(seat, position(self.lsn), expected, false);
            }
        }
    }
}

impl Reader {
    /// What came since it last looked; nothing where its scope has forgotten it.
    fn next(&self) -> Option<Vec<Arc<Item>>> {
        self.attachment.scope.read(self.at, usize::MAX).ok()
    }

    /// It has to read the transaction by itself.
    fn is_sent_away(&mut self, at: Position) {
        if let Some(items) = self.next() {
            let contents: Vec<_> = items.iter().map(|item| (item.position, &item.content)).collect();
            assert_eq!(contents, [(at, &Content::Large)]);
        }
        (self.at, self.told) = (at, Some(at));
    }

    /// It finds a frame of these changes, its own or everybody's; or nothing.
    fn reads(&mut self, seat: usize, at: Position, expected: Option<(Vec<Told>, bool)>, is_told: bool) {
        let key = seat.to_string();
        let Some(items) = self.next() else {
            // So small is what it keeps: the session reads it elsewhere.
            (self.at, self.told) = (at, None);
            return;
        };
        let found = items.iter().find_map(|item| {
            let own = item.own.iter().find(|(of, _)| **of == *key).map(|(_, frame)| (frame, item));
            own.or(match &item.content {
                Content::Frame(frame) => Some((frame, item)),
                Content::AuthorsOnly => None,
                other => panic!("{other:?}"),
            })
        });
        assert!(items.len() <= 1 && items.iter().all(|item| item.position == at));
        let frame = found.map(|(frame, item)| {
            let frame: Value = serde_json::from_str(frame).unwrap();
            assert_eq!(
                (&frame["cursor"], &frame["prev"]),
                (&json!(at.to_string()), &json!(item.prev.to_string()))
            );
            assert!(item.prev <= self.at, "it would find a gap");
            assert!(self.told.is_none_or(|told| told == item.prev), "{:?} {}", self.told, item.prev);
            let tells = |change: &Value| {
                json!([change["op"], change["key"]["id"], change["data"]["v"], change["sub"]])
            };
            let changes = frame["changes"].as_array().unwrap().iter().map(tells).collect::<Vec<_>>();
            (changes, frame["own"] == json!(true))
        });
        assert_eq!(frame, expected, "{:?}", self.follows);
        self.at = at;
        if is_told {
            self.told = Some(at);
        }
    }
}

proptest! {
    #[test]
    fn each_is_told_what_a_loop_over_all_subscriptions_says(
        acts in acts(),
        is_full in any::<bool>(),
        scope_bytes_max in prop_oneof![Just(1usize << 20), Just(1000), Just(1)],
    ) {
        let mut world = World::new(is_full, scope_bytes_max);
        for act in &acts {
            world.perform(act);
        }
    }
}
